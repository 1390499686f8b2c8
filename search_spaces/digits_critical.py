"""Critical weight decay of handwritten digits against width: the network of digits.py at 4 times the usual weights.

Feeds critical_law: 200 images, mean squared error, a budget of 5,000 steps; needs scikit-learn. Without weight decay no
such network generalizes.
192 trials of 5,000 steps, at most 960,000 trial-steps: about 8 minutes on 2 cores; a trial ends where it generalizes.
Smaller: --set width=64 --set seed=0,1 (16 trials, 80,000 trial-steps, a minute).
"""

from digits import Perceptron, digits

from phasemap import Space

space = Space(
    weight_decay=[0.01, 0.02, 0.03, 0.04, 0.06, 0.09, 0.15, 0.3],
    width=[16, 32, 64, 128],
    seed=range(6),
    task=digits,
    data_fraction=0.1113,  # 200 images
    model=Perceptron,
    initial_scale=4.0,
    learning_rate=1e-3,
    loss="mean_squared_error",
    batch_size=0,
    steps=5_000,
    evaluate_every=100,
    probes="",
    grok_threshold=0.85,  # 200 images teach little more than 0.9
    stop_when_settled=True,
    settle_evaluations=1,
)
