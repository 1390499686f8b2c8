"""What a probe may look at, and how the probes of a stack are run, built-in or the user's.

A probe looks at the hidden vectors of all examples, or at the weights, and changes nothing. Each is
called at every probe step for its curves, and once more at a trial's end, where it may add what is
too expensive to follow. A probe that fails costs its numbers and never a trial.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasemap import probes
from phasemap.plan.outcome import CURVES, DEFINITIONS
from phasemap.plan.trial import FIELDS, Shape
from phasemap.probes import batch, circles

Numbers = dict[str, Tensor]  # name -> [K]
Picture = tuple[tuple[float, float, int], ...]  # x, y, class
PICTURE = "picture"  # the one name whose values are no numbers: K pictures
RESERVED = frozenset({*FIELDS, *DEFINITIONS, *CURVES, PICTURE, "trial", "run_id", "status", "failure"})
ALLOWED = re.compile(r"[\w\-: ][\w.\-: ]*(/[\w\-: ][\w.\-: ]*)*")  # a part of MLflow's names
LONGEST = 250  # characters of a name in MLflow
SHOWN = 200  # characters of an error
OWN = ("flat", "targets", "hidden", "predictions", "losses", "train", "test")  # what a view has of each trial


@dataclass(frozen=True)
class View:
    """What probes may look at: K trials, N examples."""

    shape: Shape  #: what the trials share: their fields, ``shape.network``, ``shape.examples``
    flat: Tensor  #: [K, P]
    inputs: Tensor  #: [N, ...]
    labels: Tensor  #: [N] of the task
    targets: Tensor  #: [K, N] what the trial is trained on and tested against: with label noise, not the task's
    hidden: Tensor  #: [K, N, D]
    predictions: Tensor  #: [K, N] classes
    losses: Tensor  #: [K, N] against the targets
    train: Tensor  #: [K, N] bool
    test: Tensor  #: [K, N] bool
    start: Callable[[], Tensor]  #: draws the initial weights [K, P]
    last: bool  #: the trials end here

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The weights [K, ...] by their names in the network, as views of ``flat``."""
        return self.shape.network.layout.split(self.flat)

    def logits(self) -> Iterator[tuple[slice, Tensor]]:
        """Block after block of the examples with their logits [K, n, C]: all at once could be too many to hold."""
        network = self.shape.network
        for block in batch.blocks(len(self.inputs)):
            yield block, network.logits_again(self.weights, self.inputs[None, block], self.hidden[:, block])

    @cached_property
    def vectors(self) -> Tensor:
        """Class vectors [K, C, D], over all examples: the stride needs every class, as well placed as can be."""
        everyone = torch.ones_like(self.predictions, dtype=torch.bool)
        return circles.class_vectors(self.hidden, self.labels, everyone, self.shape.examples.classes)

    @cached_property
    def circles(self) -> list[tuple[str, Tensor]]:
        """The outer and the inner reading [K, G, n, D] of the task's group, with the prefix of their names."""
        group = self.shape.examples.group
        if group is None:
            return []
        outer, inner = circles.outer_circle(self.vectors, group), circles.inner_circles(self.vectors, group)
        return [(prefix, circle) for prefix, circle in (("", outer), ("inner_", inner)) if circle is not None]

    def one(self, k: int) -> View:
        """The view of trial k alone, K = 1."""
        row = slice(k, k + 1)
        own = {name: getattr(self, name)[row] for name in OWN}
        return replace(self, **own, start=lambda: self.start()[row])


Probe = Callable[[View], Any]  # returns name -> [K]: tensors, arrays or lists of numbers


@dataclass
class Look:
    """What the probes saw in one trial. A number that does not exist, NaN, is left out."""

    numbers: dict[str, float] = field(default_factory=dict)
    picture: Picture = ()
    faults: dict[str, str] = field(default_factory=dict)  # probe -> what went wrong, one line


class Wrong(ValueError):
    """A probe returned what is no name -> [K]."""


def asked(shape: Shape) -> list[tuple[str, Probe]]:
    """The probes that trials of a shape ask for, after the one nobody may leave out."""
    users = {part.name: part.target for part in shape.parts if part.kind == "probe"}
    named = (probes.ALWAYS, *filter(None, shape.probes.split("+")))
    return [(name, users.get(name) or probes.built_in(name)) for name in named]


def run(view: View, functions: Iterable[tuple[str, Probe]]) -> list[Look]:
    """Runs named probes one after the other; a Look for each of the K trials.

    A probe that fails on the stack is tried on each trial alone, so that a trial's numbers do not
    depend on its neighbors; where it fails again, the trial's Look has the fault and not the numbers.
    """
    looks = [Look() for _ in view.flat]
    owner: list[dict[str, str]] = [{} for _ in looks]  # of each trial, name -> probe
    for name, function in functions:
        for look, owned, answer in zip(looks, owner, _by_trial(name, function, view), strict=True):
            if isinstance(answer, dict) and not _is_built_in(name):
                answer = next(
                    (f"probe {name}: {key} is a name of probe {owned[key]}" for key in answer if key in owned), answer
                )
            if isinstance(answer, str):
                look.faults[name] = answer
                continue
            owned |= dict.fromkeys(answer, name)
            look.picture = answer.pop(PICTURE, look.picture)
            look.numbers |= {key: value for key, value in answer.items() if value == value}
    return looks


def _by_trial(name: str, function: Probe, view: View) -> Sequence[dict[str, Any] | str]:
    """What the probe says of each trial, or what was wrong there."""
    trials = len(view.flat)
    together = _tried(name, function, view)
    if isinstance(together, dict):
        return [{key: column[k] for key, column in together.items()} for k in range(trials)]
    alone = [_tried(name, function, view.one(k)) for k in range(trials)] if trials > 1 else [together]
    if all(isinstance(answer, str) for answer in alone):
        return [together] * trials
    return [answer if isinstance(answer, str) else {key: v[0] for key, v in answer.items()} for answer in alone]


def _tried(name: str, function: Probe, view: View) -> dict[str, list[Any]] | str:
    try:
        return _columns(function(view), len(view.flat), _is_built_in(name))
    except Wrong as wrong:
        return f"probe {name}: {wrong}"
    except Exception as error:  # anything a probe may raise
        message = " ".join(str(error).split())[:SHOWN]
        return f"probe {name}: raised {type(error).__name__}: {message} ({_place(function, error)})"


def _columns(columns: Any, trials: int, built_in: bool) -> dict[str, list[Any]]:
    if not isinstance(columns, dict):
        raise Wrong(f"must return a dict, name -> one number for each trial, got {type(columns).__name__}")
    for key in columns:
        if not isinstance(key, str) or not ALLOWED.fullmatch(key) or len(key) > LONGEST:
            raise Wrong(f"{key!r} must be a name of letters, digits, _ - . : and spaces, separated by single /")
        if key in RESERVED and not built_in:
            raise Wrong(f"{key} is a name of phasemap; choose another")
    return {key: value if key == PICTURE else _numbers(key, value, trials).tolist() for key, value in columns.items()}


def _numbers(key: str, value: Any, trials: int) -> Tensor:
    """[K] float64 on the CPU, from a tensor, an array or a list of numbers."""
    try:
        column = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise Wrong(f"{key} must be real numbers, got {type(value).__name__}") from error
    if column.is_complex():
        raise Wrong(f"{key} must be real numbers, got {column.dtype}")
    if column.shape != (trials,):
        wanted = f"one number for each of the {trials} trials [{trials}]"
        raise Wrong(f"{key} must have {wanted}, got shape {list(column.shape)}")
    return column.detach().to("cpu", torch.float64)


def _place(function: Probe, error: Exception) -> str:
    """File and line of an error, inside the probe's own file where it passed there."""
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(getattr(function, "__code__", None), "co_filename", None)
    frame = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _is_built_in(name: str) -> bool:
    return name == probes.ALWAYS or name in probes.names()
