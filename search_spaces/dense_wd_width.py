"""The axes of wd_width.py, finely: the dense reference that boundary-seeking sweeps are measured against.

2,880 trials of 2,000 steps, at most 5,760,000 trial-steps: about 20 minutes on 2 cores; a trial ends at the evaluation
at which it generalizes, which its phase does not wait for.
Smaller: --set width=16,64 --set seed=0 (96 trials, 192,000 trial-steps, under a minute).
"""

import math

from phasemap import Space

LOW, HIGH, COUNT = 0.05, 6.0, 48

space = Space(
    weight_decay=[float(f"{LOW * math.exp(i / (COUNT - 1) * math.log(HIGH / LOW)):.4g}") for i in range(COUNT)],
    width=[8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96],
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
    probe_every=2_000,
    delay_limit=500,
    stop_when_settled=True,
    settle_evaluations=1,
)
