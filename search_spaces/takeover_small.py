"""Does an inner stride take over from an outer one in a small network? Three weight decays, six seeds each.

The published study runs 1,000,000 steps at width 128 (seeds_takeover.py). Here a transformer of width 32 on half of the
pairs: it generalizes within 2,000 to 7,000 steps, so most of the steps lie after that. A mechanism at a smaller scale.
Read it by takeover_step, both_strides_score and the curves of the stride scores.
18 trials of 400,000 steps, 7,200,000 trial-steps: about 180 minutes on 2 cores.
Smaller: --set weight_decay=2.0 --set seed=0,1 --set steps=30000 (2 trials, 60,000 trial-steps, 2 minutes).
"""

from phasemap import Space

space = Space(
    weight_decay=[1.0, 1.5, 2.0],
    seed=range(6),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.5,
    model="transformer",
    width=32,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    batch_size=512,
    steps=400_000,
    evaluate_every=5_000,
    probe_every=10_000,
    probes="dimension+stride+spectrum",
)
