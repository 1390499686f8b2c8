"""Does the number format move the outcome? The published addition run in fp32, tf32 and bf16, paired by seed.

Feeds the precision figure. The operands of every matrix product are rounded to the format, sums stay fp32, on
CPUs too (where that is slower, not faster: the estimate is for fp32).
48 trials of 15,000 steps, 720,000 trial-steps: about 170 minutes on 2 cores, more for the two that round.
Smaller: --set modulus=59 --set model=mlp --set depth=1 --set steps=2500 --set evaluate_every=100 --set
learning_rate=0.01 --set beta2=0.98 --set data_fraction=0.4 (48 trials, 120,000 trial-steps, 2 minutes).
"""

from phasemap import Space

space = Space(
    precision=["fp32", "tf32", "bf16"],
    seed=range(16),
    task="modular_addition",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    weight_decay=1.0,
    batch_size=512,
    steps=15_000,
    evaluate_every=1_000,
)
