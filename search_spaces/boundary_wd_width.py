"""The map of wd_width.py from 128 trials placed where its phases meet, instead of a grid of 200.

128 trials of 2,000 steps, at most 256,000 trial-steps: about 4 minutes on 2 cores; a trial ends where it generalizes.
"""

from optuna.distributions import FloatDistribution

from phasemap import Space

space = Space(
    weight_decay=FloatDistribution(0.05, 6.0, log=True),
    width=[16, 20, 24, 28, 32, 40, 48, 64, 96],
    sampler="boundary",
    trials=128,
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
    probe_every=2_000,
    delay_limit=500,
    stop_when_settled=True,
    settle_evaluations=1,
)
