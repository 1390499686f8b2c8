"""Coordinates of a map: fields of trials <-> points of the unit cube.

A field is a continuous axis (evenly or in its logarithm), a set of ordered numbers, or a set of unordered words.
``Axes.features`` says how far apart two points are, which is all a Gaussian process asks of them. Knows neither
trials nor phases.

Letters: N points, D axes, F features (an unordered axis has one per choice).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

MOST_CHOICES = 1000  # values kept of a whole-number axis
EVEN = 0.5  # standard deviation of the steps over their mean, below which they count as even
FACTOR = 4.0  # of the last value to the first, from which on a logarithm shows

Spacing = Literal["linear", "log", "rank"]


def spacing(numbers: Sequence[float]) -> Spacing:
    """How rising numbers are spaced: evenly, evenly in the logarithm, or neither, so that only their order counts.

    One rule for the sampler, the terminal and the figures, so that two maps of one sweep agree.
    """
    values = np.asarray(numbers, float)
    if len(values) < 3:
        return "linear"
    uneven: dict[Spacing, float] = {"linear": _uneven(values)}
    if values[0] > 0 and values[-1] >= FACTOR * values[0]:
        uneven["log"] = _uneven(np.log(values))
    best = min(uneven, key=lambda kind: uneven[kind])
    return best if uneven[best] < EVEN else "rank"


def _uneven(values: np.ndarray) -> float:
    steps = np.diff(values)
    return float(steps.std() / steps.mean())


@dataclass(frozen=True)
class Axis:
    """One field of a trial as a coordinate in [0, 1].

    ``choices`` empty: every number from ``low`` to ``high``, evenly in the logarithm if ``log``.
    ``choices`` of numbers: ordered, in the logarithm if ``log``, else as ``spacing`` finds them spaced.
    Other choices: unordered, any two of them equally far apart.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Any, ...] = ()
    stepped: bool = False  # the choices are the steps of a range, of which a few may stand for all

    def __post_init__(self) -> None:
        if not self.choices and not self.low < self.high:
            raise ValueError(f"{self.name}: low < high must hold, got {self.low!r} and {self.high!r}; swap them")
        start = self.choices[0] if self.choices else self.low
        if self.log and self.ordered and start <= 0:
            raise ValueError(f"{self.name}: a log axis must start above 0, got {start!r}; raise it or use log=False")

    @cached_property
    def ordered(self) -> bool:
        return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in self.choices)

    @cached_property
    def spacing(self) -> Spacing:
        """Of the choices; words have ranks alone."""
        if not self.ordered:
            return "rank"
        return "log" if self.log else spacing(self.choices)

    @cached_property
    def positions(self) -> np.ndarray:
        """Unit coordinate of each choice, [choices]."""
        count = len(self.choices)
        if self.spacing == "rank" or count < 3:
            return np.linspace(0, 1, count)
        numbers = np.array(self.choices, float)
        placed = np.log(numbers) if self.spacing == "log" else numbers
        return (placed - placed[0]) / (placed[-1] - placed[0])

    def unit(self, values: Sequence[Any]) -> np.ndarray:
        """Field values -> unit coordinates, [N]."""
        if self.choices and not self.ordered:
            return self.positions[[self.choices.index(v) for v in values]]
        numbers = np.asarray(values, float)
        if self.choices:
            choices = np.array(self.choices, float)
            if self.log:
                numbers, choices = np.log(numbers), np.log(choices)
            return np.interp(numbers, choices, self.positions)
        low, high = self._ends
        return ((np.log(numbers) if self.log else numbers) - low) / (high - low)

    def value(self, unit: float, exact: bool = True) -> Any:
        """Unit coordinate -> field value; ``exact=False`` interpolates between ordered choices (128 | 256 -> 181)."""
        if self.choices and (exact or not self.ordered):
            return self.choices[int(np.abs(self.positions - unit).argmin())]
        if self.choices:
            numbers = np.array(self.choices, float)
            geometric = numbers.min() > 0 and self.spacing != "linear"
            between = np.interp(unit, self.positions, np.log(numbers) if geometric else numbers)
            return float(np.exp(between)) if geometric else float(between)
        low, high = self._ends
        number = low + float(unit) * (high - low)
        return min(max(float(np.exp(number)) if self.log else number, self.low), self.high)

    def snap(self, units: np.ndarray) -> np.ndarray:
        """Nearest allowed unit coordinates."""
        if not self.choices:
            return np.clip(units, 0, 1)
        middles = (self.positions[1:] + self.positions[:-1]) / 2
        return self.positions[np.searchsorted(middles, units)]

    def spread(self, uniform: np.ndarray) -> np.ndarray:
        """Uniform draws in [0, 1) -> allowed unit coordinates: every choice equally often, or evenly in the logarithm
        if ``log``."""
        if not self.choices:
            return uniform
        if self.log and self.ordered:
            chosen = np.searchsorted(self._shares, uniform, side="right")
        else:
            chosen = (uniform * len(self.choices)).astype(int)
        return self.positions[np.minimum(chosen, len(self.choices) - 1)]

    def line(self, most: float) -> np.ndarray:
        """Even unit coordinates, about ``most``: centers of cells, at least 4, or choices, both ends among them."""
        if not self.choices:
            size = max(4, int(most))
            return (np.arange(size) + 0.5) / size
        if len(self.choices) <= most:
            return self.positions
        return np.unique(self.snap(np.linspace(0, 1, max(2, int(most)))))

    @cached_property
    def _shares(self) -> np.ndarray:
        """Share of the axis up to and with each choice, [choices]: each has half the gap on either side, an end one
        as much beyond it as before it, or it would come half as often as its neighbor."""
        gaps = np.diff(self.positions) if len(self.choices) > 1 else np.ones(1)
        upto = np.cumsum(np.append(gaps[:1], gaps) + np.append(gaps, gaps[-1:]))
        return upto / upto[-1]

    @property
    def _ends(self) -> tuple[float, float]:
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)


@dataclass(frozen=True)
class Axes:
    """The coordinates of a map: D fields <-> the unit cube."""

    axes: tuple[Axis, ...]

    @classmethod
    def from_distributions(cls, space: Mapping[str, Any]) -> Axes:
        """Axes of Optuna distributions, read by their attributes (Optuna itself is not imported).

        Whole numbers and steps become choices; categories that are numbers become ordered.
        """
        return cls(tuple(_from_distribution(name, d) for name, d in space.items()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    def index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"{name}: not an axis of this map; use one of {', '.join(self.names)}")
        return self.names.index(name)

    def hold(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has a value, known to this map, on every axis."""
        return all(a.name in row and (a.ordered or row[a.name] in a.choices) for a in self.axes)

    def unit(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Rows of field values -> points [N, D]."""
        columns = [axis.unit([row[axis.name] for row in rows]) for axis in self.axes]
        return np.stack(columns, 1) if rows else np.zeros((0, len(self.axes)))

    def values(self, points: np.ndarray) -> list[dict[str, Any]]:
        """Points [N, D] -> rows of field values, each in its own type."""
        return [{a.name: a.value(u) for a, u in zip(self.axes, point, strict=True)} for point in points]

    def snap(self, points: np.ndarray) -> np.ndarray:
        """Nearest points that can be tried, [N, D]."""
        return np.stack([axis.snap(points[:, i]) for i, axis in enumerate(self.axes)], 1)

    def spread(self, uniform: np.ndarray) -> np.ndarray:
        """Uniform draws [N, D] -> points that can be tried, as even as the draws."""
        return np.stack([axis.spread(uniform[:, i]) for i, axis in enumerate(self.axes)], 1)

    def lattice(self, most: int = 4096) -> np.ndarray:
        """An even lattice of at most about ``most`` points, [M, D]: cell centers, or the choices of an axis.

        Where these are too many, steps of a range are thinned first: they share evenly with the continuous axes. Lists
        are thinned where they leave no 4 points to each of those, words never.
        """
        listed = [axis for axis in self.axes if axis.choices and axis.ordered and not axis.stepped]
        rest = [axis for axis in self.axes if axis.stepped or not axis.choices]
        lines = {axis.name: axis.positions for axis in self.axes if not axis.ordered}
        for axes, share in ((listed, most / 4 ** len(rest)), (rest, most)):
            level = _level([len(axis.choices) or math.inf for axis in axes], share / _points(lines))
            lines |= {axis.name: axis.line(level) for axis in axes}
        return np.stack(np.meshgrid(*(lines[name] for name in self.names), indexing="ij"), -1).reshape(-1, len(lines))

    def features(self, points: np.ndarray, lengthscales: Sequence[float]) -> np.ndarray:
        """Points [N, D] -> [N, F], so that Euclidean distance is in lengthscales; unordered choices are one-hot."""
        columns = []
        for i, (axis, scale) in enumerate(zip(self.axes, lengthscales, strict=True)):
            if axis.choices and not axis.ordered:
                same = np.abs(points[:, i, None] - axis.positions) < 0.5 / len(axis.choices)
                columns.append(same * (0.5 / scale))
            else:
                columns.append(points[:, i, None] / scale)
        return np.concatenate(columns, 1)


def unit_axes(count: int) -> Axes:
    """``count`` plain axes from 0 to 1."""
    return Axes(tuple(Axis(f"x{i}") for i in range(count)))


def _points(lines: Mapping[str, np.ndarray]) -> int:
    return math.prod(len(line) for line in lines.values())


def _level(lengths: Sequence[float], most: float) -> float:
    """The length to which the longer ones must be cut for the product of all to be at most ``most``."""
    for i, length in enumerate(sorted(lengths)):
        level = most ** (1 / (len(lengths) - i))
        if length > level:
            return level
        most /= length
    return math.inf


def _from_distribution(name: str, distribution: Any) -> Axis:
    if hasattr(distribution, "choices"):
        return Axis(name, choices=_in_order(distribution.choices))
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is None:
        return Axis(name, float(low), float(high), distribution.log)
    count = round((high - low) / step) + 1
    if distribution.log and count > MOST_CHOICES:
        index = np.unique(np.round((np.geomspace(low, high, MOST_CHOICES) - low) / step))
    else:
        index = np.unique(np.linspace(0, count - 1, min(count, MOST_CHOICES)).round())
    choices = tuple(type(step)(low + int(i) * step) for i in index)
    return Axis(name, choices=choices, log=distribution.log, stepped=True)


def _in_order(values: Sequence[Any]) -> tuple[Any, ...]:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return tuple(sorted(set(values))) if numbers else tuple(dict.fromkeys(values))
