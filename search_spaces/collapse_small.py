"""Is what was learned lost in the very long run, and does less weight decay later save it? A million steps each.

The published run (5,000,000 steps, learning rate 1e-3, weight decay 2) decays its weights by a factor exp(-10,000) in
all; here learning rate 1e-2 and weight decay 1 over 1,000,000 steps do the same, for an MLP that generalizes within
1,000 steps. One arm keeps its weight decay, the other has a tenth of it from step 20,000 on. Read it by the shares of
evaluations at or above 0.99, early and late (early_high_share, late_high_share), not by the last one: the published
curves oscillate. The mechanism at a smaller scale.
12 trials of 1,000,000 steps, 12,000,000 trial-steps: about 100 minutes on 2 cores.
Smaller: --set seed=0 --set steps=50000 (2 trials, 100,000 trial-steps, 2 minutes).
"""

from phasemap import Space

space = Space(
    late_weight_decay=[-1.0, 0.1],
    seed=range(6),
    decay_switch=20_000,
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.5,
    model="mlp",
    width=64,
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    weight_decay=1.0,
    steps=1_000_000,
    evaluate_every=2_000,
    subnormals="flushed",
    probe_every=20_000,
    probes="dimension+stride",
)
