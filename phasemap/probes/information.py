"""How much of the labels the predictions tell, in bits."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.probes.batch import nan_unless, sample, total

SHUFFLES = 10  # of the labels; the mean of one differs from that of all by 0.01 bits at 97 classes


def learned_bits(predictions: Tensor, labels: Tensor, chosen: Tensor, classes: int) -> Tensor:
    """Mutual information of prediction and label over the chosen examples, above chance.

    The plug-in estimate I of independent ones is not 0 but about (C - 1)^2 / (2 ln 2 n) bits, 3 bits for 97
    classes. So its mean E under permutations of the labels is taken off, and what is left is put on
    the scale from 0 to the entropy H of the labels: H (I - E) / (H - E), the adjusted mutual information
    (Vinh, Epps and Bailey 2010, JMLR 11:2837) in bits. Independent predictions read 0 on average, a
    little below it half of the time; perfect ones H.

    Args:
        predictions: [K, N] classes.
        labels: [N] classes.
        chosen: [K, N] bool.
        classes: C.

    Returns:
        [K] bits, at most log2(C); NaN where the chosen labels leave nothing to learn.
    """
    index, real = sample(chosen, chosen.shape[1])
    predicted, wanted = predictions.gather(1, index), labels[index]
    count = real.sum(1, keepdim=True)
    place = torch.arange(index.shape[1], device=index.device).expand_as(index)
    tables = _counts(predicted, wanted, real, classes)
    guessed, whole = (_entropy(tables.view(-1, classes, classes).sum(side)) for side in (2, 1))
    joint = _entropy(tables)
    chance = torch.zeros_like(joint)
    for turn in range(1, SHUFFLES + 1):  # in a random order, labels some places on are labels drawn at random
        there = (place + count * turn // (SHUFFLES + 1)) % count.clamp(min=1)
        chance += (guessed + whole - _entropy(_counts(predicted, wanted.gather(1, there), real, classes))) / SHUFFLES
    room = whole - chance
    bits = whole * (guessed + whole - joint - chance) / room
    return nan_unless(chosen.any(1) & (room > 1e-9), bits)


def _counts(predicted: Tensor, wanted: Tensor, real: Tensor, classes: int) -> Tensor:
    """How often each pair of classes [K, P] occurs among the real ones: [K, C * C]."""
    counts = torch.zeros(len(real), classes * classes, dtype=torch.long, device=real.device)
    return counts.scatter_add_(1, predicted * classes + wanted, real.long())


def _entropy(counts: Tensor) -> Tensor:
    """Entropy of the distribution behind the counts [K, M]: bits [K]."""
    share = counts / counts.sum(1, keepdim=True).double()
    return total(-torch.xlogy(share, share)) / torch.log(torch.tensor(2.0, dtype=torch.float64))
