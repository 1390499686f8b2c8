"""Initial scale x weight decay: is there a shell of weight norm in which networks generalize?

Feeds the phase diagram over initial scale and the final weight norm (Liu et al. 2022, arXiv 2205.10343;
Omnigrok: Liu et al. 2023, arXiv 2210.01117).
192 trials of 5,000 steps, 960,000 trial-steps: about 12 minutes on 2 cores.
Smaller: --set seed=0 --set steps=2500 (48 trials, 120,000 trial-steps, one and a half minutes).
"""

from phasemap import Space

space = Space(
    initial_scale=[0.125, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0],
    weight_decay=[0.0, 0.1, 0.3, 1.0, 2.0, 4.0],
    seed=range(4),
    task="modular_addition",
    modulus=59,
    data_fraction=0.4,
    model="mlp",
    width=128,
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    batch_size=512,
    steps=5_000,
    evaluate_every=100,
    delay_limit=500,
)
