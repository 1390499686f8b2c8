"""Does a bigger model keep the structure? The small half: 2 blocks of width 128 with 4 heads.

Run it and seeds_capacity_large.py with `--name seeds_capacity`: one sweep, one table, one map. A space is
a grid, and the two shapes are two corners of it; axes of one value name what differs between the files.
Feeds reverse scaling (success and final accuracy against parameters) and the takeover timeline.
4 trials of 1,000,000 steps, 4,000,000 trial-steps: about 16 hours on 2 cores.
Smaller: --set seed=0,1 --set steps=30000 (2 trials, 60,000 trial-steps, 15 minutes).
"""

from phasemap import Space

space = Space(
    width=[128],
    depth=[2],
    heads=[4],
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
