"""How often does it end well? Final accuracy of addition and multiplication over 32 seeds each.

Feeds the success rate with its Wilson interval and the time-to-grok curves. The published "67 %" rests
on three seeds a task. Also counts oscillations (published: 12-20 in 150,000 steps).
64 trials of 150,000 steps, 9,600,000 trial-steps: about 38 hours on 2 cores; a GPU's work.
Smaller: --set seed=0..3 --set steps=15000 (8 trials, 120,000 trial-steps, 29 minutes).
"""

from phasemap import Space

space = Space(
    task=["modular_addition", "modular_multiplication"],
    seed=range(32),
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    weight_decay=1.0,
    batch_size=512,
    steps=150_000,
    evaluate_every=1_000,
)
