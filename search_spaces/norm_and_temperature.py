"""Does a held weight norm delay grokking by the scale of the logits alone? Norm x output temperature, twelve seeds.

Khanh 2026 (arXiv 2606.18465), section 4.2, by ClevixLab/grokking-logit-scale e29d08d: addition mod 59; one embedding of
128 for both numbers, side by side, a hidden layer of 256 with GELU, a readout; 40 % of the pairs, full batches, AdamW
with learning rate 1e-3, weight decay 1 and beta2 0.999; normal initial weights of deviation 1/sqrt(inputs), for the
embedding 1/sqrt(128); at most 20,000 steps, grok threshold 0.9 every 25 steps. The norm of the weights is held at 1,
1.05, 1.1 and 1.15 x 54.489, at which a free run groks, and the logits are divided by 1, 1.3 and 1.7. Over the 12 cells
the logarithm of the median grok step is linear in the scale of the logits, R^2 = 0.968 (0.407 in the norm), n = 144.
Two differences: they hold the norm from step 500 on and leave the biases out of weight decay and norm; here the norm is
held from the first step and the biases belong to both. Their scale is the norm of a logit vector, ours the deviation
of its numbers, both divided by the temperature.
144 trials of 20,000 steps, at most 2,880,000 trial-steps: hours on 2 cores; a trial ends where it generalizes.
Smaller: --set seed=0 --set temperature=1.7 --set steps=6000 (4 trials, 24,000 trial-steps, some minutes).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from phasemap import Space, Task

GROK_NORM = 54.489  # where their free run groks


class PairMLP(nn.Module):
    """Two embeddings side by side, one hidden layer with GELU, a readout."""

    def __init__(self, task: Task, embedding_width: int = 128, width: int = 256):
        super().__init__()
        self.table = nn.Embedding(task.classes, embedding_width)
        self.body = nn.Linear(2 * embedding_width, width)
        self.head = nn.Linear(width, task.classes)
        nn.init.normal_(self.table.weight, std=embedding_width**-0.5)
        for layer in (self.body, self.head):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def hidden(self, tokens: Tensor) -> Tensor:  # [examples, 2] -> [examples, width]
        return F.gelu(self.body(self.table(tokens).flatten(1)))

    def forward(self, tokens: Tensor) -> Tensor:  # -> logits [examples, classes]
        return self.head(self.hidden(tokens))


space = Space(
    norm_clamp=[round(dose * GROK_NORM, 3) for dose in (1.0, 1.05, 1.1, 1.15)],
    temperature=[1.0, 1.3, 1.7],
    seed=range(12),
    model=PairMLP,
    task="modular_addition",
    modulus=59,
    data_fraction=0.4,
    learning_rate=1e-3,
    weight_decay=1.0,
    batch_size=0,
    steps=20_000,
    evaluate_every=25,
    probe_every=200,
    probes="logits",
    stop_when_settled=True,
    settle_evaluations=1,
)
