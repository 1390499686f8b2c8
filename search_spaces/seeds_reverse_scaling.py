"""Do larger models learn less? lfsr_31 and lcg_glibc over width and depth, each with its own learning rates.

Feeds reverse scaling. The published comparison (50 % at 0.3 and 8 million weights, 0.5 % at 33 million)
moves size, learning rate, batch and weight decay at once; here batch and weight decay stay and the
learning rate is an axis, so that a large model is judged at its best rate.
180 trials of 100,000 steps, 18,000,000 trial-steps: about 859 days on 2 cores; GPUs' work.
Smaller: --set task=lfsr_31 --set width=32,64 --set depth=2 --set learning_rate=0.001 --set seed=0
--set steps=2000 (2 trials, 4,000 trial-steps, 3 minutes; shows that it runs, not the claim).
"""

from phasemap import Space

space = Space(
    width=[64, 128, 256, 512, 1024],
    depth=[2, 4],
    learning_rate=[3e-4, 1e-3, 3e-3],
    task=["lfsr_31", "lcg_glibc"],
    seed=range(3),
    context=16,
    data_fraction=0.3,
    model="transformer",
    heads=4,
    weight_decay=1.0,
    batch_size=512,
    steps=100_000,
    evaluate_every=1_000,
)
