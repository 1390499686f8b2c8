"""Where does weight decay begin to make a network generalize, and how does the grok step fall beyond? 210 trials.

Verma 2026 (arXiv 2605.20441): the share of trials that grok passes one half at weight decay 0.0158 [0.0109, 0.0200]
(210 transformers of 4 layers, 8 heads, width 128, on addition mod 97, 13 weight decays from 0.001 to 2), and at 0.0511
[0.0495, 0.0591] for an MLP of 4 layers of 512 (70 runs, 13 grok); from 0.1 on the grok epoch falls as weight
decay^-0.757 [0.725, 0.799]. Learning rate 1e-3, batches of 512, 10,000 or 20,000 epochs; the share of the data, the
grok threshold and beta2 could not be found.

A mechanism at a smaller scale: an MLP of one layer of 64 on addition mod 59, and a budget of 2,000 steps. All of these
values are ours. A critical weight decay belongs to a budget, so learning rate is an axis too: if weight decay acts as
learning rate x weight decay, the critical one falls as learning rate^-1.
210 trials of 2,000 steps, at most 420,000 trial-steps: about 3 minutes on 2 cores; a trial ends where it generalizes.
Smaller: --set learning_rate=0.01 --set seed=0,1 (20 trials, 40,000 trial-steps, seconds).
"""

from phasemap import Space

space = Space(
    weight_decay=[0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 1.0, 1.5, 2.2, 3.3],
    learning_rate=[5e-3, 1e-2, 2e-2],
    seed=range(7),
    task="modular_addition",
    modulus=59,
    data_fraction=0.5,
    model="mlp",
    width=64,
    depth=1,
    beta2=0.98,
    batch_size=512,
    steps=2_000,
    evaluate_every=50,
    probes="",
    stop_when_settled=True,
    settle_evaluations=1,
)
