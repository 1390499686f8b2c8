"""What a trial draws from its own seed: split, batches and the seed of its initial weights.

Split and batches are counter-based: a key is a hash of (seed, purpose, epoch, example), and sorting
the keys shuffles. So a draw depends on nothing but the trial's seed and the step, is the same on
every device, and a checkpoint needs no generator state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SPLIT, BATCHES, WEIGHTS = 1, 2, 3  # purposes: streams of one seed that never meet


def _mix(z: Tensor) -> Tensor:
    """The splitmix64 finaliser (Steele et al. 2014) on int64, which wraps as uint64 does."""
    z = (z ^ (z >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    z = (z ^ (z >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return z ^ (z >> 31 & 0x1FFFFFFFF)


def keys(seed: int, purpose: int, epochs: Tensor, count: int) -> Tensor:
    """Hash keys [E, count]; ties are as good as impossible (64 bits)."""
    start = _mix(torch.tensor(seed * 8 + purpose, device=epochs.device))
    lines = _mix(start + epochs * 0x632BE59BD9B4E019)
    return _mix(lines[:, None] + torch.arange(1, count + 1, device=epochs.device) * -0x61C8864680B583EB)


def weight_seed(seed: int) -> int:
    """Seed of the generator that draws a trial's initial weights."""
    return int(keys(seed, WEIGHTS, torch.zeros(1, dtype=torch.int64), 1)) & 0x7FFFFFFFFFFFFFFF


def shuffled(seed: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """The seed's order [count] of the examples; its head is the training set. A larger data
    fraction therefore adds examples and moves none."""
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    return _order(keys(seed, SPLIT, zero, count))[0]


def _order(drawn: Tensor) -> Tensor:
    """The order of each line's keys. numpy sorts in half of torch's time on a CPU."""
    return torch.from_numpy(drawn.numpy().argsort(axis=1)) if drawn.device.type == "cpu" else drawn.argsort(dim=1)


@dataclass(frozen=True)
class Batches:
    """The batch streams of K trials: shuffled epochs without replacement, the last batch of an
    epoch being the short remainder. All batches are padded to ``size``; padding has weight 0."""

    seeds: tuple[int, ...]
    train: tuple[Tensor, ...]  # K x [n_k] example indices
    size: int

    def draw(self, first: int, steps: int) -> tuple[Tensor, Tensor]:
        """Batches of steps ``first`` … ``first + steps - 1``.

        Returns:
            examples [S, K, B] int64, and weights [S, K, B] float32: 1 / (batch's length), or 0.
        """
        rows = [self._draw_one(seed, train, first, steps) for seed, train in zip(self.seeds, self.train, strict=True)]
        examples, weights = (torch.stack(part, 1) for part in zip(*rows, strict=True))
        return examples, weights

    def _draw_one(self, seed: int, train: Tensor, first: int, steps: int) -> tuple[Tensor, Tensor]:
        count, device = len(train), train.device
        per_epoch = -(-count // self.size)
        epochs = torch.arange(first // per_epoch, (first + steps - 1) // per_epoch + 1, device=device)
        order = train[_order(keys(seed, BATCHES, epochs, count))]
        padding = (0, per_epoch * self.size - count)
        examples = torch.nn.functional.pad(order, padding).view(-1, self.size)
        lengths = torch.full((per_epoch,), self.size, device=device)
        lengths[-1] = count - (per_epoch - 1) * self.size
        filled = torch.arange(self.size, device=device) < lengths[:, None]
        weights = (filled / lengths[:, None]).float().repeat(len(epochs), 1)
        skip = first % per_epoch
        return examples[skip : skip + steps], weights[skip : skip + steps]
