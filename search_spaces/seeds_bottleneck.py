"""How narrow can the representation be? Hidden -> Linear(r) -> ReLU -> Linear(width) -> readout; 0 is none.

Feeds the bottleneck floor. Published, one run each: no grokking at r <= 8; at 16 addition groks at
17,500 and multiplication at 39,000 steps.
108 trials of 50,000 steps, 5,400,000 trial-steps: about 21 hours on 2 cores.
Smaller: --set task=modular_addition --set bottleneck=0,8,16 --set seed=0,1 --set steps=20000
(6 trials, 120,000 trial-steps, 29 minutes).
"""

from phasemap import Space

space = Space(
    bottleneck=[0, 1, 2, 4, 8, 16, 32, 64, 128],
    task=["modular_addition", "modular_multiplication"],
    seed=range(6),
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    weight_decay=1.0,
    batch_size=512,
    steps=50_000,
    evaluate_every=500,
    probe_every=2_500,
)
