"""Can anything but weight decay make a network generalize? Loss x orthogonal gradient x weight decay, eight seeds each.

Prieto et al. 2025 (arXiv 2501.04697): without weight decay a network stops at the edge of numerical stability; a
StableMax loss with gradients orthogonal to the weights gets past it. An MLP on addition mod 97, all eight arms.
64 trials of 10,000 steps, 640,000 trial-steps: about 13 minutes on 2 cores.
Smaller: --set seed=0 --set steps=2000 (8 trials, 16,000 trial-steps, a few seconds).
"""

from phasemap import Space

space = Space(
    weight_decay=[0.0, 1.0],
    orthogonal_gradient=[False, True],
    loss=["cross_entropy", "stablemax"],
    seed=range(8),
    task="modular_addition",
    modulus=97,
    data_fraction=0.5,
    model="mlp",
    width=128,
    learning_rate=1e-2,
    beta2=0.98,
    steps=10_000,
    evaluate_every=100,
    probe_every=1_000,
    probes="dimension",
)
