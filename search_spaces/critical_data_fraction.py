"""How much of the data must a network see before it generalizes, and does a wider one need less? 396 trials.

Addition mod 59 with an MLP of one layer, weight decay 0.8, a budget of 2,000 steps. Feeds critical_law with
data_fraction along it and width as the other axis. If grok step ~ width^a x data_fraction^b, the critical share at one
budget goes as width^(-a/b): grok_step_exponents.py measures a and b.
`--set sampler=boundary --set critical=data_fraction --set target=0.1` seeks the same line with fewer trials.
396 trials of 2,000 steps, at most 792,000 trial-steps: about 5 minutes on 2 cores; a trial ends where it generalizes.
Smaller: --set width=64 --set seed=0,1 (22 trials, 44,000 trial-steps, seconds).
"""

from phasemap import Space

space = Space(
    data_fraction=[0.2, 0.25, 0.3, 0.34, 0.38, 0.42, 0.46, 0.5, 0.55, 0.6, 0.7],
    width=[32, 48, 64, 96, 128, 192],
    seed=range(6),
    task="modular_addition",
    modulus=59,
    weight_decay=0.8,
    model="mlp",
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    batch_size=512,
    steps=2_000,
    evaluate_every=50,
    probes="",
    stop_when_settled=True,
    settle_evaluations=1,
)
