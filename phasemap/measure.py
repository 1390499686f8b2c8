"""Everything measured on a stack at an evaluation: accuracies, losses and the probes' numbers.

Forward passes only. [K, ...] in, one Python number per trial out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phasemap.model import Model
from phasemap.optimizer import losses
from phasemap.probes import activation, circles, dimension, information, stride
from phasemap.probes.batch import total

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

    def rows(self, chosen: list[int]) -> Split:
        return Split(self.train[chosen], self.test[chosen])


@dataclass(frozen=True)
class Evaluation:
    """Numbers of the trials, in their order."""

    finite: list[bool] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    outcomes: dict[str, list] = field(default_factory=dict)


@torch.no_grad()
def measure(model: Model, flat: Tensor, tokens: Tensor, labels: Tensor, split: Split, probing: bool) -> Evaluation:
    """Accuracies and losses of all trials; the probes' curves too where ``probing``."""
    if not probing:
        curves = _accuracies(model, flat, tokens, labels, split)
    else:
        parts = []
        for rows in _groups(model, flat, tokens):
            hidden, hits, loss, _ = _hidden(model, flat[rows], tokens, labels)
            chosen = split.rows(rows)
            parts.append(_averages(hits, loss, chosen) | _probes(model, flat[rows], hidden, labels, chosen))
        curves = _joined(parts)
    finite = flat.isfinite().all(1) & torch.tensor(curves["train_loss"], device=flat.device).isfinite()
    return Evaluation(finite.tolist(), curves)


@torch.no_grad()
def final_measures(
    model: Model, flat: Tensor, tokens: Tensor, labels: Tensor, split: Split, ended: list[int], probed: bool
) -> Evaluation:
    """What is measured once, at the end of a trial: the probes too dear for every probe step, and the
    others' curves unless they were ``probed`` at this step already."""
    found = []
    for rows in _groups(model, flat[ended], tokens):
        chosen = [ended[row] for row in rows]
        sides = split.rows(chosen)
        hidden, _, _, predictions = _hidden(model, flat[chosen], tokens, labels)
        curves = {} if probed else _probes(model, flat[chosen], hidden, labels, sides)
        found.append((curves, _final(model, hidden, predictions, labels, sides)))
    curves, outcomes = (_joined([pair[i] for pair in found]) for i in (0, 1))
    return Evaluation(curves=curves, outcomes=outcomes)


def _forward(model: Model, flat: Tensor, tokens: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(examples, hidden [K, n, D], logits [K, n, C]) of chunk after chunk of all N examples."""
    weights = model.layout.split(flat)
    for start in range(0, len(tokens), CHUNK):
        chunk = slice(start, min(start + CHUNK, len(tokens)))
        hidden = model.hidden(weights, tokens[None, chunk])
        yield chunk, hidden, model.logits(weights, hidden)


def _accuracies(model: Model, flat: Tensor, tokens: Tensor, labels: Tensor, split: Split) -> dict[str, list[float]]:
    scored = [_score(model, logits, labels[chunk])[:2] for chunk, _, logits in _forward(model, flat, tokens)]
    hits, loss = (torch.cat(part, 1) for part in zip(*scored, strict=True))
    return _averages(hits, loss, split)


def _score(model: Model, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hits, losses and predictions, each [K, n]."""
    wanted = labels.expand(len(logits), -1)
    predictions = logits.argmax(-1)
    return predictions == wanted, losses(model.trial.loss, logits, wanted), predictions


def _averages(hits: Tensor, loss: Tensor, split: Split) -> dict[str, list[float]]:
    found = {}
    for side, mask in (("train", split.train), ("test", split.test)):
        count = mask.sum(1)
        found[f"{side}_accuracy"] = ((hits & mask).sum(1) / count).tolist()
        found[f"{side}_loss"] = (total(loss.masked_fill(~mask, 0)) / count).tolist()
    return found


def _hidden(model: Model, flat: Tensor, tokens: Tensor, labels: Tensor) -> list[Tensor]:
    """Hidden vectors [K, N, D], hits, losses and predictions, each [K, N]."""
    parts = [(hidden, *_score(model, logits, labels[chunk])) for chunk, hidden, logits in _forward(model, flat, tokens)]
    return [torch.cat(part, 1) for part in zip(*parts, strict=True)]


def _probes(model: Model, flat: Tensor, hidden: Tensor, labels: Tensor, split: Split) -> dict[str, list[float]]:
    """The probes that make curves."""
    curves = {"weight_norm": total(flat.square()).sqrt().tolist()}
    variances = dimension.pca_spectrum(hidden, split.test)
    curves["intrinsic_dimension"] = dimension.pca_dimension(variances, 0.95).tolist()
    curves["pca99_dimension"] = dimension.pca_dimension(variances, 0.99).tolist()
    curves["participation_ratio"] = dimension.participation_ratio(variances).tolist()
    curves |= _activation(hidden, split)
    return curves | _strides(model, hidden, labels, null=False)


def _activation(hidden: Tensor, split: Split) -> dict[str, list[float]]:
    return {
        "activation_sparsity": activation.sparsity(hidden, split.test).tolist(),
        "activation_norm": activation.norm(hidden, split.test).tolist(),
    }


def _final(model: Model, hidden: Tensor, predictions: Tensor, labels: Tensor, split: Split) -> dict[str, list]:
    outcomes: dict[str, list] = {
        "twonn_dimension": dimension.twonn_dimension(hidden, split.test).tolist(),
        "learned_bits": information.learned_bits(predictions, labels, split.test, model.task.classes).tolist(),
    }
    return outcomes | _strides(model, hidden, labels, null=True)


def _strides(model: Model, hidden: Tensor, labels: Tensor, null: bool) -> dict[str, list]:
    """Scores of the outer and inner winning strides; with ``null`` also the strides and p-values."""
    group = model.task.group
    if group is None:
        return {}
    vectors = circles.class_vectors(
        hidden, labels, torch.ones_like(hidden[..., 0], dtype=torch.bool), model.task.classes
    )
    readings = {"": circles.outer_circle(vectors, group), "inner_": circles.inner_circles(vectors, group)}
    found: dict[str, list] = {}
    for prefix, circle in readings.items():
        if circle is None:
            continue
        if not null:
            found[f"{prefix}winning_stride_score"] = stride.winning_score(circle).tolist()
            continue
        winner = stride.winning_stride(circle)
        found[f"{prefix}winning_stride"] = winner.stride.tolist()
        found[f"{prefix}winning_stride_p_value"] = winner.p_value.tolist()
    return found


def _groups(model: Model, flat: Tensor, tokens: Tensor) -> list[list[int]]:
    """Rows of the stack whose hidden vectors fit in memory together."""
    size = max(1, PROBED // (len(tokens) * model.trial.width))
    return [list(range(start, min(start + size, len(flat)))) for start in range(0, len(flat), size)]


def _joined(parts: list[dict[str, list]]) -> dict[str, list]:
    return {key: [value for part in parts for value in part[key]] for key in parts[0]}
