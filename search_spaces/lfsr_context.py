"""How many tokens must be shown? lfsr_31 on both sides of its ceiling's jump.

A window of 16 to 23 tokens leaves one bit of the next token open (ceiling 50 %), 24 and more leave none
(100 %). Feeds the learnability ladder and success against context.
36 trials of 100,000 steps, 3,600,000 trial-steps: about 186 hours on 2 cores; a GPU's work.
Smaller: --set context=16,24 --set seed=0 --set steps=1000 (2 trials, 2,000 trial-steps, 5 minutes).
"""

from phasemap import Space

space = Space(
    context=[16, 20, 23, 24, 28, 32],
    seed=range(6),
    task="lfsr_31",
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    weight_decay=1.0,
    batch_size=512,
    steps=100_000,
    evaluate_every=1_000,
)
