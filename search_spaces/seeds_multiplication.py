"""The published multiplication run: transformer 2 x 128, p = 97, weight decay 1.0. Groks at 7,000-13,000 there.

Feeds the learning curves, the dimension collapse (PCA dimension 89 to 11) and the stride spectrum.
4 trials of 15,000 steps, 60,000 trial-steps: about 15 minutes on 2 cores.
Smaller: --set seed=0,1 --set steps=12000 (2 trials, 24,000 trial-steps, 6 minutes).
"""

from phasemap import Space

space = Space(
    seed=range(4),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    weight_decay=1.0,
    batch_size=512,
    steps=15_000,
    evaluate_every=1_000,
    probes="dimension+twonn+activation+stride+spectrum+purity+attention+layers",
)
