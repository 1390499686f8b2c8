"""Everything measured on a stack at an evaluation: accuracies, losses and the probes' numbers.

Forward passes only. [K, ...] in, one Python number per trial out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from phasemap.numerics.losses import losses
from phasemap.plan.trial import Shape
from phasemap.probes.batch import total
from phasemap.probes.view import Look, View, asked, run
from phasemap.tasks.task import Task

CHUNK = 2_048  # examples per forward pass; a constant, so that no number depends on the stack
PROBED = 2**27  # hidden numbers held at once (0.5 GiB)


@dataclass(frozen=True)
class Split:
    """Which of the N examples each trial trains on, and which it is tested on."""

    train: Tensor  # [K, N] bool
    test: Tensor  # [K, N] bool

    @classmethod
    def of(cls, chosen: Tensor, task: Task) -> Split:
        """From the training sets [K, pool]; tested is what is left, or the task's own test examples."""
        others = len(task.labels) - task.pool
        train = torch.nn.functional.pad(chosen, (0, others))
        test = torch.nn.functional.pad(torch.zeros_like(chosen), (0, others), value=True) if task.apart else ~train
        return cls(train, test)

    def overlap(self, rows: list[int], task: Task, device: torch.device) -> list[float]:
        """For these rows the share of test examples whose input stands in training too."""
        train, test = self.train[rows], self.test[rows]
        index = torch.from_numpy(task.distinct).to(device).expand(len(rows), -1)
        seen = train.new_zeros(len(rows), int(task.distinct.max()) + 1, dtype=torch.int32)
        seen = seen.scatter_add_(1, index, train.int()).gather(1, index) > 0
        return ((seen & test).sum(1).double() / test.sum(1)).tolist()


@dataclass(frozen=True)
class Stacked:
    """K trials as they stand, with the examples they are measured on."""

    shape: Shape
    flat: Tensor  # [K, P]
    inputs: Tensor  # [N, ...]
    labels: Tensor  # [N] of the task
    targets: Tensor  # [K, N] what each trial is trained on and tested against: with label noise, not the task's
    split: Split
    start: Callable[[], Tensor]  # the weights they started from, [K, P]
    temperature: Tensor | None = None  # [K, 1], which the loss divides logits by; None: 1 for all


@dataclass(frozen=True)
class Seen:
    """One forward pass over all examples; hidden vectors are kept only where probes will ask for them."""

    curves: dict[str, list[float]]
    looked: Looked | None


Looked = tuple[Tensor, Tensor, Tensor]  # hidden vectors [K, N, D], predictions and losses [K, N]


@torch.no_grad()
def measure(stack: Stacked, keep: bool) -> Seen:
    """Accuracies and losses of all trials, at every evaluation; hidden vectors are kept for the probes if asked."""
    keep = keep and len(stack.flat) * len(stack.inputs) * stack.shape.network.width <= PROBED
    parts = (looked if keep else looked[1:] for looked in _forward(stack, slice(None)))
    *hidden, predictions, loss = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    curves = _averages(predictions == stack.targets, loss, stack.split)
    return Seen(curves, (hidden[0], predictions, loss) if keep else None)


@torch.no_grad()
def probes(stack: Stacked, seen: Seen, rows: list[int], last: bool) -> list[Look]:
    """What the probes see in these rows of the stack; with ``last`` also what is measured once, at a trial's end."""
    looks: list[Look] = []
    size = max(1, PROBED // (len(stack.inputs) * stack.shape.network.width))
    for some in (rows[start : start + size] for start in range(0, len(rows), size)):
        looks += run(view(stack, seen, some, last), asked(stack.shape))
    return looks


@torch.no_grad()
def view(stack: Stacked, seen: Seen, rows: list[int], last: bool) -> View:
    """What probes may look at in these rows of the stack."""
    flat, targets = stack.flat[rows], stack.targets[rows]
    if seen.looked:
        hidden, predictions, loss = (part[rows] for part in seen.looked)
    else:
        hidden, predictions, loss = (torch.cat(part, 1) for part in zip(*_forward(stack, rows), strict=True))
    sides = stack.split.train[rows], stack.split.test[rows]
    own = targets, hidden, predictions, loss, *sides
    return View(stack.shape, flat, stack.inputs, stack.labels, *own, lambda: stack.start()[rows], last)


def _forward(stack: Stacked, rows: list[int] | slice) -> Iterator[Looked]:
    """Hidden vectors [K, n, D], predictions and losses [K, n] of chunk after chunk of all N examples."""
    network, flat, targets = stack.shape.network, stack.flat[rows], stack.targets[rows]
    temperature = None if stack.temperature is None else stack.temperature[rows, None]
    weights = network.layout.split(flat)
    for start in range(0, len(stack.inputs), CHUNK):
        chunk = slice(start, min(start + CHUNK, len(stack.inputs)))
        hidden, logits = network.look(weights, stack.inputs[None, chunk])
        scaled = logits if temperature is None else logits / temperature
        yield hidden, logits.argmax(-1), losses(stack.shape.loss, scaled, targets[:, chunk])


def _averages(hits: Tensor, loss: Tensor, split: Split) -> dict[str, list[float]]:
    averages = {}
    for side, mask in (("train", split.train), ("test", split.test)):
        count = mask.sum(1)
        averages[f"{side}_accuracy"] = ((hits & mask).sum(1) / count).tolist()
        averages[f"{side}_loss"] = (total(loss.masked_fill(~mask, 0)) / count).tolist()
    return averages
