"""Which generators can a small transformer predict? Six sequences, 16 tokens shown, weight decay 1.0.

Feeds the learnability ladder: accuracy beside its ceiling and the overlap of test with train. Published,
one run each: 100 % for periodic, lfsr_5 and lcg_simple (every test window stands in train), 50 % for
lfsr_31, 0.4 % for lcg_glibc, 0.3 % for csprng. `--set split=distinct` parts distinct windows instead.
36 trials of 100,000 steps, 3,600,000 trial-steps: about 125 hours on 2 cores; a GPU's work.
Smaller: --set seed=0 --set steps=1000 (6 trials, 6,000 trial-steps, 13 minutes).
"""

from phasemap import Space

space = Space(
    task=["periodic", "lfsr_5", "lcg_simple", "lcg_glibc", "lfsr_31", "csprng"],
    seed=range(6),
    context=16,
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
