"""A map of phases from scattered trials: probability of each phase, its uncertainty, and where the boundaries stand.

``PhaseMap`` reads trials in the unit coordinates of ``axes.Axes``, whether they came from a grid, a Sobol design or
the boundary sampler. numpy and scipy only: it draws nothing, reads no file and asks for no trial.

Letters: N trials, U distinct points, M points asked about, D axes, P phases.

Phases are unordered: each has its log-odds against the rest (``log_odds.py``). Labels are least certain where phases
meet, which a regression on 0/1 labels cannot know: its intervals are too narrow by a third. Reading adaptive points by
nearest neighbors is worse than a plain grid, because the points crowd where labels are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import expit, ndtr, ndtri

from phasemap.maps import one_thread
from phasemap.maps.axes import Axes, unit_axes
from phasemap.maps.crossings import Crossing, crossings_with_intervals, longest_stretch
from phasemap.maps.log_odds import DRAWS, Field, Kernel, Reading, choose_readings
from phasemap.words import count

OPEN = 1e-6  # lengths from an end of the axis at which an interval reaches it
LINE = 257  # places at which a boundary is looked for along an axis
SAME = 1e-6  # distance, in lengths of an axis, up to which two values are one


class Boundary(NamedTuple):
    """Where a set of phases becomes as likely as not, in field values."""

    position: float
    low: float  # -inf where the interval reaches the start of the axis
    high: float  # inf where it reaches the end
    n: int  # trials within one lengthscale of it
    rises: bool  # the set is likelier above the position than below


@dataclass(frozen=True, repr=False)
class PhaseMap:
    """Phase probabilities over ``axes``, from trials that may repeat a point, be missing, or disagree.

    Each phase has log-odds against the rest, a logistic Gaussian process (Rasmussen and Williams 2006, chapter 3).
    """

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

        Raises:
            ValueError: no trial has a label, or one has a label that ``phases`` lacks.
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

    def __repr__(self) -> str:
        over, trials = " x ".join(self.axes.names), count(int(self.counts.sum()), "trial")
        return f"PhaseMap({over}: {', '.join(map(str, self.phases))}; {trials} at {count(len(self.points), 'point')})"

    @property
    def kernels(self) -> tuple[Kernel | None, ...]:
        """The fitted kernel of each phase; none for a phase without a field of its own."""
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
                with this probability if there is one. It is open where it reaches an end of the axis. A boundary that
                three in ten of the draws lack is not reported. Between two values tried on the line whose trials all
                agree, one way below and the other above, the boundary may stand anywhere: the interval ends no sooner
                than they.

        Raises:
            ValueError: the axis is unknown or has no order, a phase is unknown, or ``fixed`` lacks an axis.
        """
        found = self.crossings(axis, phases, fixed, level)
        return [self._boundary(axis, phases, fixed, crossing) for crossing in found]

    def _boundary(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None, crossing: Crossing
    ) -> Boundary:
        place = self.axes.index(axis)
        field = self._readings(tuple(phases))[0].field
        near = self._trials_near(field, self._line(place, np.array([crossing.place]), fixed or {}))
        position = float(self.axes.axes[place].value(crossing.place, exact=False))
        return Boundary(position, *self._ends(place, crossing.low, crossing.high), near, crossing.rises)

    @one_thread
    def crossings(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None, level: float = 0.9
    ) -> list[Crossing]:
        """As ``boundaries``, in lengths of the axis from 0 to 1: an open interval ends at the end of the axis."""
        place = self.axes.index(axis)
        if self.axes.axes[place].choices and not self.axes.axes[place].ordered:
            raise ValueError(f"{axis}: a boundary needs an ordered axis, got categories; use another axis")
        readings = self._readings(tuple(phases))
        points = self._line(place, np.linspace(0, 1, LINE), fixed or {})
        draws = _joined(readings, Reading.edges, points)
        found = crossings_with_intervals(self._excess(readings, points), draws, level)
        untried = [self._untried(place, fixed or {}, phases, one) for one in found]
        return [
            one._replace(low=min(one.low, start), high=max(one.high, end))
            for one, (start, end) in zip(found, untried, strict=True)
        ]

    def _untried(
        self, place: int, fixed: Mapping[str, Any], phases: Sequence[Any], crossing: Crossing
    ) -> tuple[float, float]:
        """The stretch around a crossing between two neighbors tried on its line, if their trials all agree, one way
        below and the other above: nothing says where in it the crossing stands. Else its place, twice."""
        off = np.abs(self.points - self._line(place, np.zeros(1), fixed))
        off[:, place] = 0
        on = np.flatnonzero(off.max(1) < SAME)
        tried, hits = self.points[on, place], self.hits[on][:, self._columns(phases)].sum(1)
        below, above = np.flatnonzero(tried <= crossing.place), np.flatnonzero(tried > crossing.place)
        if not (len(below) and len(above)):
            return crossing.place, crossing.place
        first, last = below[tried[below].argmax()], above[tried[above].argmin()]
        none, every = (first, last) if crossing.rises else (last, first)
        if hits[none] > 0 or hits[every] < self.counts[on[every]]:
            return crossing.place, crossing.place
        return float(tried[first]), float(tried[last])

    def boundary_position(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None, level: float = 0.9
    ) -> Boundary | None:
        """The one boundary on a line (see ``boundaries``): the best determined if there are several, None if none.

        Raises:
            ValueError: as of ``boundaries``.
        """
        found = self.crossings(axis, phases, fixed, level)
        best = min(found, key=lambda one: one.high - one.low, default=None)
        return None if best is None else self._boundary(axis, phases, fixed, best)

    @one_thread
    def clear(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None, level: float = 0.9
    ) -> tuple[float, float] | None:
        """The stretch of a line, in field values, that holds no boundary with probability ``level``; None if the map
        is sure of no place. Where no boundary is reported, one may stand outside. An end at an end of the axis is open:
        -inf or inf."""
        stretch = self.sure(axis, phases, fixed, level)
        return self._ends(self.axes.index(axis), *stretch) if stretch else None

    @one_thread
    def sure(
        self, axis: str, phases: Sequence[Any], fixed: Mapping[str, Any] | None = None, level: float = 0.9
    ) -> tuple[float, float] | None:
        """As ``clear``, in lengths of the axis from 0 to 1."""
        place = self.axes.index(axis)
        readings = self._readings(tuple(phases))
        points = self._line(place, np.linspace(0, 1, LINE), fixed or {})
        draws = _joined(readings, Reading.excess, points)
        ends = longest_stretch(draws > 0, level)
        return (ends[0] / (LINE - 1), ends[1] / (LINE - 1)) if ends else None

    def _ends(self, place: int, low: float, high: float) -> tuple[float, float]:
        """Field values of an interval in lengths of an axis; what reaches an end of the axis is open."""
        first, last = (float(self.axes.axes[place].value(end, exact=False)) for end in (low, high))
        return -math.inf if low <= OPEN else first, math.inf if high >= 1 - OPEN else last

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
