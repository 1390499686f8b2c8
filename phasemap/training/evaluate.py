"""Everything measured on a stack at an evaluation: accuracies, losses and the probes' numbers.

Forward passes only. [K, ...] in, one Python number per trial out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from phasemap.plan.trial import Shape
from phasemap.probes.batch import total
from phasemap.probes.view import Look, View, asked, run
from phasemap.tasks.task import Task
from phasemap.training.update import losses

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
    labels: Tensor  # [N]
    split: Split


@dataclass(frozen=True)
class Seen:
    """One forward pass over all examples; the vectors are kept only where probes will ask for them."""

    curves: dict[str, list[float]]
    vectors: tuple[Tensor, Tensor] | None  # hidden [K, N, D] and predictions [K, N]


@torch.no_grad()
def measure(stack: Stacked, keep: bool) -> Seen:
    """Accuracies and losses of all trials, at every evaluation; hidden vectors are kept for the probes if asked."""
    trials, count = len(stack.flat), len(stack.inputs)
    keep = keep and trials * count * stack.shape.network.width <= PROBED
    parts = []
    for chunk, hidden, logits in _forward(stack.shape, stack.flat, stack.inputs):
        wanted, predictions = stack.labels[chunk].expand(trials, -1), logits.argmax(-1)
        loss = losses(stack.shape.loss, logits, wanted)
        parts.append((predictions == wanted, loss, *((hidden, predictions) if keep else ())))
    hits, loss, *kept = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    return Seen(_averages(hits, loss, stack.split), (kept[0], kept[1]) if kept else None)


@torch.no_grad()
def probes(stack: Stacked, seen: Seen, rows: list[int], last: bool) -> list[Look]:
    """What the probes see in these rows of the stack; with ``last`` also what is measured once, at a trial's end."""
    looks: list[Look] = []
    size = max(1, PROBED // (len(stack.inputs) * stack.shape.network.width))
    for some in (rows[start : start + size] for start in range(0, len(rows), size)):
        if seen.vectors:
            hidden, predictions = (part[some] for part in seen.vectors)
        else:
            forward = _forward(stack.shape, stack.flat[some], stack.inputs)
            looked = [(hidden, logits.argmax(-1)) for _, hidden, logits in forward]
            hidden, predictions = (torch.cat(part, 1) for part in zip(*looked, strict=True))
        test = stack.split.test[some]
        view = View(stack.shape, stack.flat[some], stack.inputs, stack.labels, hidden, predictions, test, last)
        looks += run(view, asked(stack.shape))
    return looks


def _forward(shape: Shape, flat: Tensor, inputs: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(examples, hidden [K, n, D], logits [K, n, C]) of chunk after chunk of all N examples."""
    network = shape.network
    weights = network.layout.split(flat)
    for start in range(0, len(inputs), CHUNK):
        chunk = slice(start, min(start + CHUNK, len(inputs)))
        yield chunk, *network.look(weights, inputs[None, chunk])


def _averages(hits: Tensor, loss: Tensor, split: Split) -> dict[str, list[float]]:
    found = {}
    for side, mask in (("train", split.train), ("test", split.test)):
        count = mask.sum(1)
        found[f"{side}_accuracy"] = ((hits & mask).sum(1) / count).tolist()
        found[f"{side}_loss"] = (total(loss.masked_fill(~mask, 0)) / count).tolist()
    return found
