"""Does an inner stride take over from an outer one? Multiplication mod 97, four weight decays, eight seeds each.

Feeds the takeover timeline. Published, one run per weight decay: outer stride at 1.0 by 20,000 steps and
gone by 140,000 (weight decay 2.0) or 350,000 (1.5), then inner stride 4; no story at 1.0 and 5.0.
32 trials of 1,000,000 steps, 32,000,000 trial-steps: about 127 hours on 2 cores; a GPU's work.
Smaller: --set weight_decay=2.0 --set seed=0,1 --set steps=50000 (2 trials, 100,000 trial-steps, 24 minutes).
"""

from phasemap import Space

space = Space(
    weight_decay=[1.0, 1.5, 2.0, 5.0],
    seed=range(8),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    batch_size=512,
    steps=1_000_000,
    evaluate_every=1_000,
    probe_every=10_000,
    probes="dimension+twonn+activation+stride+spectrum+purity+attention+layers",
)
