"""Does the critical weight decay fall as one over the budget? One learning rate, 8,000 steps, 72 trials.

The network and task of critical_weight_decay.py, which varies the learning rate. Verma 2026 (arXiv 2605.20441) derives
critical weight decay = -ln(1 - p) / (learning rate x kappa x steps): then it means nothing without its budget. A trial
that groks at some step says what each smaller budget would have seen.
72 trials of 8,000 steps, at most 576,000 trial-steps: about 2 minutes on 2 cores; a trial ends where it generalizes.
Smaller: --set steps=2000 --set seed=0,1 (24 trials, 48,000 trial-steps, half a minute).
"""

from phasemap import Space

space = Space(
    weight_decay=[0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.45, 0.65, 1.0, 1.5, 2.2],
    seed=range(6),
    task="modular_addition",
    modulus=59,
    data_fraction=0.5,
    model="mlp",
    width=64,
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    batch_size=512,
    steps=8_000,
    evaluate_every=50,
    probes="",
    stop_when_settled=True,
    settle_evaluations=1,
)
