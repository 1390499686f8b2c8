"""Which trials to run next, so that few of them show where the phases meet.

``Planner`` is the rule, on unit-cube points: a Sobol design first, then the points where the phase is least settled,
whole stacks at a time, given what is still running. ``BoundarySampler`` is the same rule as an Optuna sampler. Every
ask is a function of the seed and the history alone, so a sweep resumed from its record goes on as if never stopped.
It trains nothing and keeps no record; the map of the result is ``phase_map.PhaseMap``.

The rule is the straddle of Bryan et al. 2005 (1.96 sd - distance to the level), with the margin between the two
likeliest phases as the distance, on a Gaussian process regression of one-hot labels; trials that are running or failed
shrink the variance around them but say nothing about phases. In large batches or on many axes it is k-nearest-neighbor
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import spotri
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import qmc

from phasemap.maps import one_thread
from phasemap.maps.axes import Axes
from phasemap.maps.log_odds import neighbors
from phasemap.maps.phase_map import PhaseMap, is_label, pool

LENGTHSCALES = (0.1, 0.18, 0.32)  # in units of an axis; longer ones place trials no better
NOISES = (0.04, 0.13, 0.4)  # variance of a label's noise / variance of the signal
BLOCK = 192  # points in one block of the leave-one-out score
CANDIDATES = 1024
SHORTLIST = 128  # candidates kept for the exact variance
GROUPS = 16  # shared values compared when a stack must share them
LARGE_BATCH = 32
MANY_AXES = 5
NEIGHBORS = 5


@dataclass(frozen=True)
class Kernel:
    """Lengthscales (in units of an axis) and noise variance / signal variance."""

    lengthscales: tuple[float, ...]
    noise: float


@dataclass(frozen=True)
class Surrogate:
    """Gaussian process regression of one-hot labels, Matern 3/2: quick, and good enough to say where to look.

    Letters: U distinct points, M points asked about, D axes, P phases.
    """

    axes: Axes
    kernel: Kernel
    points: np.ndarray  # [U, D]
    factor: np.ndarray  # [U, U] lower Cholesky factor of correlation plus noise
    weights: np.ndarray  # [U, P]
    prior: np.ndarray  # [P]
    amplitude: float  # prior variance of one phase's signal

    @classmethod
    def fit(
        cls, axes: Axes, kernel: Kernel, points: np.ndarray, hits: np.ndarray, counts: np.ndarray, factor: np.ndarray
    ) -> Surrogate:
        """From ``hits`` [U, P] of ``counts`` [U] trials at ``points`` [U, D] and their ``factor``; U may be 0."""
        prior = hits.sum(0) / max(counts.sum(), 1)
        rest = (hits / counts[:, None] - prior).astype(np.float32)
        weights = cho_solve((factor, True), rest, check_finite=False)
        amplitude = float(((rest * weights).sum() + 0.1) / (rest.size + 2))  # above 0 with a single phase
        return cls(axes, kernel, points, factor, weights, prior.astype(np.float32), amplitude)

    def margin(self, across: np.ndarray) -> np.ndarray:
        """Likeliest minus second likeliest phase, [M], from correlations with the trials [U, M]."""
        mean = np.sort(self.prior + across.T @ self.weights, 1)
        return mean[:, -1] - mean[:, -2] if mean.shape[1] > 1 else np.ones(len(mean))


def correlation(axes: Axes, kernel: Kernel, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Matern 3/2 correlation, [len(left), len(right)]."""
    return _matern(cdist(axes.features(left, kernel.lengthscales), axes.features(right, kernel.lengthscales)))


def _matern(distance: np.ndarray) -> np.ndarray:
    scaled = distance.astype(np.float32)  # half the time, and noise of 0.04 forgives the digits
    scaled *= np.float32(math.sqrt(3))
    return (1 + scaled) * np.exp(-scaled)


def _noisy(matrix: np.ndarray, noise: float, counts: np.ndarray) -> np.ndarray:
    matrix[np.diag_indices_from(matrix)] += (noise / counts + 1e-5).astype(np.float32)
    return matrix


def _factor(axes: Axes, kernel: Kernel, points: np.ndarray, counts: np.ndarray) -> np.ndarray:
    matrix = _noisy(correlation(axes, kernel, points, points), kernel.noise, counts)
    return cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)


def _with_one_more(factor: np.ndarray, axes: Axes, kernel: Kernel, points: np.ndarray) -> np.ndarray:
    """The factor of ``points`` [U + 1, D] from that of all but the last. One at a time, so that its last digits do
    not depend on when it was grown; in LAPACK's order, which saves a copy at each use."""
    size = len(factor)
    side = solve_triangular(
        factor, correlation(axes, kernel, points[:-1], points[-1:])[:, 0], lower=True, check_finite=False
    )
    whole = np.zeros((size + 1, size + 1), np.float32, order="F")
    whole[:size, :size], whole[size, :size] = factor, side
    whole[size, size] = math.sqrt(max(1 + kernel.noise + 1e-5 - float(side @ side), 1e-6))
    return whole


def choose_kernel(axes: Axes, points: np.ndarray, hits: np.ndarray, counts: np.ndarray) -> Kernel:
    """The best leave-one-out kernel, one lengthscale for all axes.

    A lengthscale for each axis helps the map but not the placing of trials: it makes early asks overconfident.
    """
    dimensions = len(axes.axes)
    if len(points) < 3 or hits.shape[1] < 2:  # nothing to learn from a single phase
        return Kernel((0.32,) * dimensions, 0.4)
    blocks = list(neighbors(points, BLOCK))

    def score(kernel: Kernel) -> float:
        return sum(_leave_one_out(axes, kernel, points[b], hits[b], counts[b]) for b in blocks)

    return min((Kernel((scale,) * dimensions, noise) for scale in LENGTHSCALES for noise in NOISES), key=score)


def _leave_one_out(axes: Axes, kernel: Kernel, points: np.ndarray, hits: np.ndarray, counts: np.ndarray) -> float:
    """Negative log density of each point's label given all others, summed (Rasmussen & Williams 2006, eq. 5.10-12)."""
    inverse = spotri(_factor(axes, kernel, points, counts), lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    rest = hits / counts[:, None] - hits.sum(0) / counts.sum()
    weights, variance = inverse @ rest, 1 / np.diag(inverse)
    amplitude = max(float((rest * weights).mean()), 1e-6)
    missed = ((weights * variance[:, None]) ** 2).mean(1)
    return float((counts * (np.log(amplitude * variance) + missed / (amplitude * variance))).sum() / 2)


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
            factor = _with_one_more(factor, axes, self.kernel, points[:end])
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
        design = self.axes.spread(_sobol(len(self.axes.axes), self.startup, np.random.default_rng(self.seed)))
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
            return [_distinct(self.axes, self.axes.spread(_sobol(width, count, draws)))]
        columns = [self.axes.index(name) for name in shared]
        values = np.unique(self.axes.spread(_sobol(width, 64, draws))[:, columns], axis=0)
        values = draws.permutation(values)[:GROUPS]
        sets = []
        for value in values:
            points = self.axes.spread(_sobol(width, count // 4, draws))
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
            self._kept[key] = _Kept(kernel, later[:0], _factor(self.axes, kernel, first, seen))
        kept = self._kept[key] = self._kept[key].grown(self.axes, first, later)
        points, hits = np.concatenate([first, later]), np.concatenate([showed, ones])
        counts = np.concatenate([seen, np.ones(len(later))])
        return Surrogate.fit(self.axes, kept.kernel, points, hits, counts, kept.factor)


def _sobol(dimensions: int, count: int, draws: np.random.Generator) -> np.ndarray:
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
        prior = _matern(cdist(self.features, self.features[j : j + 1])[:, 0])
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


class BoundarySampler(optuna.samplers.BaseSampler):
    """``Planner`` as an Optuna sampler: a study whose objective returns the phase (a whole number) maps the phases.

    The direction of the study plays no role. Float, int and categorical distributions mix freely; categories that are
    numbers are ordered. Trials that are running count as pending, so ``study.ask`` may be called any number of times
    before a ``tell``; a study rebuilt from its trials, in order, goes on as if never stopped. Report a whole number
    even for a diverged trial: a NaN value leaves some Optuna front ends with a trial that runs forever.

    Args:
        space: name -> distribution; other parameters are drawn at random.
        seed, startup, method, failed_label: as in ``Planner``.
        phase_attribute: user attribute holding the phase; the trial's (first) value if left out.
        target: ``stop_when_certain`` ends the study once ``Planner.uncertainty`` is below this.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        seed: int = 0,
        startup: int = 16,
        method: str = "auto",
        failed_label: int | None = None,
        phase_attribute: str | None = None,
        target: float = 0.0,
    ):
        self.space = {name: d for name, d in space.items() if not d.single()}
        self.planner = Planner(Axes.from_distributions(self.space), seed, startup, method, failed_label)
        self.phase_attribute = phase_attribute
        self.target = target
        self._others = optuna.samplers.RandomSampler(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        points, labels, pending = self._read(study, without=trial.number)
        return self.planner.axes.values(self.planner.ask(1, points, labels, pending))[0]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._others.reseed_rng()

    def stop_when_certain(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """A callback for ``study.optimize`` that ends it at the target."""
        points, labels, _ = self._read(study, without=-1)
        if self.planner.uncertainty(points, labels) < self.target:
            study.stop()

    def phase_map(self, study: optuna.Study) -> PhaseMap:
        """The map of the study's trials so far."""
        points, labels, _ = self._read(study, without=-1)
        return PhaseMap.fit(points, labels, self.planner.axes)

    def _read(self, study: optuna.Study, without: int) -> tuple[np.ndarray, list[int | None], np.ndarray]:
        axes = self.planner.axes
        every = study.get_trials(deepcopy=False)
        trials = [t for t in every if t.number != without and axes.hold(t.params)]
        ended = [t for t in trials if t.state.is_finished()]
        waiting = [t.params for t in trials if not t.state.is_finished()]
        return axes.unit([t.params for t in ended]), [self._label(t) for t in ended], axes.unit(waiting)

    def _label(self, trial: FrozenTrial) -> int | None:
        """The phase of an ended trial; None if it failed or did not say."""
        if trial.state != TrialState.COMPLETE:
            return None
        if self.phase_attribute is not None:
            label = trial.user_attrs.get(self.phase_attribute)
        else:
            label = trial.values[0] if trial.values else None
        return round(label) if isinstance(label, (int, float)) and is_label(label) else None
