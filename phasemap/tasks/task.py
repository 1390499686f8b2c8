"""What is learned: all examples of a task, with its classes, its group and the best accuracy its inputs allow.

Numbers only (numpy): which examples a trial trains on is drawn from the trial's seed, elsewhere. A task is a pure
function of its parameters. The built-in ones stand beside this file; a user's is any function that returns a ``Task``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from phasemap.fields import Fault


@dataclass(frozen=True)
class Group:
    """The cyclic group on the classes. ``exponent[c]`` is class c's place on the circle of
    ``order`` places, -1 for a class outside the group. ``cosets``: 0, or the number of cosets of
    the subgroup whose quotient is read as the outer circle and whose members as the inner one."""

    order: int
    exponent: np.ndarray  #: [classes]
    cosets: int = 0


class Task:
    """All examples, N of them.

    Args:
        inputs: whole numbers [N, T] (tokens), or real numbers [N, ...].
        labels: [N] classes 0, 1, ….
        test_inputs, test_labels: test examples of their own. Without them a trial trains on a share ``data_fraction``
            of the examples and is tested on the rest; with them it trains on that share and is tested on these.
        classes: how many there are (default: the largest label + 1).
        vocabulary: how many tokens there are (default: the largest + 1).
        separate_tables: one embedding table per token position, or one for all.
        readout: the token whose final vector a transformer reads out.
        group: the cyclic group on the classes, if they form one.
        hidden_ceiling: the best accuracy that any predictor can reach, where equal inputs do not tell it.

    Raises:
        Fault: what is wrong with the arrays, all at once.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any,
        test_inputs: Any = None,
        test_labels: Any = None,
        *,
        classes: int | None = None,
        vocabulary: int | None = None,
        separate_tables: bool = True,
        readout: Literal["first", "last"] = "first",
        group: Group | None = None,
        hidden_ceiling: Callable[[], float] | None = None,
    ):
        sides = [(inputs, labels, "")] + ([] if test_inputs is None else [(test_inputs, test_labels, "test_")])
        if (test_inputs is None) != (test_labels is None):
            raise Fault([_ONE_SIDE])
        pairs = [(_array(x, f"{side}inputs"), _array(y, f"{side}labels")) for x, y, side in sides]
        faults: list[str] = []
        for (x, y), (_, _, side) in zip(pairs, sides, strict=True):
            faults += _broken(x, y, side)
        if not faults and pairs[0][0].shape[1:] != pairs[-1][0].shape[1:]:
            shapes = pairs[0][0].shape[1:], pairs[-1][0].shape[1:]
            faults.append(
                f"task: test_inputs must have the shape of inputs, got {shapes[1]} and {shapes[0]}; make them equal"
            )
        if faults:
            raise Fault(faults)
        kind = np.int64 if all(x.dtype.kind in "iub" for x, _ in pairs) else np.float32
        self.inputs = np.concatenate([x.astype(kind) for x, _ in pairs])  #: [N, ...] the test examples last
        self.labels = np.concatenate([y.astype(np.int64) for _, y in pairs])  #: [N]
        self.is_real = kind == np.float32  #: inputs are real numbers, not tokens
        self.tokens = 1 if self.is_real else self.inputs.shape[1]  # T
        self.features = int(np.prod(self.inputs.shape[1:]))  # numbers in one input
        self.pool = len(pairs[0][1])  # examples, from the first, that may be trained on
        self.apart = test_inputs is not None
        self.classes: int = classes or int(self.labels.max()) + 1
        self.vocabulary = 0 if self.is_real else vocabulary or int(self.inputs.max()) + 1
        self.separate_tables, self.readout, self.group = separate_tables, readout, group
        self.hidden_ceiling = hidden_ceiling
        if self.labels.max() >= self.classes:
            largest = int(self.labels.max())
            raise Fault(
                [f"task: labels must lie from 0 to classes - 1 = {self.classes - 1}, got {largest}; correct one"]
            )
        if not self.is_real and self.inputs.max() >= self.vocabulary:
            largest = int(self.inputs.max())
            raise Fault([f"task: tokens must lie below vocabulary = {self.vocabulary}, got {largest}; correct one"])

    @cached_property
    def distinct(self) -> np.ndarray:
        """For each example [N] the index 0, 1, … of its distinct input."""
        return distinct_index(self.inputs)

    @cached_property
    def ceiling(self) -> float:
        """Best accuracy any predictor can reach from the inputs shown, even one that knows the rule.

        Where equal inputs cannot be counted it is an expectation: over the hidden state of a
        generator, or over labels without a rule. Looking up recurring windows can then beat it by
        no more than the overlap.
        """
        return self.hidden_ceiling() if self.hidden_ceiling else majority_accuracy(self.distinct, self.labels)

    def divided(self, split: str) -> int:
        """How many parts a split divides.

        Raises:
            Fault: it cannot divide this task.
        """
        return self.pool if split == "examples" else int(self.parts(split).max()) + 1

    def parts(self, split: str) -> np.ndarray:
        """The parts 0, 1, … [pool, M] that each example that may be trained on belongs to. It is trained on where all
        of them fall to training.

        distinct: its input. values: its tokens, wherever they stand. classes: its label.

        Raises:
            Fault: values are no tokens, or may leave no example to train on.
        """
        if split == "distinct":
            return self.distinct[: self.pool, None]
        if split == "classes":
            return np.unique(self.labels[: self.pool], return_inverse=True)[1][:, None]
        if self.is_real:
            raise Fault([_NO_VALUES])
        tokens = self.inputs[: self.pool]
        values, index = np.unique(tokens, return_inverse=True)
        alone = (tokens == tokens[:, :1]).all(1)
        if len(np.unique(tokens[:, 0][alone])) < len(values):  # else any value that falls to training has an example
            raise Fault([_NO_VALUES])
        return index.reshape(tokens.shape)


_NO_VALUES = "split: values needs a task whose tokens stand in all places together, as in modular tables; use examples"
_ONE_SIDE = "task: test_inputs and test_labels go together, got one of them; give both or none"


def _array(values: Any, name: str) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.asarray(values)
        if array.dtype.kind in "iubf":
            return array
        kind = str(array.dtype)
    except (TypeError, ValueError) as error:
        kind = str(error)
    raise Fault([f"task: {name} must be an array of numbers, got {kind}; convert it"])


def _broken(inputs: np.ndarray, labels: np.ndarray, side: str) -> list[str]:
    faults = []
    if inputs.ndim < 2:
        faults.append(f"task: {side}inputs must be [N, T] or [N, …], got shape {list(inputs.shape)}; add an axis")
    if labels.ndim != 1 or len(labels) != len(inputs):
        shapes = f"{list(labels.shape)} for {side}inputs {list(inputs.shape)}"
        faults.append(f"task: {side}labels must be [N], one for each input, got shape {shapes}; correct them")
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        bad = int((~np.isfinite(inputs.reshape(len(inputs), -1)).all(1)).sum())
        faults.append(f"task: {side}inputs must be finite, got NaN or infinity in {bad} examples; remove or fill them")
    if inputs.dtype.kind != "f" and inputs.size and inputs.min() < 0:
        faults.append(f"task: tokens in {side}inputs must not be negative, got {int(inputs.min())}; number them from 0")
    if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
        faults.append(f"task: {side}labels must be whole numbers, got {labels.dtype} with fractions; use class numbers")
    elif labels.size and labels.min() < 0:
        faults.append(f"task: {side}labels must lie from 0 to classes - 1, got {int(labels.min())}; number them from 0")
    if not len(inputs):
        faults.append(f"task: {side}inputs must hold an example, got none; add some")
    return faults


def distinct_index(inputs: np.ndarray) -> np.ndarray:
    """For each row of [N, ...] the index [N] of its value among the distinct rows, in sorted order."""
    if inputs.dtype.kind == "f":
        return np.unique(inputs.reshape(len(inputs), -1), axis=0, return_inverse=True)[1].ravel()
    base, code, codes = int(inputs.max()) + 1, np.zeros(len(inputs), np.int64), 1
    for column in inputs.reshape(len(inputs), -1).T:
        if codes * base > 2**62:  # the next digit would overflow: renumber the prefixes
            code = np.unique(code, return_inverse=True)[1]
            codes = len(inputs)
        code, codes = code * base + column, codes * base
    return np.unique(code, return_inverse=True)[1]


def majority_accuracy(inputs: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of answering each input [N] with its commonest label [N]."""
    classes = labels.max() + 1
    pairs, counts = np.unique(inputs * classes + labels, return_counts=True)
    best = np.zeros(inputs.max() + 1, np.int64)
    np.maximum.at(best, pairs // classes, counts)
    return float(best.sum() / len(labels))


def overlap(inputs: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Share of the test examples whose input stands in training too.

    Args:
        inputs: [N, ...], or a task's ``distinct`` [N], which saves the comparison of rows.
        train: [N] true for training examples.
        test: [N] true for test examples; at least one must be.
    """
    index = inputs if inputs.ndim == 1 else distinct_index(inputs)
    trained = np.zeros(index.max() + 1, bool)
    trained[index[train]] = True
    return float(trained[index[test]].mean())
