"""Weight decay x share of the examples that train, on addition mod 59 with an MLP.

Feeds the data-fraction curve and the phase diagram: too little data memorizes only, much data
generalizes at once, grokking lies between (circuit efficiency: Varma et al. 2023, arXiv 2309.02390).
280 trials of 2,500 steps, 700,000 trial-steps: about 8 minutes on 2 cores.
Smaller: --set seed=0 --set weight_decay=0.1,0.8,3 (21 trials, 52,500 trial-steps, half a minute).
"""

from phasemap import Space

space = Space(
    weight_decay=[0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0],
    data_fraction=[0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
    seed=range(5),
    task="modular_addition",
    modulus=59,
    model="mlp",
    width=128,
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    batch_size=512,
    steps=2_500,
    evaluate_every=100,
    delay_limit=500,
)
