"""Weight decay x depth on addition mod 59 with an MLP: does a deeper network move the boundary?

Feeds the phase diagram and the grok-step map over depth.
160 trials of 2,500 steps, 400,000 trial-steps: about 5 minutes on 2 cores.
Smaller: --set seed=0 --set depth=1,3 (16 trials, 40,000 trial-steps, half a minute).
"""

from phasemap import Space

space = Space(
    weight_decay=[0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0],
    depth=[1, 2, 3, 4],
    seed=range(5),
    task="modular_addition",
    modulus=59,
    data_fraction=0.4,
    model="mlp",
    width=64,
    learning_rate=1e-2,
    beta2=0.98,
    batch_size=512,
    steps=2_500,
    evaluate_every=100,
    delay_limit=500,
)
