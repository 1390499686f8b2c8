"""Everything measured on a stack at an evaluation: accuracies, losses and the probes' numbers.

Forward passes only. [K, ...] in, one Python number per trial out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from phasemap.networks.network import Model
from phasemap.probes.batch import total
from phasemap.probes.view import Look, View, asked, run
from phasemap.training.optimizers import losses

CHUNK = 2_048  # examples per forward pass; a constant, so that no number depends on the stack
PROBED = 2**27  # hidden numbers held at once (0.5 GiB)


@dataclass(frozen=True)
class Split:
    """Which of the N examples each trial trains on."""

    train: Tensor  # [K, N] bool
    test: Tensor  # [K, N] bool

    @classmethod
    def of(cls, train: list[Tensor], count: int, device: torch.device) -> Split:
        mask = torch.zeros(len(train), count, dtype=torch.bool, device=device)
        for k, examples in enumerate(train):
            mask[k, examples] = True
        return cls(mask, ~mask)


@dataclass(frozen=True)
class Seen:
    """One forward pass over all examples; the vectors are kept only where probes will ask for them."""

    curves: dict[str, list[float]]
    vectors: tuple[Tensor, Tensor] | None  # hidden [K, N, D] and predictions [K, N]


@torch.no_grad()
def measure(model: Model, flat: Tensor, tokens: Tensor, labels: Tensor, split: Split, keep: bool) -> Seen:
    """Accuracies and losses of all trials, at every evaluation."""
    keep = keep and len(flat) * len(tokens) * model.trial.width <= PROBED
    parts = []
    for chunk, hidden, logits in _forward(model, flat, tokens):
        wanted, predictions = labels[chunk].expand(len(flat), -1), logits.argmax(-1)
        loss = losses(model.trial.loss, logits, wanted)
        parts.append((predictions == wanted, loss, *((hidden, predictions) if keep else ())))
    hits, loss, *kept = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    return Seen(_averages(hits, loss, split), (kept[0], kept[1]) if kept else None)


@torch.no_grad()
def probes(
    model: Model, flat: Tensor, tokens: Tensor, labels: Tensor, test: Tensor, seen: Seen, rows: list[int], last: bool
) -> list[Look]:
    """What the probes see in these rows of the stack; with ``last`` also what is measured once, at a trial's end."""
    looks: list[Look] = []
    size = max(1, PROBED // (len(tokens) * model.trial.width))
    for some in (rows[start : start + size] for start in range(0, len(rows), size)):
        if seen.vectors:
            hidden, predictions = (part[some] for part in seen.vectors)
        else:
            looked = [(hidden, logits.argmax(-1)) for _, hidden, logits in _forward(model, flat[some], tokens)]
            hidden, predictions = (torch.cat(part, 1) for part in zip(*looked, strict=True))
        view = View(model, flat[some], tokens, labels, hidden, predictions, test[some], last)
        looks += run(view, asked(model.trial.probes))
    return looks


def _forward(model: Model, flat: Tensor, tokens: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(examples, hidden [K, n, D], logits [K, n, C]) of chunk after chunk of all N examples."""
    weights = model.layout.split(flat)
    for start in range(0, len(tokens), CHUNK):
        chunk = slice(start, min(start + CHUNK, len(tokens)))
        hidden = model.hidden(weights, tokens[None, chunk])
        yield chunk, hidden, model.logits(weights, hidden)


def _averages(hits: Tensor, loss: Tensor, split: Split) -> dict[str, list[float]]:
    found = {}
    for side, mask in (("train", split.train), ("test", split.test)):
        count = mask.sum(1)
        found[f"{side}_accuracy"] = ((hits & mask).sum(1) / count).tolist()
        found[f"{side}_loss"] = (total(loss.masked_fill(~mask, 0)) / count).tolist()
    return found
