"""Does an inner stride take over from an outer one in a small network? Weight decay 2, eight seeds.

The published study runs 1,000,000 steps at width 128 (seeds_takeover.py); at weight decay 2 the inner stride takes
over by step 140,000. Here a transformer of width 32 on half of the pairs: it generalizes within 3,000 steps, so nearly
all steps lie after that. A mechanism at a smaller scale.
Read it by takeover_step, both_strides_score and the curves of the stride scores.
8 trials of 200,000 steps, 1,600,000 trial-steps: about 65 minutes on 2 cores.
Smaller: --set seed=0,1 --set steps=30000 (2 trials, 60,000 trial-steps, 3 minutes).
"""

from phasemap import Space

space = Space(
    seed=range(8),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.5,
    model="transformer",
    width=32,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    weight_decay=2.0,
    batch_size=512,
    steps=200_000,
    evaluate_every=5_000,
    subnormals="flushed",
    probe_every=10_000,
    probes="dimension+stride+spectrum",
)
