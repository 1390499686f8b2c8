"""Restricted and excluded loss: how much of what the logits say is the wave that generalizes.

Progress measures of Nanda et al. 2023, https://arxiv.org/abs/2301.05217, section 5.1, as their published code computes
them. The answer of an example has a place s on its circle of n places: a + b for addition, the sum of the discrete
logarithms for multiplication. The part of frequency k in the logits is, class by class, their projection over all
inputs on cos(2 pi k s / n) and sin(2 pi k s / n). The *restricted* loss is that of the mean logits and the parts of the
key frequencies alone, over all inputs; the *excluded* loss is that of the logits without these parts, over the training
examples. A network that memorizes has a high restricted and a low excluded loss, one that has learned the group the
opposite, whatever its accuracy.

What differs from the paper:

- Key frequencies: theirs are those that the neurons of the finished network respond to, in hindsight. Here they are
  chosen again at each probe: a frequency is key if it holds at least twice an even share of the power that the logits
  have on all frequencies. Without one, as at the start, nothing is kept and nothing removed.
- Only logits are looked at, so any network will do; theirs has one layer and no layer norm. A network whose answer is
  no sum of a few waves has few or no key frequencies, which says nothing of whether it generalizes.
- Subtraction and division are read too, by the places of their answers (they have addition alone). Outputs of classes
  outside the group (0 in multiplication) are columns like the others.
- The loss is the trial's own, so that it stands beside its other losses: cross-entropy, as in the paper, by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from phasemap.numerics.losses import losses
from phasemap.numerics.matmul import batched
from phasemap.probes.batch import finite_trials, mean_chosen, nan_unless, total
from phasemap.probes.circles import FEWEST_PLACES, class_at
from phasemap.probes.spectrum import angles, power
from phasemap.probes.view import Numbers, View
from phasemap.tasks.task import Task

CURVES = {
    "restricted_loss": "mean loss, at temperature 1, of all examples by the logits' mean and key frequencies alone "
    "(cyclic groups only)",
    "excluded_loss": "mean training loss, at temperature 1, of the logits without their key frequencies",
    "key_frequencies": "frequencies of the answer with at least 2 x an even share of the logits' power",
}

Blocks = Callable[[], Iterable[tuple[slice, Tensor]]]

STANDS_OUT = 2.0  # times an even share; the largest of 48 frequencies held 1.3 to 1.9 in nine untrained networks


@lru_cache(maxsize=16)
def answer_places(task: Task) -> np.ndarray | None:
    """Each example's place on the circle of answers, [N]. None if there is none, or if its places are not equally
    often an answer: waves would not be orthogonal over the inputs."""
    group = task.group
    if group is None or group.order < FEWEST_PLACES:
        return None
    places = group.exponent[task.labels]
    even = len(places) / group.order
    return places if places.min() >= 0 and (np.bincount(places, minlength=group.order) == even).all() else None


def answer_means(blocks: Iterable[tuple[slice, Tensor]], place: Tensor, order: int) -> Tensor:
    """Mean logits over the examples [N] of each place: [K, n, C] float64."""
    places = torch.arange(order, device=place.device)[:, None]
    sums = torch.zeros((), dtype=torch.float64, device=place.device)
    for block, logits in blocks:
        sums = sums + batched((place[block] == places).double()[None], logits.double())
    return sums * order / len(place)


def key_frequencies(means: Tensor) -> Tensor:
    """Which frequencies 1..n/2 stand out in the mean logits of each place: [K, n, C] -> [K, n // 2] bool."""
    shares = power(means[:, None])
    return shares >= STANDS_OUT / shares.shape[1]  # none where there is no power: NaN


def key_part(means: Tensor, key: Tensor) -> Tensor:
    """What the key frequencies add to the logits at each place: [K, n, C] float64, [K, n // 2] -> [K, n, C].

    The waves are functions of the place, so their projection needs no more of the logits than the means.
    """
    angle = angles(means.shape[1], means.device)
    waves = torch.cat([angle.cos(), angle.sin()])
    scale = torch.where(angle[:, 1] < torch.pi, 2.0, 1.0).double() / means.shape[1]  # 1 / their squared length
    return batched(waves.mT, batched(waves, means) * (key * scale).repeat(1, 2)[:, :, None])


def progress(logits: Blocks, task: Task, train: Tensor, loss: str, targets: Tensor | None = None) -> Numbers:
    """All three.

    Args:
        logits: begins a pass over the N examples, in blocks (which of them, [K, n, C]); there are two, for the mean
            logits of each answer, then without their key part.
        task: evenly spread answers, see ``answer_places``; else there is nothing to find.
        train: [K, N] bool.
        loss: the name of the trials' own.
        targets: [K, N] the labels trained on, where they are not the task's.
    """
    places = answer_places(task)
    if task.group is None or places is None:
        return {}
    place, labels, answer = (
        torch.from_numpy(one).to(train.device) for one in (places, task.labels, class_at(task.group))
    )
    given_labels = labels.expand(len(train), -1) if targets is None else targets
    means = answer_means(logits(), place, len(answer))
    key = key_frequencies(means)
    part = key_part(means, key)
    restricted = losses(loss, part + means.mean(1, keepdim=True), answer.expand(len(part), -1))
    excluded = [
        losses(loss, given - part.to(given.dtype)[:, place[block]], given_labels[:, block]) for block, given in logits()
    ]
    sound = finite_trials(means)
    return {
        "restricted_loss": nan_unless(sound, total(restricted) / len(answer)),
        "excluded_loss": nan_unless(sound, mean_chosen(torch.cat(excluded, 1), train)),
        "key_frequencies": nan_unless(sound, key.sum(1)),
    }


def probe(view: View) -> Numbers:
    return progress(view.logits, view.shape.examples, view.train, view.shape.loss, view.targets)
