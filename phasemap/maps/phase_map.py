"""A map of phases from scattered trials: probability of each phase, its uncertainty, and where the boundaries stand.

``PhaseMap`` reads trials in the unit coordinates of ``axes.Axes``, whether they came from a grid, a Sobol design or
the boundary sampler. numpy and scipy only: it draws nothing, reads no file and asks for no trial.

Letters: N trials, U distinct points, M points asked about, D axes, P phases.

The model is a logistic Gaussian process for each phase against the rest, Matern 5/2, Laplace's approximation
(Rasmussen & Williams 2006, chapter 3), with the lengthscale of each axis and the amplitude of greatest evidence.
Phases are unordered. Labels are least certain where phases meet, which a regression on 0/1 labels cannot know: its
intervals are too narrow by a third. Reading adaptive points by nearest neighbors is worse than a plain grid, because
the points crowd where labels are mixed.

Boundaries are read with lapse rates (Wichmann & Hill 2001, Percept. Psychophys. 63:1293): a phase may occur at a rate
above 0 far below its boundary, and miss far above it. Without them a plateau at 0.3 bends the log-odds into boundaries
that are not there. Rates and kernels are averaged over those that the search for the likeliest has met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import expit, log_expit, ndtr, ndtri

from phasemap.maps import one_thread
from phasemap.maps.axes import Axes, unit_axes

BLOCK = 256  # points in one block of the evidence; larger maps are scored block by block
LINE = 257  # places at which a boundary is looked for along an axis
DRAWS = 400  # posterior draws behind an interval
SURE = 0.7  # share of the draws that must show a boundary for it to be reported
READINGS = 7  # kernels and lapse rates averaged over
RATES = (0.0, 0.1, 0.2, 0.3, 0.4)  # lapse rates tried
LAPSE = 0.5  # scale of their prior, exponential
USUAL, STEEP = 15.0, 150.0  # middle of the prior of the amplitude, without and with lapses to explain odd labels
STEP = 1.7
Lapse = tuple[float, float]  # rate at which the phase shows far below its boundary, and is missed far above it
NONE: Lapse = (0.0, 0.0)
Move = tuple[float, float, int | None]  # factor on lengthscales, factor on the amplitude, axis (None: all)
MOVES: tuple[Move, ...] = (
    (1.0, STEP**2, None),
    (1.0, STEP**-2, None),
    (STEP, 1.0, None),
    (1 / STEP, 1.0, None),
    *((factor, 1.0, i) for i in range(8) for factor in (STEP, 1 / STEP)),
)


@dataclass(frozen=True)
class Kernel:
    """Lengthscale of each axis (in units of the axis) and variance of the log-odds."""

    lengthscales: tuple[float, ...]
    amplitude: float


@dataclass(frozen=True)
class Field:
    """Posterior log-odds of one phase (or set of phases) against the rest."""

    axes: Axes
    kernel: Kernel
    points: np.ndarray  # [U, D]
    slope: np.ndarray  # [U] gradient of the log likelihood at the mode
    factor: np.ndarray  # [U, U] lower Cholesky factor of I + root K root
    root: np.ndarray  # [U] square root of the labels' information

    @classmethod
    def fit(
        cls,
        axes: Axes,
        points: np.ndarray,
        hits: np.ndarray,
        counts: np.ndarray,
        kernel: Kernel | None,
        lapse: Lapse = NONE,
    ) -> Field:
        """From ``hits`` [U] of ``counts`` [U] trials at ``points`` [U, D] that showed the phase."""
        kernel = kernel or choose_kernel(axes, points, hits, counts)
        mode = _laplace(covariance(axes, kernel, points, points), hits, counts, lapse=lapse)
        return cls(axes, kernel, points, mode.slope, mode.factor, mode.root)

    def mean(self, points: np.ndarray) -> np.ndarray:
        """At M points, [M]."""
        return covariance(self.axes, self.kernel, points, self.points) @ self.slope

    def log_odds(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance at M points, two [M]; the variance is the costly half."""
        middle, known = self._given_trials(points)
        return middle, np.maximum(self.kernel.amplitude - (known**2).sum(0), 1e-9)

    def draws(self, points: np.ndarray, count: int = DRAWS) -> np.ndarray:
        """Joint posterior draws of the log-odds, [count, M]; the same ones at every call."""
        middle, known = self._given_trials(points)
        values, vectors = np.linalg.eigh(covariance(self.axes, self.kernel, points, points) - known.T @ known)
        normal = np.random.default_rng(0).standard_normal((count, len(points)))
        return middle + (normal * np.sqrt(np.maximum(values, 0))) @ vectors.T

    def _given_trials(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean [M], and a root [U, M] of what the trials take off the prior covariance."""
        across = covariance(self.axes, self.kernel, points, self.points)
        known = solve_triangular(self.factor, self.root[:, None] * across.T, lower=True, check_finite=False)
        return across @ self.slope, known


@dataclass(frozen=True)
class Reading:
    """Log-odds under one kernel and lapse rates, with its share of the posterior."""

    field: Field
    lapse: Lapse
    share: float

    def excess(self, odds: np.ndarray) -> np.ndarray:
        """Probability of the phase above one half, from log-odds."""
        return _chance(odds, self.lapse) - 0.5

    def edges(self, odds: np.ndarray) -> np.ndarray:
        """Draws of log-odds [draws, M] that are positive beyond the boundary: of every second draw where the phase is
        as likely as not, of the others the middle between its rates on either side. A sharp edge has both at one
        place; a map smoother than the edge runs ahead of it by the first, towards the rate nearer to one half."""
        excess = self.excess(odds)
        excess[1::2] = odds[1::2]
        return excess


class Boundary(NamedTuple):
    """Where a set of phases becomes as likely as not, in field values."""

    position: float
    low: float
    high: float
    n: int  # trials within one lengthscale of it
    rises: bool  # the set is likelier above the position than below


@dataclass(frozen=True)
class PhaseMap:
    """Phase probabilities over ``axes``, from trials that may repeat a point, be missing, or disagree."""

    axes: Axes
    phases: tuple[Any, ...]
    points: np.ndarray  # [U, D]
    counts: np.ndarray  # [U] trials at each point
    hits: np.ndarray  # [U, P] trials in each phase at each point
    fields: tuple[Field | None, ...]  # one per phase; None where every trial or no trial showed it

    @classmethod
    @one_thread
    def fit(
        cls,
        points: np.ndarray,
        labels: Sequence[Any] | np.ndarray,
        axes: Axes | None = None,
        phases: Sequence[Any] | None = None,
        kernels: Sequence[Kernel | None] | None = None,
    ) -> PhaseMap:
        """Reads N trials.

        Args:
            points: unit coordinates, [N, D].
            labels: phase of each trial, [N]; names or whole numbers. None, NaN and negative numbers mean that the
                trial failed: it is left out.
            axes: the coordinates; plain unit axes if left out.
            phases: the columns of ``probability``; the labels met, sorted, if left out.
            kernels: one for each phase, from ``kernels`` of an earlier map, to skip the search for the best.
        """
        points = np.asarray(points, float)
        axes = axes or unit_axes(points.shape[1])
        valid = np.array([is_label(label) for label in labels], bool)
        known = [label for label in labels if is_label(label)]
        if not known:
            raise ValueError("a phase map needs at least one labeled trial, got none; run some or check the labels")
        names = tuple(sorted(set(known)) if phases is None else phases)
        unknown = set(known) - set(names)
        if unknown:
            raise ValueError(f"labels must be among the phases {names}, got {sorted(unknown)}; add them to phases")
        pooled, counts, hits = pool(points[valid], np.array([names.index(k) for k in known]), len(names))
        fields = _fields(axes, pooled, counts, hits, kernels or [None] * len(names))
        return cls(axes, names, pooled, counts, hits, fields)

    @property
    def kernels(self) -> tuple[Kernel | None, ...]:
        return tuple(field.kernel if field else None for field in self.fields)

    def probability(self, points: np.ndarray) -> np.ndarray:
        """Probability that a fresh trial shows each phase, [M, P], rows sum to 1."""
        # At the mode of the log-odds: averaging over their posterior costs twice the log loss on known truths.
        points = np.asarray(points, float)
        each = expit(
            np.stack([f.mean(points) if f else self._certain(k, points) for k, f in enumerate(self.fields)], 1)
        )
        clipped = np.clip(each, 1e-9, 1)
        return clipped / clipped.sum(1, keepdims=True)

    def phase(self, points: np.ndarray) -> list[Any]:
        """The likeliest phase at each point, [M]."""
        return [self.phases[i] for i in self.probability(points).argmax(1)]

    def entropy(self, points: np.ndarray) -> np.ndarray:
        """Shannon entropy of ``probability`` in bits, [M]; seeds that disagree keep it above 0 forever."""
        p = self.probability(points)
        return -(p * np.log2(p)).sum(1)

    def ambiguity(self, points: np.ndarray) -> np.ndarray:
        """Probability that the likeliest phase is another than the one drawn, [M]; more trials bring it to 0."""
        middle, variance = self._log_odds(points)
        if len(self.phases) == 1:
            return np.zeros(len(points))
        first, second = np.argsort(-middle, 1)[:, :2].T
        row = np.arange(len(points))
        spread = variance[row, first] + variance[row, second]
        if len(self.phases) == 2:  # one field and its mirror image: fully correlated
            spread = 4 * variance[row, first]
        return ndtr(-(middle[row, first] - middle[row, second]) / np.sqrt(spread))

    @one_thread
    def uncertainty(self, most: int = 1024) -> float:
        """Share of the map expected to be drawn in the wrong phase, from 0 to 1: mean ambiguity over the axes."""
        return float(self.ambiguity(self.axes.lattice(most)).mean())

    @one_thread
    def band(self, points: np.ndarray, phases: Sequence[Any], level: float = 0.9) -> np.ndarray:
        """Low, middle and high probability that a trial shows one of ``phases``, [3, M].

        The 0.5 contours of the low and the high surface enclose the band of the middle one. It is wider than it need
        be away from trials; ``boundaries``, line by line, is calibrated.
        """
        middle, variance = self.field(phases).log_odds(points)
        reach = ndtri(0.5 + level / 2) * np.sqrt(variance)
        return expit(np.stack([middle - reach, middle, middle + reach]))

    @one_thread
    def boundaries(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None, level: float = 0.9
    ) -> list[Boundary]:
        """Every place along ``axis`` where the probability of ``phases`` crosses 0.5, in field values, ascending.

        Args:
            axis: an ordered axis.
            phases: the phases counted as one.
            fixed: field values of all other axes.
            level: mass of the interval, which comes from joint posterior draws along the line: it holds the boundary
                with this probability if there is one. A boundary that three in ten of the draws lack is not reported.
        """
        place = self.axes.index(axis)
        along = self.axes.axes[place]
        if along.choices and not along.ordered:
            raise ValueError(f"{axis}: a boundary needs an ordered axis, got categories; use another axis")
        readings = self._readings(tuple(phases))
        points = self._line(place, np.linspace(0, 1, LINE), fixed or {})
        draws = _joined(readings, Reading.edges, points)
        middle, boundaries = self._excess(readings, points), []
        for crossing in crossings_with_intervals(middle, draws, level):
            near = self._trials_near(readings[0].field, self._line(place, np.array([crossing.place]), fixed or {}))
            position, low, high = (float(along.value(u, exact=False)) for u in crossing[:3])
            boundaries.append(Boundary(position, low, high, near, crossing.rises))
        return boundaries

    def boundary_position(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None, level: float = 0.9
    ) -> Boundary | None:
        """The one boundary on a line (see ``boundaries``): the best determined if there are several, None if none."""
        boundaries = self.boundaries(axis, phases, fixed, level)
        unit = self.axes.axes[self.axes.index(axis)].unit
        return min(boundaries, key=lambda b: float(np.ptp(unit([b.low, b.high])))) if boundaries else None

    @one_thread
    def clear(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None, level: float = 0.9
    ) -> tuple[float, float] | None:
        """The stretch of a line, in field values, that holds no boundary with probability ``level``; None if the map
        is sure of no place. Where no boundary is reported, one may stand outside."""
        place = self.axes.index(axis)
        readings = self._readings(tuple(phases))
        points = self._line(place, np.linspace(0, 1, LINE), fixed or {})
        draws = _joined(readings, Reading.excess, points)
        ends = longest_stretch(draws > 0, level)
        if ends is None:
            return None
        low, high = (float(self.axes.axes[place].value(k / (LINE - 1), exact=False)) for k in ends)
        return low, high

    def likely(self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None) -> bool:
        """Whether ``phases`` are likelier than not over most of a line along ``axis``."""
        points = self._line(self.axes.index(axis), np.linspace(0, 1, LINE), fixed or {})
        return float(np.median(self._excess(self._readings(tuple(phases)), points))) > 0

    def _excess(self, readings: Sequence[Reading], points: np.ndarray) -> np.ndarray:
        """Probability above one half at M points, averaged over the readings: [M]."""
        return sum((r.share * r.excess(r.field.mean(points)) for r in readings), np.zeros(len(points)))

    def _readings(self, phases: tuple[Any, ...]) -> tuple[Reading, ...]:
        """The likeliest kernels and lapse rates of a set of phases, likeliest first."""
        if phases not in self._read:
            hits = self.hits[:, self._columns(phases)].sum(1)
            states = choose_readings(self.axes, self.points, hits, self.counts)
            fields = [Field.fit(self.axes, self.points, hits, self.counts, k, lapse) for k, lapse, _ in states]
            self._read[phases] = tuple(Reading(f, *state[1:]) for f, state in zip(fields, states, strict=True))
        return self._read[phases]

    @cached_property
    def _read(self) -> dict[tuple[Any, ...], tuple[Reading, ...]]:
        return {}

    def field(self, phases: Sequence[Any]) -> Field:
        """Log-odds of a set of phases, taken as one, against all others."""
        columns = self._columns(phases)
        if len(columns) == 1 and (ready := self.fields[columns[0]]):
            return ready
        return Field.fit(self.axes, self.points, self.hits[:, columns].sum(1), self.counts, None)

    def _columns(self, phases: Sequence[Any]) -> list[int]:
        missing = [p for p in phases if p not in self.phases]
        if missing:
            raise ValueError(f"phases: must be among {self.phases}, got {missing}; use some of these")
        return [self.phases.index(p) for p in phases]

    def _log_odds(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = np.asarray(points, float)
        middle, variance = np.zeros((2, len(points), len(self.phases)))
        for k, field in enumerate(self.fields):
            if field is None:
                middle[:, k] = self._certain(k, points)
            else:
                middle[:, k], variance[:, k] = field.log_odds(points)
        return middle, variance

    def _certain(self, k: int, points: np.ndarray) -> np.ndarray:
        """Log-odds of a phase that every trial or none showed, [M]."""
        return np.full(len(points), 20.0 if self.hits[:, k].any() else -20.0)

    def _line(self, place: int, line: np.ndarray, fixed: Mapping[str, Any]) -> np.ndarray:
        missing = set(self.axes.names) - set(fixed) - {self.axes.names[place]}
        if missing:
            raise ValueError(
                f"fixed: every other axis needs a value, got none for {', '.join(sorted(missing))}; add it"
            )
        columns = [
            line if i == place else np.full(len(line), float(other.unit([fixed[other.name]])[0]))
            for i, other in enumerate(self.axes.axes)
        ]
        return np.stack(columns, 1)

    def _trials_near(self, field: Field, point: np.ndarray) -> int:
        scales = field.kernel.lengthscales
        distance = cdist(self.axes.features(point, scales), self.axes.features(self.points, scales))[0]
        return int(self.counts[distance <= 1].sum())


def is_label(label: Any) -> bool:
    """False for what a failed trial leaves behind: None, NaN or a negative number."""
    return label is not None and (isinstance(label, str) or label >= 0)


def pool(points: np.ndarray, column: np.ndarray, phases: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trials at the same point become one: points [U, D], counts [U], trials in each phase [U, P]."""
    pooled, inverse, counts = np.unique(np.round(points, 9), axis=0, return_inverse=True, return_counts=True)
    hits = np.zeros((len(pooled), phases))
    np.add.at(hits, (inverse.ravel(), column), 1)
    return pooled, counts.astype(float), hits


def covariance(axes: Axes, kernel: Kernel, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Matern 5/2 covariance of the log-odds, [len(left), len(right)]."""
    scaled = math.sqrt(5) * cdist(axes.features(left, kernel.lengthscales), axes.features(right, kernel.lengthscales))
    return kernel.amplitude * (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def choose_kernel(axes: Axes, points: np.ndarray, hits: np.ndarray, counts: np.ndarray) -> Kernel:
    """Climbs to the likeliest kernel: all lengthscales, each one, and the amplitude, by fixed factors.

    Likeliest: evidence times a broad prior, without which a few odd labels buy a very short lengthscale.
    """
    blocks = list(neighbors(points, BLOCK))
    start = [np.zeros(len(b)) for b in blocks]
    known: dict[Kernel, float] = {}

    def score(kernel: Kernel) -> float:
        if kernel not in known:
            known[kernel] = _log_prior(kernel)
            for i, b in enumerate(blocks):
                mode = _laplace(covariance(axes, kernel, points[b], points[b]), hits[b], counts[b], start[i])
                known[kernel] += mode.evidence
                start[i] = mode.odds
        return known[kernel]

    best, improved = Kernel((0.6,) * len(axes.axes), 10.0), True
    while improved and len(known) < 80:
        improved = False
        for move in MOVES[: 4 if len(axes.axes) == 1 or len(points) < 24 else None]:
            tried = _moved(best, *move)
            if tried is not None and score(tried) > score(best) + 0.05:
                best, improved = tried, True
    return best


State = tuple[Kernel, Lapse]


def choose_readings(
    axes: Axes, points: np.ndarray, hits: np.ndarray, counts: np.ndarray
) -> list[tuple[Kernel, Lapse, float]]:
    """The likeliest kernels and lapse rates with their shares of the posterior, likeliest first.

    Climbs as ``choose_kernel`` does, by the same factors and from rate to rate, from three starts: without
    lapses, and with many on either side.
    """
    blocks = list(neighbors(points, BLOCK))
    known: dict[State, float] = {}

    def score(state: State) -> float:
        if state not in known:
            kernel, lapse = state
            evidence = [
                _laplace(covariance(axes, kernel, points[b], points[b]), hits[b], counts[b], lapse=lapse).evidence
                for b in blocks
            ]
            known[state] = _log_prior(kernel, STEEP if sum(lapse) else USUAL) - sum(lapse) / LAPSE + sum(evidence)
        return known[state]

    kernel = choose_kernel(axes, points, hits, counts)
    for start in ((kernel, NONE), (Kernel((0.6,) * len(axes.axes), 30.0), (0.2, 0.0)), (kernel, (0.0, 0.2))):
        best, improved, spent = start, True, len(known) + 40
        while improved and len(known) < spent:
            improved = False
            for tried in _beside(best):
                if score(tried) > score(best) + 0.05:
                    best, improved = tried, True
    kernel = max(known, key=lambda state: known[state])[0]
    for low in RATES:
        for high in RATES:
            if low + high <= 0.5:
                score((kernel, (low, high)))
    top = sorted(known, key=lambda state: -known[state])[:READINGS]
    weights = np.exp(np.array([known[state] for state in top]) - known[top[0]])
    shares = weights / weights.sum()
    return [(*state, float(share)) for state, share in zip(top, shares, strict=True) if share > 0.01]


def _beside(state: State) -> Iterator[State]:
    """States one move away: another lapse rate, all lengthscales, the amplitude."""
    kernel, lapse = state
    for side in (0, 1):
        for step in (1, -1):
            place = RATES.index(lapse[side]) + step
            if 0 <= place < len(RATES):
                low, high = (RATES[place] if i == side else lapse[i] for i in (0, 1))
                if low + high <= 0.5:
                    yield kernel, (low, high)
    for move in MOVES[:4]:
        if moved := _moved(kernel, *move):
            yield moved, lapse


def _chance(odds: np.ndarray, lapse: Lapse) -> np.ndarray:
    """Probability of the phase at log-odds, between its two lapse rates."""
    return lapse[0] + (1 - sum(lapse)) * expit(odds)


def _log_prior(kernel: Kernel, amplitude: float = USUAL) -> float:
    scales = np.log(np.array(kernel.lengthscales) / 0.6) / 0.8
    return -float((scales**2).sum() + (np.log(kernel.amplitude / amplitude) / 1.2) ** 2) / 2


def _moved(kernel: Kernel, scale: float, amplitude: float, axis: int | None) -> Kernel | None:
    """``kernel`` with one axis (None: all) and the amplitude multiplied, kept within bounds; None if unchanged."""
    if axis is not None and axis >= len(kernel.lengthscales):
        return None
    scales = tuple(
        round(min(max(s * scale, 0.08), 4.0), 4) if axis in (None, i) else s for i, s in enumerate(kernel.lengthscales)
    )
    if max(scales) > 1.01 * STEP * min(scales):  # a crowd of trials on one boundary makes long thin phases of islands
        return None
    moved = Kernel(scales, round(min(max(kernel.amplitude * amplitude, 1.0), 300.0), 4))
    return None if moved == kernel else moved


def neighbors(points: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Indices of neighboring points, at most ``most`` at a time: halved along the widest axis until small."""

    def halve(index: np.ndarray) -> Iterator[np.ndarray]:
        if len(index) <= most:
            yield index
            return
        widest = int(np.ptp(points[index], axis=0).argmax())
        order = index[np.argsort(points[index, widest], kind="stable")]
        for half in np.array_split(order, 2):
            yield from halve(half)

    yield from halve(np.arange(len(points)))


class _Mode(NamedTuple):
    slope: np.ndarray
    factor: np.ndarray
    root: np.ndarray
    odds: np.ndarray
    evidence: float


def _laplace(
    prior: np.ndarray, hits: np.ndarray, counts: np.ndarray, start: np.ndarray | None = None, lapse: Lapse = NONE
) -> _Mode:
    """Mode of the log-odds at U points by Newton's method (Rasmussen & Williams, algorithm 3.1, binomial labels).

    With lapse rates the likelihood is not log-concave: the information is the expected one, which is never
    negative, and a step that does not climb is halved.
    """
    odds, before, pull = np.zeros(len(hits)) if start is None else start, -np.inf, None
    for _ in range(50):
        slope, weight = _slope(odds, hits, counts, lapse)
        root = np.sqrt(weight)
        factor = cholesky(np.eye(len(hits)) + root[:, None] * prior * root, lower=True, check_finite=False)
        aim = weight * odds + slope
        new = aim - root * cho_solve((factor, True), root * (prior @ aim), check_finite=False)
        fit = _fit(prior @ new, new, hits, counts, lapse)
        for _ in range(4 if lapse != NONE and pull is not None else 0):
            if fit >= before:
                break
            new = (new + pull) / 2
            fit = _fit(prior @ new, new, hits, counts, lapse)
        odds, pull = prior @ new, new
        if fit < before + 1e-3:
            break
        before = fit
    return _Mode(slope, factor, root, odds, fit - float(np.log(np.diag(factor)).sum()))


def _slope(odds: np.ndarray, hits: np.ndarray, counts: np.ndarray, lapse: Lapse) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the log likelihood by the log-odds, and the expected information: two [U]."""
    plain = expit(odds)
    if lapse == NONE:
        return hits - counts * plain, counts * plain * (1 - plain)
    chance, turn = _chance(odds, lapse), (1 - sum(lapse)) * plain * (1 - plain)
    spread = np.maximum(chance * (1 - chance), 1e-12)
    return (hits - counts * chance) * turn / spread, counts * turn**2 / spread


def _fit(odds: np.ndarray, pull: np.ndarray, hits: np.ndarray, counts: np.ndarray, lapse: Lapse) -> float:
    """Log likelihood and log prior of the log-odds."""
    if lapse == NONE:
        return float(hits @ log_expit(odds) + (counts - hits) @ log_expit(-odds) - pull @ odds / 2)
    chance = np.clip(_chance(odds, lapse), 1e-12, 1 - 1e-12)
    return float(hits @ np.log(chance) + (counts - hits) @ np.log1p(-chance) - pull @ odds / 2)


def _fields(
    axes: Axes, points: np.ndarray, counts: np.ndarray, hits: np.ndarray, kernels: Sequence[Kernel | None]
) -> tuple[Field | None, ...]:
    fields: list[Field | None] = []
    for k, kernel in enumerate(kernels):
        mixed = 0 < hits[:, k].sum() < counts.sum()
        twin = kernels[0] or (fields[0].kernel if fields and fields[0] else None)
        given = twin if len(kernels) == 2 else kernel  # two phases mirror each other
        fields.append(Field.fit(axes, points, hits[:, k], counts, given) if mixed else None)
    return tuple(fields)


def _joined(
    readings: Sequence[Reading], read: Callable[[Reading, np.ndarray], np.ndarray], points: np.ndarray
) -> np.ndarray:
    """Posterior draws along a line, about ``DRAWS`` in all, of each reading as many as its share: [draws, M]."""
    return np.concatenate([read(r, r.field.draws(points, max(1, round(r.share * DRAWS)))) for r in readings])


def longest_stretch(signs: np.ndarray, level: float) -> tuple[int, int] | None:
    """First and last place of the longest stretch on which a share ``level`` of the draws has one and the same sign.

    Args:
        signs: of each draw at each place, [draws, M] bool.

    Returns:
        None where so many share no sign anywhere.
    """
    best, places = None, signs.shape[1]
    for odd in (signs, ~signs):
        # the first place from each on where a draw has the other sign, [draws, M]
        met = np.minimum.accumulate(np.where(odd, np.arange(places), places)[:, ::-1], 1)[:, ::-1]
        end = np.quantile(met, 1 - level, axis=0, method="lower") - 1
        start = int((end - np.arange(places)).argmax())
        if end[start] >= start and (best is None or end[start] - start > best[1] - best[0]):
            best = start, int(end[start])
    return best


class Crossing(NamedTuple):
    """A change of sign along a line from 0 to 1, with its interval."""

    place: float
    low: float
    high: float
    rises: bool


def crossings_with_intervals(middle: np.ndarray, draws: np.ndarray, level: float) -> list[Crossing]:
    """Every change of sign of ``middle`` [M] that most of the ``draws`` [draws, M] show, with quantiles of the places
    that answer it there."""
    crossings = []
    for sign in (1, -1):
        spots = rises(sign * middle)
        answers = np.array([_answers(spots, sign * middle, sign * draw) for draw in draws])
        for k, spot in enumerate(spots):
            there = answers[~np.isnan(answers[:, k]), k]
            if ((there > 0) & (there < 1)).sum() < SURE * len(draws):
                continue
            low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
            crossings.append(Crossing(spot, min(low, spot), max(high, spot), sign > 0))
    return sorted(crossings)


def rises(odds: np.ndarray) -> np.ndarray:
    """Places in [0, 1] where evenly spaced log-odds [M] turn positive, interpolated."""
    before = np.nonzero((odds[:-1] <= 0) & (odds[1:] > 0))[0]
    return (before + odds[before] / (odds[before] - odds[before + 1])) / (len(odds) - 1)


def _answers(spots: np.ndarray, middle: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Where ``draw`` rises in place of ``middle``, which rises at ``spots``: [spots].

    Edges of one direction alone are compared: the start of a band never answers its end. Each place answers the spot
    nearest to it, and no other. A spot that nothing answers has left by an end of the line, if it was the outermost
    edge there and the draw has the other sign; else its region is absent from this draw, which then says nothing of
    where the region begins or ends: NaN.
    """
    answers, places = np.full(len(spots), np.nan), rises(draw)
    gap = np.abs(places[:, None] - spots)
    for k in range(len(spots)):
        own = gap.argmin(1) == k
        if own.any():
            answers[k] = places[own][gap[own, k].argmin()]
        elif k == 0 and middle[0] <= 0 < draw[0]:
            answers[k] = 0.0
        elif k == len(spots) - 1 and draw[-1] <= 0 < middle[-1]:
            answers[k] = 1.0
    return answers
