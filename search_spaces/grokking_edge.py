"""Does the orthogonal gradient alone make a network generalize in 300 steps, without weight decay? As published.

Prieto et al. 2025 (arXiv 2501.04697), figure 1a, by LucasPrietoAl/grokking-at-the-edge-of-numerical-stability 0cc9e8d,
run_main_experiments.sh: addition mod 113 from two one-hot vectors, an MLP of two hidden layers of 200 without biases,
40 % of the pairs, full batches, learning rate 0.01, no weight decay, 300 steps, one seed. Test accuracy passes 0.9 near
step 150, read off the figure, which names StableMax besides; the script has cross-entropy there. The script asks for
beta2 0.99 and epsilon 1e-25, but its OrthoGrad rebuilds AdamW with torch's 0.999 and 1e-8, which are used here.
The arm without the orthogonal gradient is ours to compare with. Figures 1b and 1c: grokking_edge_long.py.
16 trials of 300 steps, 4,800 trial-steps: about 5 minutes on 2 cores; a trial ends where it generalizes.
Smaller: --set seed=0 --set modulus=59 (2 trials, 600 trial-steps, seconds).
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from phasemap import Space, Task
from phasemap.fields import POSITIVE_COUNT


class OneHotMLP(nn.Module):
    """Linear layers without biases, the first on the tokens' one-hot vectors: a row of its weight for each token."""

    def __init__(self, task: Task, width: Annotated[int, "units of each hidden layer", POSITIVE_COUNT] = 200):
        super().__init__()
        self.values = task.classes
        self.table = nn.Embedding(2 * task.classes, width)  # one tensor, as the orthogonal gradient takes it
        self.body = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, task.classes, bias=False)
        nn.init.uniform_(self.table.weight, -((2 * task.classes) ** -0.5), (2 * task.classes) ** -0.5)  # as nn.Linear

    def hidden(self, tokens: Tensor) -> Tensor:  # [examples, 2] -> [examples, width]
        first = self.table(tokens[:, 0]) + self.table(tokens[:, 1] + self.values)
        return torch.relu(self.body(torch.relu(first)))

    def forward(self, tokens: Tensor) -> Tensor:  # -> logits [examples, classes]
        return self.head(self.hidden(tokens))


space = Space(
    orthogonal_gradient=[False, True],
    seed=range(8),
    model=OneHotMLP,
    task="modular_addition",
    modulus=113,
    data_fraction=0.4,
    learning_rate=1e-2,
    weight_decay=0.0,
    batch_size=0,
    steps=300,
    evaluate_every=10,
    probes="",
    stop_when_settled=True,
    settle_evaluations=1,
)
