"""Places the trials of a sweep that seeks one number: where along an axis generalization becomes as likely as not.

At each value of the other axes. Trials go to the line whose interval is widest, to places where its boundary may
stand, until every interval is as narrow as was asked for. Every ask is a function of the seed and the history alone.
It trains nothing; ``explorer.py`` gives it trials, ``phase_map.py`` reads them.

Letters: N trials, D axes, V trials that still run.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from phasemap.maps.axes import Axes
from phasemap.maps.phase_map import PhaseMap

GENERALIZED = ("comprehension", "grokking", "collapse")  # phases of a trial that has generalized at some step
PLACES = (0.1, 0.5, 0.9)  # of a continuous axis, the lines at which the critical value is sought
STARTUP = 16  # labeled trials before the first look
LEVEL = 0.9
SPREADS = 3.3  # an interval of 90 % in standard deviations
Labels = Sequence[int | None]


class Line(NamedTuple):
    """What is known of the critical value on one line, in lengths of the axis."""

    fixed: Mapping[str, Any]  # values of the other axes
    spans: list[tuple[float, float]]  # where boundaries may stand
    width: float  # of the widest interval; without a boundary, of what may still hold one


@dataclass(frozen=True)
class Zoom:
    """Seeks the critical value of ``name`` to intervals (90 %) no wider than ``target`` lengths of its axis."""

    axes: Axes
    name: str
    target: float
    seed: int = 0
    _kept: dict[bytes, list[Line]] = field(default_factory=dict, compare=False, repr=False)  # of the last history

    def ask(self, n: int, points: np.ndarray, labels: Labels, pending: np.ndarray) -> np.ndarray | None:
        """The next ``n`` points, [n, D], all on one line; None while too little is known to zoom.

        Args:
            points: unit coordinates of ended trials, [N, D].
            labels: whether each generalized, [N]: 1 or 0; None where that is not known.
            pending: points of trials still running, [V, D].
        """
        lines = self.lines(points, labels)
        if not lines:
            return None
        place = self.axes.index(self.name)
        at = [self._point(line.fixed, 0.5) for line in lines]
        waiting = [int((np.abs(np.delete(pending - one, place, 1)) < 1e-6).all(1).sum()) for one in at]
        chosen = int(np.argmax([line.width / (1 + count / n) for line, count in zip(lines, waiting, strict=True)]))
        draws = np.random.default_rng([self.seed, len(points), len(pending)])
        drawn = np.tile(at[chosen], (n, 1))
        spans = lines[chosen].spans
        for row, (low, high) in zip(drawn, itertools.cycle(spans), strict=False):
            row[place] = np.clip(draws.normal((low + high) / 2, max(high - low, self.target) / SPREADS), 0, 1)
        return self.axes.snap(drawn)

    def met(self, points: np.ndarray, labels: Labels) -> bool:
        """Whether every interval is narrow enough."""
        lines = self.lines(points, labels)
        return bool(lines) and max(line.width for line in lines) <= self.target

    def lines(self, points: np.ndarray, labels: Labels) -> list[Line]:
        """What is known line by line; nothing until trials have gone both ways."""
        known = [k for k, label in enumerate(labels) if label is not None]
        generalized = np.array([labels[k] for k in known], int)
        if len(known) < STARTUP or len(set(generalized.tolist())) < 2:
            return []
        history = points[known].tobytes() + generalized.tobytes()
        if history not in self._kept:
            fitted = PhaseMap.fit(points[known], generalized, self.axes, phases=(0, 1))
            self._kept.clear()
            self._kept[history] = [self._line(fitted, fixed) for fixed in self._others()]
        return self._kept[history]

    def _line(self, fitted: PhaseMap, fixed: Mapping[str, Any]) -> Line:
        unit = self.axes.axes[self.axes.index(self.name)].unit
        spans = [tuple(unit([b.low, b.high]).tolist()) for b in fitted.boundaries(self.name, [1], fixed, LEVEL)]
        if spans:
            return Line(fixed, spans, max(high - low for low, high in spans))
        clear = fitted.clear(self.name, [1], fixed, LEVEL)
        low, high = unit(clear).tolist() if clear else (1.0, 1.0)
        spans = [span for span in ((0.0, low), (high, 1.0)) if span[1] > span[0]]
        return Line(fixed, spans or [(0.0, 1.0)], 1 - (high - low))

    def _others(self) -> list[dict[str, Any]]:
        others = [axis for axis in self.axes.axes if axis.name != self.name]
        places = [axis.choices or tuple(axis.value(place) for place in PLACES) for axis in others]
        return [dict(zip((a.name for a in others), values, strict=True)) for values in itertools.product(*places)]

    def _point(self, fixed: Mapping[str, Any], place: float) -> np.ndarray:
        return np.array([place if a.name == self.name else float(a.unit([fixed[a.name]])[0]) for a in self.axes.axes])
