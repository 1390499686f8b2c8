"""Which trials to run next, so that few of them show where the phases meet.

``Planner`` is the rule, on unit-cube points: a Sobol design first, then the points where the phase is least settled,
whole stacks at a time, given what is still running. ``boundary_sampler.py`` is the same rule for Optuna. Every ask is a
function of the seed and the history alone, so a sweep resumed from its record goes on as if never stopped. It trains
nothing and keeps no record; the map of the result is ``phase_map.PhaseMap``.

The rule is the straddle of Bryan et al. 2005 (1.96 sd - distance to the level), with the margin between the two
likeliest phases as the distance, on the regression of ``surrogate.py``; trials that are running or failed shrink the
variance around them but say nothing about phases. In large batches or on many axes it is k-nearest-neighbor
disagreement times the distance to the nearest trial, which such batches harm less.

Tried and no better: placing trials by the map's own logistic model (it finds fewer islands), a lengthscale for each
axis, running trials without noise; one trial in eight to the emptiest place, or the shortest lengthscale alone (both
find more islands and make maps of 256 trials worse).

Known limits (docs/boundaries.md has numbers): small islands beside a sharp boundary are mostly missed, because nothing
pulls trials to a region that none has met; labels that differ from seed to seed bound what any placement can save.
Never repeat points by hand: one seed a point is the best use of trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import qmc

from phasemap.maps import one_thread
from phasemap.maps.axes import Axes
from phasemap.maps.phase_map import PhaseMap, is_label, pool
from phasemap.maps.surrogate import Kernel, Surrogate, choose_kernel, correlation, factor_of, matern, with_one_more

CANDIDATES = 1024
SHORTLIST = 128  # candidates kept for the exact variance
GROUPS = 16  # shared values compared when a stack must share them
LARGE_BATCH = 32
MANY_AXES = 5
NEIGHBORS = 5


@dataclass(frozen=True)
class History:
    """What is known when trials are asked for: labeled points [N, D], labels [N], visited points without a label."""

    points: np.ndarray
    labels: np.ndarray
    visited: np.ndarray  # running or failed trials, [V, D]

    @property
    def all_points(self) -> np.ndarray:
        return np.concatenate([self.points, self.visited])


@dataclass(frozen=True)
class _Kept:
    """What one ask leaves to the next: the kernel, and the factor of its trials and of ``later`` ones [L, D]."""

    kernel: Kernel
    later: np.ndarray
    factor: np.ndarray

    def grown(self, axes: Axes, first: np.ndarray, later: np.ndarray) -> _Kept:
        """With the factor of ``first`` [U, D], which it has, and ``later``, of which it keeps the trials that agree."""
        both = min(len(self.later), len(later))
        differ = (self.later[:both] != later[:both]).any(1)
        same = int(differ.argmax()) if differ.any() else both
        size = len(first) + same
        factor = np.asfortranarray(self.factor[:size, :size])
        points = np.concatenate([first, later])
        for end in range(size + 1, len(points) + 1):
            factor = with_one_more(factor, axes, self.kernel, points[:end])
        return _Kept(self.kernel, later, factor)


@dataclass(frozen=True)
class Planner:
    """The rule that places trials.

    Args:
        axes: coordinates of the map.
        seed: with the history, fixes every ask.
        startup: trials of the Sobol design that comes first.
        method: "straddle", "neighbors", or "auto": neighbors from 32 trials an ask or 5 axes on.
        failed_label: None: a failed trial counts as a visit without a label, so that a crashing corner is not asked
            forever and does not stay empty either. A whole number: failing is a phase of its own.
    """

    axes: Axes
    seed: int = 0
    startup: int = 16
    method: str = "auto"
    failed_label: int | None = None
    _kept: dict[bytes, _Kept] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.method not in ("auto", "straddle", "neighbors"):
            raise ValueError(f"method: must be auto, straddle or neighbors, got {self.method!r}; choose one of these")

    @one_thread
    def ask(
        self,
        n: int,
        known_points: np.ndarray,
        known_labels: Sequence[Any] | np.ndarray,
        pending_points: np.ndarray | None = None,
        shared: Sequence[str] = (),
    ) -> np.ndarray:
        """The next ``n`` points, [n, D], in unit coordinates that can be tried.

        Args:
            n: trials wanted, for example the size of a stack.
            known_points: points of ended trials, [N, D], in any order that a resumed sweep can restore; cheapest
                where new trials come last.
            known_labels: their phases, [N]: whole numbers; None, NaN or negative where the trial failed.
            pending_points: points of trials still running, [V, D].
            shared: axes on which all ``n`` points must agree, because they fix tensor shapes. The value is chosen
                where the stack is worth most; there is no Sobol design then, the first stacks fill space.
        """
        history = self._history(known_points, known_labels, pending_points)
        chosen = np.zeros((0, len(self.axes.axes))) if shared else self._design_left(history)[:n]
        if len(chosen) == n:
            return chosen
        history = History(history.points, history.labels, np.concatenate([history.visited, chosen]))
        draws = np.random.default_rng([self.seed, len(history.all_points)])
        pick = self._by_neighbors if self._large(n) else self._by_straddle
        count = CANDIDATES if len(history.points) <= 512 else CANDIDATES // 2
        return np.concatenate([chosen, pick(n - len(chosen), history, self._candidates(draws, shared, count))])

    def uncertainty(self, known_points: np.ndarray, known_labels: Sequence[Any] | np.ndarray) -> float:
        """Share of the map expected to be drawn in the wrong phase, from 0 to 1; 1 before the design is done.

        A sweep ends when this falls below its target. Errs on the high side where boundaries are sharp. While only
        one phase is known it is 3 / trials, the 95 % bound on a share never met (rule of three, Hanley & Lippman-Hand
        1983).
        """
        history = self._history(known_points, known_labels, None)
        count = len(history.points)
        if count < max(self.startup, 3):
            return 1.0
        if len(np.unique(history.labels)) == 1:
            return 3 / count
        return PhaseMap.fit(history.points, history.labels.tolist(), self.axes).uncertainty()

    def _history(self, points: np.ndarray, labels: Sequence[Any] | np.ndarray, pending: np.ndarray | None) -> History:
        width = len(self.axes.axes)
        points = np.asarray(points, float).reshape(-1, width)
        valid = np.array([is_label(label) for label in labels], bool)
        known = np.array([int(label) if ok else -1 for label, ok in zip(labels, valid, strict=True)], int)
        if self.failed_label is not None:
            known, valid = np.where(valid, known, self.failed_label), np.ones(len(valid), bool)
        waiting = np.zeros((0, width)) if pending is None else np.asarray(pending, float).reshape(-1, width)
        return History(points[valid], known[valid], np.concatenate([points[~valid], waiting]))

    def _design_left(self, history: History) -> np.ndarray:
        """Points of the Sobol design nobody has asked for yet: each trial takes one that it equals."""
        design = self.axes.spread(sobol(len(self.axes.axes), self.startup, np.random.default_rng(self.seed)))
        free = np.ones(len(design), bool)
        distance = cdist(design, history.all_points)
        for column in np.nonzero(distance.min(0, initial=np.inf) < 1e-6)[0]:
            match = np.nonzero(free & (distance[:, column] < 1e-6))[0]
            free[match[:1]] = False
        return design[free]

    def _large(self, n: int) -> bool:
        if self.method == "auto":
            return n >= LARGE_BATCH or len(self.axes.axes) >= MANY_AXES
        return self.method == "neighbors"

    def _candidates(self, draws: np.random.Generator, shared: Sequence[str], count: int) -> list[np.ndarray]:
        """Sets of candidate points, each [M, D]; the points of one set agree on the shared axes."""
        width = len(self.axes.axes)
        if not shared:
            return [_distinct(self.axes, self.axes.spread(sobol(width, count, draws)))]
        columns = [self.axes.index(name) for name in shared]
        values = np.unique(self.axes.spread(sobol(width, 64, draws))[:, columns], axis=0)
        values = draws.permutation(values)[:GROUPS]
        sets = []
        for value in values:
            points = self.axes.spread(sobol(width, count // 4, draws))
            points[:, columns] = value
            sets.append(_distinct(self.axes, points))
        return sets

    def _by_straddle(self, n: int, history: History, sets: list[np.ndarray]) -> np.ndarray:
        model = self._surrogate(history)
        plans = [_straddle(model, n, points, history.visited) for points in sets]
        return max(plans, key=lambda plan: plan[1])[0]

    def _by_neighbors(self, n: int, history: History, sets: list[np.ndarray]) -> np.ndarray:
        plans = [_disagreement(self.axes, n, points, history) for points in sets]
        return max(plans, key=lambda plan: plan[1])[0]

    def _surrogate(self, history: History) -> Surrogate:
        """The kernel is chosen from the first trials, all but at most an eighth, and kept from ask to ask, as is the
        factor; both are a function of the history all the same."""
        count = len(history.points)
        count -= count % (1 << max(0, (count // 8).bit_length() - 1))
        labels, column = np.unique(history.labels, return_inverse=True)
        first, seen, showed = pool(history.points[:count], column[:count], max(len(labels), 1))
        later, ones = history.points[count:], np.eye(max(len(labels), 1))[column[count:]]
        key = history.points[:count].tobytes() + history.labels[:count].tobytes()
        if key not in self._kept:
            kernel = choose_kernel(self.axes, first, showed[:, showed.any(0)], seen)
            self._kept.clear()
            self._kept[key] = _Kept(kernel, later[:0], factor_of(self.axes, kernel, first, seen))
        kept = self._kept[key] = self._kept[key].grown(self.axes, first, later)
        points, hits = np.concatenate([first, later]), np.concatenate([showed, ones])
        counts = np.concatenate([seen, np.ones(len(later))])
        return Surrogate.fit(self.axes, kept.kernel, points, hits, counts, kept.factor)


def sobol(dimensions: int, count: int, draws: np.random.Generator) -> np.ndarray:
    """Scrambled Sobol points in [0, 1), [count, dimensions]."""
    return qmc.Sobol(dimensions, rng=draws).random_base2(max(count - 1, 0).bit_length())[:count]


def _distinct(axes: Axes, points: np.ndarray) -> np.ndarray:
    discrete = any(axis.choices for axis in axes.axes)
    return np.unique(points, axis=0) if discrete else points


def _straddle(model: Surrogate, n: int, points: np.ndarray, visited: np.ndarray) -> tuple[np.ndarray, float]:
    """Greedy straddle: ``n`` of the candidates [M, D], each chosen with the ones before it pending; and their worth."""
    points, across, margin = _shortlist(model, points)
    scale = 1.96 * math.sqrt(2 * model.amplitude)
    near = correlation(model.axes, model.kernel, model.points, visited)
    rows = solve_triangular(model.factor, np.concatenate([near, across], 1), lower=True, check_finite=False)
    posterior = _Variance(model, np.concatenate([visited, points]), rows)
    for j in range(len(visited)):
        posterior.condition(j)
    chosen: list[int] = []
    worth = 0.0
    for _ in range(n):
        score = scale * np.sqrt(posterior.variance[len(visited) :]) - margin
        if len(chosen) < len(points):  # a point is worth one seed; only a small grid is asked twice
            score[chosen] = -np.inf
        best = int(score.argmax())
        worth += float(score[best])
        chosen.append(best)
        posterior.condition(len(visited) + best)
    return points[chosen], worth


def _shortlist(model: Surrogate, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The candidates whose straddle could be highest, their correlation with the trials [U, M] and margin [M].

    The nearest trial alone bounds the variance from above.
    """
    across = correlation(model.axes, model.kernel, model.points, points)
    margin = model.margin(across)
    if len(points) <= SHORTLIST or len(model.points) <= 4 * SHORTLIST:
        return points, across, margin
    bound = np.maximum(1 - across.max(0) ** 2 / (1 + model.kernel.noise), 0)
    score = 1.96 * np.sqrt(2 * model.amplitude * bound) - margin
    keep = np.sort(np.argpartition(-score, SHORTLIST)[:SHORTLIST])
    return points[keep], across[:, keep], margin[keep]


class _Variance:
    """Posterior variance of points [M, D] (prior 1), updated as points among them become pending."""

    def __init__(self, model: Surrogate, points: np.ndarray, rows: np.ndarray):
        self.features = model.axes.features(points, model.kernel.lengthscales)
        self.noise = model.kernel.noise
        self.rows = rows  # [U, M] whitened correlations; one row more for each pending point
        self.variance = np.maximum(1 - (rows**2).sum(0), 1e-9)

    def condition(self, j: int) -> None:
        prior = matern(cdist(self.features, self.features[j : j + 1])[:, 0])
        row = (prior - self.rows.T @ self.rows[:, j]) / math.sqrt(self.variance[j] + self.noise)
        self.rows = np.concatenate([self.rows, row[None]])
        self.variance = np.maximum(self.variance - row**2, 1e-9)


def _disagreement(axes: Axes, n: int, points: np.ndarray, history: History) -> tuple[np.ndarray, float]:
    """Greedy ``n`` of the candidates [M, D] by entropy of the nearest labels x distance to a trial; their worth."""
    plain = [1.0] * len(axes.axes)
    features = axes.features(points, plain)
    entropy = _entropy_of_neighbors(features, axes.features(history.points, plain), history.labels)
    distance = cdist(features, axes.features(history.all_points, plain)).min(1, initial=2.0)
    chosen: list[int] = []
    worth = 0.0
    for _ in range(n):
        score = entropy * distance
        best = int(score.argmax())
        worth += float(score[best])
        chosen.append(best)
        distance = np.minimum(distance, cdist(features, features[best : best + 1])[:, 0])
    return points[chosen], worth


def _entropy_of_neighbors(features: np.ndarray, trials: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Entropy of the labels of the nearest trials, nearer ones counting more, [M]."""
    if not len(trials):
        return np.ones(len(features))
    distance, index = cKDTree(trials).query(features, k=range(1, 1 + min(NEIGHBORS, len(trials))))
    weight = 1 / (distance + 0.02)
    share = np.stack([(weight * (labels[index] == k)).sum(1) for k in np.unique(labels)], 1) + 0.1
    share /= share.sum(1, keepdims=True) + 0.1  # a little doubt is left where all neighbors agree
    return -(share * np.log(share)).sum(1)
