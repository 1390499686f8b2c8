"""Do some seeds never grok? The published addition run over 48 more seeds, each until it generalizes.

Feeds the share of seeds that generalize. A trial ends at its first evaluation at or above 0.9, which a longer budget
cannot undo; one that has not generalized by the budget is censored, not a confirmation.
48 trials of at most 20,000 steps, at most 960,000 trial-steps, about 456,000 in fact: 2 to 3 hours on 2 cores.
Smaller: --set seed=12..15 (4 trials).
"""

from phasemap import Space

space = Space(
    seed=range(12, 60),
    task="modular_addition",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    learning_rate=1e-3,
    weight_decay=1.0,
    batch_size=512,
    steps=20_000,
    evaluate_every=500,
    probes="dimension",
    stop_when_settled=True,
    settle_evaluations=1,
)
