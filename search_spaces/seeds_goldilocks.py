"""Neither too much nor too little: where in weight decay x width does an MLP generalize, at three data fractions?

Feeds the phase diagram (small multiples over the data fraction), the probability map and the critical weight decays.
The published story is of a zone of weight decay that moves with capacity and data.
540 trials of 2,000 steps, 1,080,000 trial-steps: about 8 minutes on 2 cores.
Smaller: --set seed=0 --set data_fraction=0.5 (36 trials, 72,000 trial-steps, half a minute).
"""

from phasemap import Space

space = Space(
    weight_decay=[0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0],
    width=[16, 32, 64, 96],
    data_fraction=[0.3, 0.5, 0.7],
    seed=range(5),
    task="modular_addition",
    modulus=59,
    model="mlp",
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    batch_size=512,
    steps=2_000,
    evaluate_every=100,
    delay_limit=500,
)
