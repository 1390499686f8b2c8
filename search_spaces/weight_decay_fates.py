"""Which weight decays let the published network generalize? Multiplication mod 97, four of them, eight seeds each.

The published settings but for the length. The published table judges each weight decay by the last evaluation of one
oscillating run ("1.0 did not grok", "5.0 is over-compressed"). Here the event counts: a trial that reaches 0.9
within 20,000 steps has generalized, whatever comes later. Also shows which strides the classes settle in.
32 trials of 20,000 steps, 640,000 trial-steps: about 200 minutes on 2 cores.
Smaller: --set weight_decay=1.0,5.0 --set seed=0 --set steps=10000 (2 trials, 20,000 trial-steps, 6 minutes).
"""

from phasemap import Space

space = Space(
    weight_decay=[1.0, 1.5, 2.0, 5.0],
    seed=range(8),
    task="modular_multiplication",
    modulus=97,
    data_fraction=0.3,
    model="transformer",
    width=128,
    depth=2,
    heads=4,
    learning_rate=1e-3,
    batch_size=512,
    steps=20_000,
    evaluate_every=500,
    probe_every=1_000,
    probes="dimension+stride+spectrum",
)
