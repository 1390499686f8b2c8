"""How much of the labels the predictions tell, in bits."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.probes.batch import nan_unless, total


def learned_bits(predictions: Tensor, labels: Tensor, chosen: Tensor, classes: int) -> Tensor:
    """Mutual information of prediction and label over the chosen examples.

    The plug-in estimate from the table of counts; with few examples per pair of classes it reads
    too high (by about (C - 1)^2 / (2 ln 2 n) bits for independent ones).

    Args:
        predictions: [K, N] classes.
        labels: [N] classes.
        chosen: [K, N] bool.
        classes: C.

    Returns:
        [K] bits, 0 to log2(C); NaN where nothing is chosen.
    """
    counts = chosen.new_zeros(len(chosen), classes * classes, dtype=torch.long)
    counts.scatter_add_(1, predictions * classes + labels, chosen.long())
    table = counts.view(-1, classes, classes)
    entropies = _entropy(table.sum(1)) + _entropy(table.sum(2)) - _entropy(counts)
    return nan_unless(chosen.any(1), entropies.clamp(min=0))


def _entropy(counts: Tensor) -> Tensor:
    """Entropy of the distribution behind the counts [K, M]: bits [K]."""
    share = counts / counts.sum(1, keepdim=True).double()
    return total(-torch.xlogy(share, share)) / torch.log(torch.tensor(2.0, dtype=torch.float64))
