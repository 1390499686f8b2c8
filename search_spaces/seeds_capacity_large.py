"""Does a bigger model keep the structure? The large half: 4 blocks of width 256 with 8 heads.

Run it and seeds_capacity_small.py with `--name seeds_capacity`: one sweep, one table, one map.
Published, one run: 51.75 % test and 56.4 % train accuracy, no stable structure.
4 trials of 1,000,000 steps, 4,000,000 trial-steps: about 148 hours on 2 cores; a GPU's work.
Smaller: --set seed=0,1 --set steps=2000 (2 trials, 4,000 trial-steps, 9 minutes; too short to grok).
"""

from phasemap import Space

space = Space(
    width=[256],
    depth=[4],
    heads=[8],
    seed=range(4),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    learning_rate=1e-3,
    weight_decay=2.0,
    batch_size=512,
    steps=1_000_000,
    evaluate_every=1_000,
    probe_every=10_000,
)
