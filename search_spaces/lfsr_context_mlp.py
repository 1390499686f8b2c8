"""The jump at 24 tokens with a small network: lfsr_31 read by an MLP, contexts on both sides, six seeds each.

A window of 16 or 23 tokens leaves one bit of the next token open (ceiling 50 %), 24 and more leave none. The
mechanism at a smaller scale; the published network is a transformer (lfsr_context.py). 24 tokens are read
to a test accuracy of 1.000 by step 4,500 (seed 0), so that 10,000 steps leave the shorter contexts twice that time; a
trial that has settled ends.
24 trials of at most 10,000 steps, 240,000 trial-steps: about 40 minutes on 2 cores.
Smaller: --set context=16,24 --set seed=0 --set steps=2000 (2 trials, 4,000 trial-steps, half a minute).
"""

from phasemap import Space

space = Space(
    context=[16, 23, 24, 32],
    seed=range(6),
    task="lfsr_31",
    data_fraction=0.3,
    model="mlp",
    width=128,
    embedding="concatenate",
    learning_rate=1e-3,
    weight_decay=1.0,
    steps=10_000,
    evaluate_every=500,
    probes="dimension",
    stop_when_settled=True,
)
