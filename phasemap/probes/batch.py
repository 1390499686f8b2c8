"""What the probes share: sums, samples and checks that treat every trial of a stack alike.

A plain sum over a ``[1, N]`` tensor may be split between threads where a ``[K, N]`` one is not, so
a trial alone would round differently; these do not.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 4096  # values added in one go
COPY = 1e-5  # vectors closer than this share of their size are one vector: fp32 sees no less


def blocks(examples: int) -> Iterator[slice]:
    """The examples in pieces, so that a masked copy of the hidden vectors stays small."""
    return (slice(start, start + BLOCK) for start in range(0, examples, BLOCK))


def total(values: Tensor) -> Tensor:
    """Sum over each trial's values [K, M] -> [K], in float64."""
    padding = -values.shape[1] % BLOCK
    padded = torch.nn.functional.pad(values.double(), (0, padding))
    return padded.view(len(values), -1, BLOCK).sum(2).sum(1)


def mean_chosen(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen examples of values [K, N] -> [K]; NaN where none is chosen."""
    return total(values.masked_fill(~chosen, 0)) / chosen.sum(1)


def finite_mean(values: Tensor, chosen: Tensor) -> Tensor:
    """As ``mean_chosen``, of trials whose values are all finite, chosen or not; NaN for the others."""
    return nan_unless(values.isfinite().all(1), mean_chosen(values, chosen))


def finite_trials(values: Tensor) -> Tensor:
    """Which trials hold only finite values: [K, ..., D] -> [K] bool.

    Sums of D carry every NaN and infinity, and are thirty times faster to look at.
    """
    return torch.isfinite(values.sum(-1)).flatten(1).all(1)


def only_finite(values: Tensor) -> tuple[Tensor, Tensor]:
    """The values with every trial that is not wholly finite set to zero, and which trials are [K]."""
    finite = finite_trials(values)
    return values.masked_fill(~finite.view(-1, *[1] * (values.dim() - 1)), 0), finite


def has_extent(spread: Tensor, size: Tensor) -> Tensor:
    """Whether vectors differ by more than their rounding: their summed squared deviations from the mean
    [K] against their summed squared norms [K]. Zero deviations would ask too much: the mean is rounded."""
    return spread > COPY**2 * size


def nan_unless(holds: Tensor, values: Tensor) -> Tensor:
    """The values [K] as float64, NaN where ``holds`` [K] is false."""
    return values.double().masked_fill(~holds, torch.nan)


def sample(chosen: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """At most P ``points`` of each trial's chosen examples, the first in a fixed random order.

    [K, N] -> their indices [K, P], and which of these are real [K, P] (a trial may have chosen fewer).
    """
    examples = chosen.shape[1]
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(0)).to(chosen.device)
    places = torch.arange(examples, device=chosen.device)
    queue = torch.where(chosen[:, order], places, examples).sort(1).values[:, :points]
    return order[queue.clamp(max=examples - 1)], queue < examples
