"""What a trial draws from its own seed: split, batches, wrong labels and the seed of its initial weights.

Split and batches are counter-based: a key is a hash of (seed, purpose, epoch, example), and sorting
the keys shuffles. So a draw depends on nothing but the trial's seed and the step, is the same on
every device, and a checkpoint needs no generator state. A stack draws for all its trials at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SPLIT, BATCHES, WEIGHTS = 1, 2, 3  # purposes: streams of one seed that never meet
NOISE, DROPOUT = 4, 5  # drawn again at every step
WRONG = 6  # labels
LAST = 2**63 - 1  # a key behind all others
STEP = -0x61C8864680B583EB  # of splitmix64, between the keys of two examples
GROUPS = 8  # lengths of epochs in a stack up to which trials are drawn in groups: faster than all at once on a CPU


def _mix(z: Tensor) -> Tensor:
    """The splitmix64 finalizer (Steele et al. 2014) on int64, which wraps as uint64 does."""
    z = (z ^ (z >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    z = (z ^ (z >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return z ^ (z >> 31 & 0x1FFFFFFFF)


def _starts(seeds: Sequence[int], purpose: int, device: torch.device | str) -> Tensor:
    """Where the streams of one purpose begin, [K]."""
    return _mix(torch.tensor([seed * 8 + purpose for seed in seeds], device=device))


def _keys(starts: Tensor, epochs: Tensor, count: int) -> Tensor:
    """Hash keys [K, E, count] of streams [K]; ties are practically impossible (64 bits)."""
    lines = _mix(starts[:, None] + epochs * 0x632BE59BD9B4E019)
    return _mix(lines[..., None] + torch.arange(1, count + 1, device=epochs.device) * STEP)


def keys(seed: int, purpose: int, epochs: Tensor, count: int) -> Tensor:
    """One seed's hash keys [E, count]."""
    return _keys(_starts((seed,), purpose, epochs.device), epochs, count)[0]


def step_keys(seeds: Sequence[int], purpose: int, first: int, steps: int, device: torch.device | str) -> Tensor:
    """Keys [S, K, 1] of what K trials draw at steps ``first`` … ``first + steps - 1``."""
    count = torch.arange(first, first + steps, device=device)[:, None]
    return _mix(_starts(seeds, purpose, device) + count * 0x632BE59BD9B4E019)[..., None]


def _chunks(key: Tensor, first: int, count: int, bits: int) -> Tensor:
    """Whole numbers [K, count] below 2^bits, cut from hashes of the step's key [K, 1]; ``first`` counts the hashes that
    the step has used before."""
    hashes = -(-count * bits // 64)
    drawn = _mix(key + torch.arange(first + 1, first + hashes + 1, device=key.device) * STEP)
    return torch.cat([drawn >> shift & (1 << bits) - 1 for shift in range(0, 64, bits)], 1)[:, :count]


def quantiles(device: torch.device | str) -> Tensor:
    """The middles of 65,536 equally likely parts of the standard normal distribution: up to 4.3 on either side. Looked
    up, because logarithms and cosines round otherwise on another device, and in a compiled step."""
    share = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    return torch.special.ndtri(share).float().to(device)


def normals(key: Tensor, count: int, table: Tensor) -> Tensor:
    """Standard normal numbers [K, count] of a step's key [K, 1], each one of the ``quantiles``."""
    return torch.ops.phasemap.normals(key, count, table)


def _normals(key: Tensor, count: int, table: Tensor) -> Tensor:
    return table[_chunks(key, 0, count, 16)]


def _kept(key: Tensor, first: int, count: int, threshold: int) -> Tensor:
    return _chunks(key, first, count, 32) >= threshold


# Operators, opaque to torch.compile: compiled, these draws overwrite memory that is not theirs (torch 2.13).
torch.library.define("phasemap::normals", "(Tensor key, int count, Tensor table) -> Tensor")
torch.library.define("phasemap::kept", "(Tensor key, int first, int count, int threshold) -> Tensor")
torch.library.impl("phasemap::normals", ("cpu", "cuda"), _normals)
torch.library.impl("phasemap::kept", ("cpu", "cuda"), _kept)


@torch.library.register_fake("phasemap::normals")  # type: ignore[untyped-decorator]
def _(key: Tensor, count: int, table: Tensor) -> Tensor:
    return table.new_empty(key.shape[0], count)


@torch.library.register_fake("phasemap::kept")  # type: ignore[untyped-decorator]
def _(key: Tensor, first: int, count: int, threshold: int) -> Tensor:
    return key.new_empty(key.shape[0], count, dtype=torch.bool)


class Dropout:
    """The masks of one training step, one after another: each number is set to 0 with probability ``share``, and the
    others are divided by 1 - share, as torch.nn.Dropout does (Srivastava et al. 2014).

    Args:
        key: of the step, [K, 1].
    """

    def __init__(self, share: float, key: Tensor):
        self.share, self.key, self.used = share, key, 0

    def __call__(self, x: Tensor) -> Tensor:
        """x [K, ...], masked again at every call."""
        count = x[0].numel()
        kept = torch.ops.phasemap.kept(self.key, self.used, count, round(self.share * 2**32))
        self.used += -(-count // 2)
        return x * (kept.view(x.shape) / (1 - self.share))


def weight_seed(seed: int) -> int:
    """Seed of the generator that draws a trial's initial weights."""
    return int(keys(seed, WEIGHTS, torch.zeros(1, dtype=torch.int64), 1)) & 0x7FFFFFFFFFFFFFFF


def orders(seeds: Sequence[int], count: int, device: torch.device | str = "cpu") -> Tensor:
    """Each seed's order of the examples, [K, count]; its head is the training set. A larger data
    fraction therefore adds examples and moves none."""
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    return _order(_keys(_starts(seeds, SPLIT, device), zero, count)[:, 0])


def replaced(seeds: Sequence[int], chosen: Tensor, shares: Sequence[float], others: int) -> tuple[Tensor, Tensor]:
    """Which of the chosen examples get a wrong label, and how far on it lies.

    A larger share replaces more labels and gives back none.

    Args:
        seeds: of K trials.
        chosen: [K, N] bool.
        shares: of the chosen examples, one for each trial; their number is rounded down.
        others: how many wrong labels an example may get.

    Returns:
        [K, N] bool, and [K, N] whole numbers from 1 to ``others``, all alike.
    """
    device, count = chosen.device, chosen.shape[1]
    drawn = _keys(_starts(seeds, WRONG, device), torch.arange(2, device=device), count)
    order = _order(drawn[:, 0].masked_fill(~chosen, LAST))
    wanted = (torch.tensor(shares, dtype=torch.float64, device=device) * chosen.sum(1) + 1e-9).long()
    head = torch.arange(count, device=device) < wanted[:, None]
    return torch.zeros_like(head).scatter_(1, order, head), drawn[:, 1].remainder(others) + 1


def shuffled(seed: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """One seed's order [count]."""
    return orders((seed,), count, device)[0]


def _order(drawn: Tensor) -> Tensor:
    """The order of the keys along the last axis. numpy sorts in half of torch's time on a CPU."""
    return torch.from_numpy(drawn.numpy().argsort(axis=-1)) if drawn.device.type == "cpu" else drawn.argsort(dim=-1)


def _joined(parts: tuple[Tensor, ...], places: Tensor) -> Tensor:
    """The groups' rows in the order of the stack."""
    return parts[0] if len(parts) == 1 else torch.cat(parts).index_select(0, places)


@dataclass(frozen=True)
class Batches:
    """The batch streams of K trials: shuffled epochs without replacement, the last batch of an
    epoch being the short remainder. All batches are padded to ``size``; padding has weight 0."""

    seeds: tuple[int, ...]
    train: Tensor  # [K, N] example indices, each row filled up with zeros
    counts: tuple[int, ...]  # of these examples, N at most
    size: int

    def draw(self, first: int, steps: int) -> tuple[Tensor, Tensor]:
        """Batches of steps ``first`` … ``first + steps - 1``. The tensor operations this takes do not grow with K.

        Returns:
            examples [S, K, B] int64, and weights [S, K, B] float32: 1 / (batch's length), or 0.
        """
        if len(self._alike) > GROUPS:
            return self._draw_mixed(first, steps)
        drawn = [group.draw(first, steps) for group in self._groups]
        parts = (_joined(part, self._places) for part in zip(*drawn, strict=True))
        # a copy: contiguous() leaves a single trial's strides as they are, and compiled steps are made for strides
        examples, weights = (part.transpose(0, 1).clone(memory_format=torch.contiguous_format) for part in parts)
        return examples, weights

    def _draw_mixed(self, first: int, steps: int) -> tuple[Tensor, Tensor]:
        """As ``draw``, for epochs of any lengths. A line is one epoch of one trial; all lines lie one after another
        without gaps. Their sizes are known to the host, so nothing waits for the device."""
        device, counts = self.train.device, np.array(self.counts)
        per_epoch = -(-counts // self.size)
        begin, end = first // per_epoch, (first + steps - 1) // per_epoch + 1  # epochs
        trial = np.repeat(np.arange(len(counts)), end - begin)  # [L]
        shift = np.cumsum(end - begin) - end  # from an epoch to its line
        start = np.concatenate([[0], np.cumsum(counts[trial])])
        step = np.arange(first, first + steps)[:, None]
        skipped = step % per_epoch * self.size  # [S, K] examples of the epoch before this batch
        places = start[step // per_epoch + shift] + skipped
        row = trial * self.train.shape[1]
        lines = np.stack([trial, np.arange(len(trial)) - shift[trial], counts[trial], start[:-1], row])
        trials, epochs, lengths, starts, rows = torch.from_numpy(lines).to(device)
        where, filled = torch.from_numpy(np.stack([places, np.minimum(counts - skipped, self.size)])).to(device)[
            ..., None
        ]
        line_keys = _mix(_starts(self.seeds, BATCHES, device).index_select(0, trials) + epochs * 0x632BE59BD9B4E019)
        base = line_keys + (1 - starts) * STEP  # so that the places of a line count from its start
        total = int(start[-1])
        drawn = _mix(torch.arange(total, device=device) * STEP + base.repeat_interleave(lengths, output_size=total))
        if device.type == "cpu":
            order = _order_here(drawn.numpy(), start, row)
        else:
            order = _order_there(drawn, lengths, rows - starts)
        return _cut(self.train.flatten().index_select(0, order), where, filled, self.size)

    @cached_property
    def _alike(self) -> list[list[int]]:
        """Rows whose epochs have equally many batches: at any step they stand in the same epoch."""
        by_batches: dict[int, list[int]] = {}
        for row, count in enumerate(self.counts):
            by_batches.setdefault(-(-count // self.size), []).append(row)
        return list(by_batches.values())

    @cached_property
    def _groups(self) -> list[_Group]:
        return [self._group(rows) for rows in self._alike]

    def _group(self, rows: list[int]) -> _Group:
        counts = [self.counts[row] for row in rows]
        train = self.train[:, : max(counts)]
        if len(rows) < len(self.counts):
            train = train.index_select(0, torch.tensor(rows, device=train.device))
        starts = _starts([self.seeds[row] for row in rows], BATCHES, train.device)
        return _Group(starts, train.contiguous(), tuple(counts), self.size)

    @cached_property
    def _places(self) -> Tensor:
        """Where each row [K] stands among the groups' rows."""
        return torch.tensor([row for rows in self._alike for row in rows], device=self.train.device).argsort()


@dataclass(frozen=True)
class _Group:
    """Streams whose epochs have equally many batches."""

    starts: Tensor  # [K]
    train: Tensor  # [K, N], zeros beyond each row's count
    counts: tuple[int, ...]
    size: int

    @property
    def per_epoch(self) -> int:
        return -(-self.train.shape[1] // self.size)

    @cached_property
    def beyond(self) -> Tensor | None:
        """Which places [K, 1, N] are no examples; None if all are."""
        if min(self.counts) == self.train.shape[1]:
            return None
        counts = torch.tensor(self.counts, device=self.train.device)
        return (torch.arange(self.train.shape[1], device=self.train.device) >= counts[:, None])[:, None]

    @cached_property
    def weights(self) -> Tensor:
        """Of the examples in every batch of an epoch, [K, per epoch, B]."""
        device = self.train.device
        begin = torch.arange(self.per_epoch, device=device) * self.size
        lengths = (torch.tensor(self.counts, device=device)[:, None] - begin).clamp(max=self.size)[..., None]
        return ((torch.arange(self.size, device=device) < lengths) / lengths).float()

    def draw(self, first: int, steps: int) -> tuple[Tensor, Tensor]:
        """Examples and weights [K, S, B]."""
        trials, count = self.train.shape
        device, skip = self.train.device, first % self.per_epoch
        epochs = torch.arange(first // self.per_epoch, (first + steps - 1) // self.per_epoch + 1, device=device)
        drawn = _keys(self.starts, epochs, count)
        if self.beyond is not None:
            drawn.masked_fill_(self.beyond, LAST)
        order = self.train.gather(1, _order(drawn).view(trials, -1)).view(trials, len(epochs), count)
        padded = F.pad(order, (0, self.per_epoch * self.size - count)).view(trials, -1, self.size)
        batches = (torch.arange(steps, device=device) + skip) % self.per_epoch
        return padded[:, skip : skip + steps], self.weights.index_select(1, batches)


def _order_here(drawn: np.ndarray, start: np.ndarray, to: np.ndarray) -> Tensor:
    """The order of the keys within each line, counted from ``to`` on. numpy sorts in half of torch's time on a CPU."""
    order = np.empty(len(drawn), np.int64)
    for (a, b), first in zip(pairwise(start.tolist()), to.tolist(), strict=True):
        np.add(drawn[a:b].argsort(), first, out=order[a:b])
    return torch.from_numpy(order)


def _order_there(drawn: Tensor, lengths: Tensor, shift: Tensor) -> Tensor:
    """As ``_order_here``, by two sorts of all lines; ``shift`` [L] leads from a place to where its line counts from."""
    line = torch.arange(len(lengths), device=drawn.device).repeat_interleave(lengths, output_size=len(drawn))
    by_key = drawn.argsort()
    by_line = by_key.index_select(0, line.index_select(0, by_key).argsort(stable=True))
    return by_line + shift.index_select(0, line)


def _cut(examples: Tensor, places: Tensor, filled: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Batches of ``filled`` examples from ``places`` on, both [S, K, 1]: examples and weights [S, K, B]."""
    column = torch.arange(size, device=examples.device)
    empty = column >= filled
    padded = F.pad(examples, (0, 1))  # empty places read its last
    at = (places + column).masked_fill_(empty, len(examples))
    weights = (1 / filled).expand(at.shape).masked_fill(empty, 0)
    return padded.index_select(0, at.flatten()).view(at.shape), weights
