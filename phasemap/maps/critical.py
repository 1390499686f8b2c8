"""When a sweep that seeks one number has it: where along an axis generalization becomes as likely as not.

At each value of the other axes, or a few where they are ranges. The trials are placed by ``planner.py``, for which a
trial has generalized or has not; here their map is read until every interval is as narrow as was asked for.

Letters: N trials, D axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from phasemap.maps.axes import Axes, Axis
from phasemap.maps.phase_map import PhaseMap

GENERALIZED = ("comprehension", "grokking", "collapse")  # phases of a trial that has generalized at some step
PLACES = (0.1, 0.5, 0.9)  # of a range, the lines at which the critical value is sought; a list is sought at each value
STARTUP = 16  # labeled trials before the first look
LEVEL = 0.9
Labels = Sequence[int | None]


class Line(NamedTuple):
    """What is known of the critical value on one line, in lengths of the axis."""

    fixed: Mapping[str, Any]  # values of the other axes
    spans: list[tuple[float, float]]  # where boundaries may stand
    width: float  # of the widest interval; without a boundary, of what may still hold one


@dataclass(frozen=True)
class Critical:
    """Seeks the critical value of ``name`` to intervals (90 %) no wider than ``target`` lengths of its axis."""

    axes: Axes
    name: str
    target: float

    def met(self, points: np.ndarray, labels: Labels) -> bool:
        """Whether every interval is narrow enough.

        Args:
            points: unit coordinates of ended trials, [N, D].
            labels: whether each generalized, [N]: 1 or 0; None where that is not known.
        """
        lines = self.lines(points, labels)
        return bool(lines) and max(line.width for line in lines) <= self.target

    def lines(self, points: np.ndarray, labels: Labels) -> list[Line]:
        """What is known line by line; nothing until trials have gone both ways."""
        known = [k for k, label in enumerate(labels) if label is not None]
        generalized = np.array([labels[k] for k in known], int)
        if len(known) < STARTUP or len(set(generalized.tolist())) < 2:
            return []
        fitted = PhaseMap.fit(points[known], generalized, self.axes, phases=(0, 1))
        return [self._line(fitted, fixed) for fixed in self._others()]

    def _line(self, fitted: PhaseMap, fixed: Mapping[str, Any]) -> Line:
        spans = [(one.low, one.high) for one in fitted.crossings(self.name, [1], fixed, LEVEL)]
        if spans:
            return Line(fixed, spans, max(high - low for low, high in spans))
        low, high = fitted.sure(self.name, [1], fixed, LEVEL) or (1.0, 1.0)
        spans = [span for span in ((0.0, low), (high, 1.0)) if span[1] > span[0]]
        return Line(fixed, spans or [(0.0, 1.0)], 1 - (high - low))

    def _others(self) -> list[dict[str, Any]]:
        others = [axis for axis in self.axes.axes if axis.name != self.name]
        places = [_places(axis) for axis in others]
        return [dict(zip((a.name for a in others), values, strict=True)) for values in itertools.product(*places)]


def _places(axis: Axis) -> tuple[Any, ...]:
    """Values of another axis at which the critical value is sought."""
    few = len(axis.choices) <= len(PLACES) or not axis.stepped
    return axis.choices if axis.choices and few else tuple(axis.value(place) for place in PLACES)
