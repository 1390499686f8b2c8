"""Logistic edges whose place is a straight line: where trials begin and cease to generalize.

Along a coordinate ``along`` the probability rises at the start, falls at the end, or both, and the place of each edge
is ``at + slope * across``. Far from the other edge it is one half there. Two lapse rates, one outside the edges and one
inside (Wichmann and Hill 2001, Percept. Psychophys. 63:1293), keep odd trials from bending them:

    P = outside + (1 - outside - inside) * product over the edges of expit(distance into the region / steepness + shift)

with the shift that puts P = 0.5 at the place. Where the two edges have crossed there is no region left, so that lines
on which nothing generalizes say where the edges meet. A weak prior keeps the steepness of few trials from collapsing:
without it their intervals hold the truth too rarely. But an edge between two values tried, where all trials fail on one
side and all succeed on the other, may be of any steepness and stand anywhere between: intervals are as wide as those
without the prior, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from .likelihood import interval, limit, ratio_test

LAPSE = 0.4  # at most
TINY = 1e-9
SIDES = {"start": 1.0, "end": -1.0}  # the direction in which each edge's region lies
FIELDS = ("at", "slope", "steepness")
USUAL = 0.05  # steepness, in ranges of ``along``: the middle of its prior, lognormal with scatter 1
GRID = 7  # places of an edge from which the search starts, by as many slopes
STARTS = 6  # of them that are followed to the top
FINEST = 0.25, 0.02  # of the usual distance of neighbors: the steepest edges, with the prior and without
CLOSE = {"maxiter": 500, "ftol": 1e-11, "gtol": 1e-4}
STEEPEST = 30.0  # slopes, in ranges of ``along`` per range of ``across``


@dataclass(frozen=True)
class Trials:
    """``hits`` [U] of ``counts`` [U] trials generalized at the coordinates ``along`` [U] and ``across`` [U]."""

    along: np.ndarray
    across: np.ndarray
    hits: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Edges:
    """Parameters [3 E + 2 (+ E)] of E edges: at, slope and log steepness of each, the lapse rates outside and inside,
    and with ``bent`` what each place gains by the square of ``across``."""

    sides: tuple[str, ...]
    values: np.ndarray
    height: float  # log likelihood and prior
    bent: bool = False

    def column(self, side: str, name: str) -> int:
        if name == "square":
            return 3 * len(self.sides) + 2 + self.sides.index(side)
        return 3 * self.sides.index(side) + FIELDS.index(name)

    def of(self, side: str, name: str) -> float:
        return float(self.values[self.column(side, name)])

    @property
    def lapses(self) -> tuple[float, float]:
        """Outside and inside."""
        outside, inside = self.values[3 * len(self.sides) :][:2]
        return float(outside), float(inside)

    def probability(self, along: np.ndarray, across: np.ndarray) -> np.ndarray:
        return _chance(self.values, self.sides, self.bent, along, across)[0]


@dataclass(frozen=True)
class Problem:
    """Some trials, and the edges that are to explain them; ``free``: of any steepness, without the prior."""

    trials: Trials
    sides: tuple[str, ...]
    bent: bool = False
    free: bool = False

    def solve(self) -> Edges:
        """The likeliest edges, from the best of many starts."""
        return max((self.climb(start) for start in self._starts()), key=lambda edges: edges.height)

    def climb(self, start: np.ndarray, held: dict[int, float] | None = None) -> Edges:
        """The top above a start, with some parameters held."""
        low, high = np.array(self._bounds).T
        point = np.clip(start, low, high)
        for column, value in (held or {}).items():
            point[column] = low[column] = high[column] = value
        scale = self._scale(point)

        def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self._loss(scaled * scale)
            return value, slope * scale

        bounds = list(zip(low / scale, high / scale, strict=True))
        top = minimize(loss, point / scale, jac=True, method="L-BFGS-B", bounds=bounds, options=CLOSE)
        return Edges(self.sides, top.x * scale, -float(top.fun), self.bent)

    def interval(
        self, best: Edges, side: str, name: str, level: float, inside: tuple[float, float] | None = None
    ) -> tuple[float, float]:
        """Ends of the interval of a parameter, the wider of those with the prior and without; infinite beyond
        ``inside``, which is all that a search may try if not given."""
        ends = [problem._profile(top, side, name, level, inside) for problem, top in self._with_and_without(best)]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _with_and_without(self, best: Edges) -> Iterator[tuple[Problem, Edges]]:
        """This problem and its top, and the same without the prior."""
        yield self, best
        free = replace(self, free=True)
        yield free, free.climb(best.values)

    def _profile(
        self, best: Edges, side: str, name: str, level: float, inside: tuple[float, float] | None
    ) -> tuple[float, float]:
        column = best.column(side, name)
        tops = {best.values[column]: best.values}

        def deviance(value: float) -> float:
            near = tops[min(tops, key=lambda other: abs(other - value))]
            top = self.climb(near, {column: value})
            tops[value] = top.values
            return 2 * (best.height - top.height)

        step = self._ranges[0] / 20 / (self._ranges[1] if name == "slope" else 1)
        return interval(
            deviance, best.of(side, name), step, limit(level, self.freedom(best)), inside or self._bounds[column]
        )

    def place(
        self, best: Edges, side: str, across: float, level: float, inside: tuple[float, float]
    ) -> tuple[float, float, float]:
        """Where a straight edge stands at a value of ``across``, with the ends of its interval."""
        values = best.values.copy()
        for one in self.sides:
            values[best.column(one, "at")] += best.of(one, "slope") * across
        seen = replace(self, trials=replace(self.trials, across=self.trials.across - across))
        moved = replace(best, values=values)
        return moved.of(side, "at"), *seen.interval(moved, side, "at", level, inside)

    def straight(self, best: Edges, side: str) -> float:
        """P-value of a straight line at one edge, against edges that are all bent by squares: the larger of those with
        the prior and without."""
        return max(problem._straight(top, side) for problem, top in self._with_and_without(best))

    def _straight(self, best: Edges, side: str) -> float:
        bent = replace(self, bent=True)
        start = np.append(best.values, np.zeros(len(self.sides)))
        free = bent.climb(start)
        held = {free.column(side, "square"): 0.0}
        kept = max(bent.climb(point, held).height for point in (start, free.values))
        return ratio_test(2 * (free.height - kept), self.freedom(free))

    def freedom(self, best: Edges) -> float:
        """Degrees of freedom: the trials that place an edge, of which one at P = 0.5 counts whole and a certain one not
        at all, less three for each edge. Those of an edge steeper than usual are the trials that would place a usual
        one: they are certain, and say the more for it."""
        values, usual = best.values.copy(), math.log(USUAL * self._ranges[0])
        for side in best.sides:
            column = best.column(side, "steepness")
            values[column] = max(values[column], usual)
        chance = replace(best, values=values).probability(self.trials.along, self.trials.across)
        return max(1.0, float(4 * self.trials.counts @ (chance * (1 - chance))) - 3 * len(self.sides))

    def _scale(self, point: np.ndarray) -> np.ndarray:
        """How far each parameter may go before the likelihood falls: a standard error from the expected information."""
        chance, slopes = _chance(point, self.sides, self.bent, self.trials.along, self.trials.across)
        chance = np.clip(chance, TINY, 1 - TINY)
        information = slopes**2 @ (self.trials.counts / (chance * (1 - chance)))
        return 1 / np.sqrt(np.clip(information, 1, 1e6))

    @property
    def _ranges(self) -> tuple[float, float]:
        return float(np.ptp(self.trials.along)), float(np.ptp(self.trials.across))

    @property
    def _bounds(self) -> list[tuple[float, float]]:
        along, across = self._ranges
        gaps = np.diff(np.unique(self.trials.along))
        finest = FINEST[self.free] * max(float(np.median(gaps)), along / 125)
        steepest = STEEPEST * along / across
        reach = steepest * float(np.abs(self.trials.across).max()) + 3 * along
        middle = float(self.trials.along.mean())
        edge = [(middle - reach, middle + reach), (-steepest, steepest), (math.log(finest), math.log(along))]
        return [*edge * len(self.sides), (0.0, LAPSE), (0.0, LAPSE), *[(-math.inf, math.inf)] * self._squares]

    @property
    def _squares(self) -> int:
        return len(self.sides) if self.bent else 0

    def _starts(self) -> list[np.ndarray]:
        """The likeliest of many coarse edges."""
        along, across = self._ranges
        low, middle = self.trials.along.min(), (self.trials.across.min() + self.trials.across.max()) / 2
        slopes = np.linspace(-1.5, 1.5, GRID) * along / across
        coarse = [
            (low + share * along - slope * middle, slope, math.log(along / 15))
            for share, slope in itertools.product(np.linspace(0, 1, GRID), slopes)
        ]
        sets = itertools.product(coarse, repeat=len(self.sides))
        points = [np.array([*itertools.chain(*edges), 0.02, 0.05]) for edges in sets]
        return sorted(points, key=lambda point: self._loss(point)[0])[:STARTS]

    def _loss(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log likelihood, with the prior of the steepness, and its gradient."""
        data = self.trials
        chance, slopes = _chance(point, self.sides, self.bent, data.along, data.across)
        chance = np.clip(chance, TINY, 1 - TINY)
        misses = data.counts - data.hits
        loss = -(data.hits @ np.log(chance) + misses @ np.log1p(-chance))
        gradient = -slopes @ (data.hits / chance - misses / (1 - chance))
        if self.free:
            return float(loss), gradient
        logs = slice(2, 3 * len(self.sides), 3)
        off = point[logs] - math.log(USUAL * self._ranges[0])
        gradient[logs] += off
        return float(loss) + float(off @ off) / 2, gradient


def _chance(
    point: np.ndarray, sides: Sequence[str], bent: bool, along: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probability [U] and its derivatives [parameters, U]."""
    count = len(sides)
    outside, inside = point[3 * count : 3 * count + 2]
    squares = point[3 * count + 2 :] if bent else np.zeros(count)
    shift, height = math.log((0.5 - outside) / (0.5 - inside)), 1 - outside - inside
    edges, depths = [], []
    for i, side in enumerate(sides):
        at, slope, log_steepness = point[3 * i : 3 * i + 3]
        place = at + slope * across + squares[i] * across**2
        depths.append(SIDES[side] * (along - place) * math.exp(-log_steepness))
        edges.append(expit(depths[i] + shift))
    product = np.prod(edges, 0)
    falls = [height * product * (1 - edge) for edge in edges]  # by the depth in each edge
    slopes = np.empty((len(point), len(along)))
    for i, (side, fall, depth) in enumerate(zip(sides, falls, depths, strict=True)):
        by_place = -SIDES[side] * fall * math.exp(-point[3 * i + 2])
        slopes[3 * i : 3 * i + 3] = by_place, by_place * across, -fall * depth
        if bent:
            slopes[3 * count + 2 + i] = by_place * across**2
    total = sum(falls)
    slopes[3 * count] = 1 - product - total / (0.5 - outside)
    slopes[3 * count + 1] = -product + total / (0.5 - inside)
    return outside + height * product, slopes
