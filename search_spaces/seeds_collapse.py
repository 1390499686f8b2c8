"""Is found structure crushed in the long run? Weight decay 2.0 for 5,000,000 steps, and 1.0 beside it.

Feeds the takeover timeline and the phase called collapse. Published, one run: 73.4 % at the end after
3.4 % at 3.56 million steps.
8 trials of 5,000,000 steps, 40,000,000 trial-steps: about 159 hours on 2 cores; a GPU's work.
Smaller: --set weight_decay=2.0 --set seed=0,1 --set steps=50000 (2 trials, 100,000 trial-steps, 24 minutes).
"""

from phasemap import Space

space = Space(
    weight_decay=[1.0, 2.0],
    seed=range(4),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    batch_size=512,
    steps=5_000_000,
    evaluate_every=5_000,
    probe_every=10_000,
    probes="dimension+twonn+activation+stride+spectrum+purity+attention+layers",
)
