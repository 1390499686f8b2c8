"""A quick picture of the phases, for the choice of the next trials: regression of one-hot labels.

Gaussian process regression, Matern 3/2, whose noise and lengthscale leave-one-out predictions choose (Rasmussen &
Williams 2006, section 5.4.2). Its intervals are too narrow where phases meet: maps are read by ``log_odds.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import spotri
from scipy.spatial.distance import cdist

from phasemap.maps.axes import Axes
from phasemap.maps.log_odds import neighbors

LENGTHSCALES = (0.1, 0.18, 0.32)  # in units of an axis; longer ones place trials no better
NOISES = (0.04, 0.13, 0.4)  # variance of a label's noise / variance of the signal
BLOCK = 192  # points in one block of the leave-one-out score


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
    return matern(cdist(axes.features(left, kernel.lengthscales), axes.features(right, kernel.lengthscales)))


def matern(distance: np.ndarray) -> np.ndarray:
    """Matern 3/2 correlation at distances in lengthscales, of any shape."""
    scaled = distance.astype(np.float32)  # half the time, and noise of 0.04 forgives the digits
    scaled *= np.float32(math.sqrt(3))
    return (1 + scaled) * np.exp(-scaled)


def _noisy(matrix: np.ndarray, noise: float, counts: np.ndarray) -> np.ndarray:
    matrix[np.diag_indices_from(matrix)] += (noise / counts + 1e-5).astype(np.float32)
    return matrix


def factor_of(axes: Axes, kernel: Kernel, points: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of the correlation of ``points`` [U, D] plus noise, [U, U]."""
    matrix = _noisy(correlation(axes, kernel, points, points), kernel.noise, counts)
    return cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)


def with_one_more(factor: np.ndarray, axes: Axes, kernel: Kernel, points: np.ndarray) -> np.ndarray:
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
    inverse = spotri(factor_of(axes, kernel, points, counts), lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    rest = hits / counts[:, None] - hits.sum(0) / counts.sum()
    weights, variance = inverse @ rest, 1 / np.diag(inverse)
    amplitude = max(float((rest * weights).mean()), 1e-6)
    missed = ((weights * variance[:, None]) ** 2).mean(1)
    return float((counts * (np.log(amplitude * variance) + missed / (amplitude * variance))).sum() / 2)
