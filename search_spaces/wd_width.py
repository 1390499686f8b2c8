"""Weight decay x width on addition mod 59 with an MLP: memorization, grokking and confusion on one map.

200 trials of 2,000 steps, 400,000 trial-steps: 1 to 3 minutes on 2 cores.
"""

from phasemap import Space

space = Space(
    weight_decay=[0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0],
    width=[16, 32, 48, 64, 96],
    seed=range(5),
    task="modular_addition",
    modulus=59,
    data_fraction=0.5,
    model="mlp",
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    batch_size=512,
    steps=2_000,
    evaluate_every=100,
    delay_limit=500,
)
