"""Can the large network generalize at all? The published 4 x 256 with 8 heads, each trial until it reaches 0.9.

The published settings but for the length: the published run is judged by its last evaluation (0.5175 at 1,000,000
steps). A trial ends at its first evaluation at or above 0.9, which a longer budget cannot undo.
8 trials of at most 5,000 steps, at most 40,000 trial-steps: about 115 minutes on 2 cores.
Smaller: --set seed=0 (1 trial, at most 5,000 trial-steps).
"""

from phasemap import Space

space = Space(
    width=[256],
    seed=range(8),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    depth=4,
    heads=8,
    learning_rate=1e-3,
    weight_decay=2.0,
    batch_size=512,
    steps=5_000,
    evaluate_every=500,
    probes="dimension+stride",
    stop_when_settled=True,
    settle_evaluations=1,
)
