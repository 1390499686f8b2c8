"""Without weight decay a softmax overfits for good and StableMax generalizes late. As published, 80,000 steps.

Prieto et al. 2025 (arXiv 2501.04697), figures 1b (StableMax: test accuracy passes 0.9 near step 60,000, read off the
figure) and 1c (softmax: 0 to the end), by LucasPrietoAl/grokking-at-the-edge-of-numerical-stability 0cc9e8d,
run_main_experiments.sh: the network and task of grokking_edge.py, losses in float64 and all else in fp32, AdamW's
epsilon 1e-25, one run each. beta2 is 0.999 for StableMax there, as here, and 0.99 for the softmax: --set beta2=0.99.
16 trials of at most 80,000 steps, at most 1,280,000 trial-steps: about 5 hours on 2 cores; a trial ends
where it generalizes.
Smaller: --set seed=0 --set loss=stablemax_float64 (1 trial, at most 80,000 trial-steps).
"""

from grokking_edge import OneHotMLP

from phasemap import Space

space = Space(
    loss=["stablemax_float64", "cross_entropy_float64"],
    seed=range(8),
    model=OneHotMLP,
    task="modular_addition",
    modulus=113,
    data_fraction=0.4,
    learning_rate=1e-2,
    weight_decay=0.0,
    beta2=0.999,
    epsilon=1e-25,
    batch_size=0,
    steps=80_000,
    evaluate_every=1_000,
    probes="",
    stop_when_settled=True,
    settle_evaluations=1,
)
