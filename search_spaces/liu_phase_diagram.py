"""Learning rate x weight decay, the axes on which the four phases were first drawn (Liu et al. 2022, arXiv 2205.10343).

Feeds the phase diagram. The network and the task are ours: an MLP on addition mod 59, one learning rate
and one weight decay for all weights (Liu et al. vary the decoder's).
192 trials of 5,000 steps, 960,000 trial-steps: about 12 minutes on 2 cores.
Smaller: --set seed=0 --set steps=2500 (64 trials, 160,000 trial-steps, 2 minutes).
"""

from phasemap import Space

space = Space(
    learning_rate=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0],
    weight_decay=[0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0],
    seed=range(3),
    task="modular_addition",
    modulus=59,
    data_fraction=0.4,
    model="mlp",
    width=128,
    depth=1,
    beta2=0.98,
    batch_size=512,
    steps=5_000,
    evaluate_every=100,
    delay_limit=500,
)
