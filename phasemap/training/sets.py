"""What the trials of a stack train on: their examples, and the labels that they are given."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phasemap.numerics import random_streams
from phasemap.plan.trial import Trial, train_examples
from phasemap.tasks.task import Task


def training_sets(
    trials: tuple[Trial, ...], task: Task, device: torch.device
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """What K trials train on: a mask [K, pool], the examples [K, N] in the order in which batches are drawn from them,
    rows filled up with zeros, and how many each has."""
    split = trials[0].split
    divided = task.divided(split)
    order = random_streams.orders([trial.seed for trial in trials], divided, device)
    heads = [train_examples(divided, trial.data_fraction) for trial in trials]
    head = torch.arange(divided, device=device) < torch.tensor(heads, device=device)[:, None]
    chosen = torch.zeros_like(head).scatter_(1, order, head)
    if split == "examples":
        return chosen, order.masked_fill(~head, 0)[:, : max(heads)], tuple(heads)
    parts = torch.from_numpy(task.parts(split)).to(device)
    chosen = torch.stack([chosen.index_select(1, part) for part in parts.unbind(1)]).all(0)
    counts = chosen.sum(1)
    order = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)  # the chosen examples first, rising
    beyond = torch.arange(task.pool, device=device) >= counts[:, None]
    lengths = tuple(counts.tolist())
    return chosen, order.masked_fill(beyond, 0)[:, : max(lengths)], lengths


def given_labels(trials: tuple[Trial, ...], task: Task, labels: Tensor, chosen: Tensor) -> Tensor:
    """The labels [K, N] that K trials are given: those of the task [N], but for a share of each training set
    ``chosen`` [K, pool], which get another of the task's labels. Test labels are never replaced."""
    shares = [trial.label_noise for trial in trials]
    if not any(shares):
        return labels.expand(len(trials), -1)
    kinds, place = (torch.from_numpy(one).to(labels.device) for one in np.unique(task.labels, return_inverse=True))
    wrong, further = random_streams.replaced([trial.seed for trial in trials], chosen, shares, len(kinds) - 1)
    others = kinds[(place[: task.pool] + further) % len(kinds)]
    replaced = torch.where(wrong, others, labels[: task.pool])
    return torch.cat([replaced, labels[task.pool :].expand(len(trials), -1)], 1)
