"""Do larger networks lose what smaller ones learn? lfsr_31 at two widths, each at three learning rates, six seeds.

The published comparison (50 % at 0.3 million weights, 0.5 % at 33 million) changes learning rate, batch and weight
decay with the size. Here only width and learning rate move. A mechanism at a smaller scale. The published log stands at
0.509 by step 500 and moves no more, so that 1,000 steps are enough to see what is learned.
36 trials of 1,000 steps, 36,000 trial-steps: about 45 minutes on 2 cores.
Smaller: --set width=32 --set learning_rate=0.001 --set seed=0 (1 trial, 1,000 trial-steps, 1 minute).
"""

from phasemap import Space

space = Space(
    width=[32, 128],
    learning_rate=[3e-4, 1e-3, 3e-3],
    seed=range(6),
    task="lfsr_31",
    context=16,
    data_fraction=0.3,
    model="transformer",
    depth=2,
    heads=4,
    weight_decay=1.0,
    batch_size=512,
    steps=1_000,
    evaluate_every=100,
    probes="dimension",
)
