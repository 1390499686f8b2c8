"""The built-in transformer written as a plain torch.nn.Module: a pattern for a network of your own.

One model, no trial axis; phasemap trains it in stacks. From the same weights it learns as the built-in does
(tests/networks/test_own_transformer.py). Feeds the comparison of the two: the addition run over three weight decays.
6 trials of 15,000 steps, 90,000 trial-steps: about 40 minutes on 2 cores.
Smaller: --set seed=0 --set width=32 --set steps=3000 (3 trials, 9,000 trial-steps, a minute).
"""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phasemap import Space, Task
from phasemap.fields import POSITIVE_COUNT

Count = Annotated[int, "of this network", POSITIVE_COUNT]


class Block(nn.Module):
    """Attention and a two-layer perceptron, each with a residual and a layer norm after it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:  # [examples, tokens, width]
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.out(attended))
        return self.norm2(x + self.down(self.up(x).relu()))


class PlainTransformer(nn.Module):
    """A table and a position for each token, blocks, and a readout of the first token."""

    def __init__(self, task: Task, width: Count = 128, depth: Count = 2, heads: Count = 4):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(task.vocabulary, width) for _ in range(task.tokens)])
        self.position = nn.Parameter(torch.randn(task.tokens, width) * 0.02)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.readout = nn.Linear(width, task.classes)

    def hidden(self, tokens: Tensor) -> Tensor:  # [examples, tokens] -> [examples, width]
        x = torch.stack([table(tokens[:, t]) for t, table in enumerate(self.tables)], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return x[:, 0]

    def forward(self, tokens: Tensor) -> Tensor:  # -> logits [examples, classes]
        return self.readout(self.hidden(tokens))


space = Space(
    weight_decay=[0.3, 1.0, 3.0],
    seed=range(2),
    task="modular_addition",
    modulus=97,
    data_fraction=0.4,
    model=PlainTransformer,
    learning_rate=1e-3,
    batch_size=512,
    steps=15_000,
    evaluate_every=500,
)
