"""Does the task have to have a rule? Random labels, permutations and addition under one recipe, eight seeds each.

Random labels have none: test accuracy stays at chance however long it trains. Permutations of five have a rule that
is no sum. An MLP, weight decay 1.0 and none.
48 trials of 10,000 steps, 480,000 trial-steps: about 10 minutes on 2 cores.
Smaller: --set seed=0 --set steps=2000 (6 trials, 12,000 trial-steps, a few seconds).
"""

from phasemap import Space

space = Space(
    task=["random_labels", "permutation_composition", "modular_addition"],
    weight_decay=[0.0, 1.0],
    seed=range(8),
    data_fraction=0.5,
    model="mlp",
    width=128,
    embedding="concatenate",
    learning_rate=1e-2,
    beta2=0.98,
    steps=10_000,
    evaluate_every=100,
    probe_every=1_000,
    probes="dimension",
)
