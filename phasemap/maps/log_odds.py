"""The log-odds of one phase (or set of phases) against the rest, from scattered trials.

A logistic Gaussian process, Matern 5/2, Laplace's approximation (Rasmussen & Williams 2006, chapter 3), with the
lengthscale of each axis and the amplitude of greatest evidence.

Lapse rates (Wichmann & Hill 2001, Percept. Psychophys. 63:1293): a phase may occur at a rate above 0 far below its
boundary, and miss far above it. Without them a plateau at 0.3 bends the log-odds into boundaries that are not there.
Rates and kernels are averaged over those that the search for the likeliest has met.

Letters: U distinct points, M points asked about, D axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import expit, log_expit

from phasemap.maps.axes import Axes

BLOCK = 256  # points in one block of the evidence; larger maps are scored block by block
DRAWS = 400  # posterior draws behind an interval
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
        place; a map smoother than the edge runs ahead of it by the first, toward the rate nearer to one half."""
        excess = self.excess(odds)
        excess[1::2] = odds[1::2]
        return excess


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
