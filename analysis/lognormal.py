"""Censored regression: logarithms of times that are known to lie between two values, with normal scatter.

The accelerated failure time model: log time = design @ coefficients + scatter * a standard normal number (Kalbfleisch
and Prentice 1980, chapter 3). In coefficients / scatter and 1 / scatter the log likelihood is concave (Burridge 1981,
J. R. Stat. Soc. B 43:41), so the highest point that Newton's method finds is the only one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_ndtr

from .likelihood import fisher_test, interval, student_limit

FLAT = 1e-8  # gradient per trial at which the top is reached
ENDLESS = 5.0  # scatter in logarithms: a factor 150, as where nearly all known times lie before the first evaluation
ROUND = 10.0  # widths of the known intervals over the scatter from which on it looks like none


class Undetermined(ValueError):
    """The times have no likeliest law, or no single one."""


@dataclass(frozen=True)
class Times:
    """Logarithms of n times: each is above ``low`` [n] and at most ``high`` [n] (infinite where censored), with the
    columns [n, p] of ``design`` that explain it."""

    low: np.ndarray
    high: np.ndarray
    design: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Whether a time was seen to end, [n] (bool)."""
        return np.isfinite(self.high)

    def along(self, row: np.ndarray) -> Times:
        """The same times in other coefficients: the first one is the mean at this ``row`` [p] of the design, whose
        first column is 1."""
        return Times(self.low, self.high, np.column_stack([self.design[:, 0], self.design[:, 1:] - row[1:]]))

    def held(self, column: int, value: float) -> Times:
        """With a coefficient held at a value: its column leaves the design."""
        shift = value * self.design[:, column]
        return Times(self.low - shift, self.high - shift, np.delete(self.design, column, 1))

    @cached_property
    def fit(self) -> Fit:
        """The likeliest law, of times that are ``checked``."""
        best = minimize(_loss, self._start(), (self,), "trust-exact", jac=True, hess=_hessian, options={"gtol": FLAT})
        scatter = 1 / float(best.x[-1])
        return Fit(best.x[:-1] * scatter, scatter, float(-best.fun * len(self.low)))

    def checked(self) -> Times:
        """These times, if they have one likeliest law.

        Raises:
            Undetermined: the times that are known are too few, leave a coefficient open, or lie within so few
                intervals that no scatter is likeliest.
        """
        p = self.design.shape[1]
        if self.known.sum() <= p or np.linalg.matrix_rank(self.design[self.known]) < p:
            raise Undetermined("the times that are known do not determine every coefficient")
        widths = (self.high - self.low)[self.known & np.isfinite(self.low)]
        least = float(np.median(widths)) / ROUND if len(widths) else 0.0
        if not least <= self.fit.scatter <= ENDLESS:
            raise Undetermined("the times are not known finely enough to tell their scatter")
        return self

    def ends(self, column: int, level: float) -> tuple[float, float, float]:
        """A coefficient with the ends of its interval, that of its profile likelihood."""
        best, known = self.fit, int(self.known.sum())
        value, spread = float(best.coefficients[column]), float(np.std(self.design[:, column])) or 1.0

        def deviance(other: float) -> float:
            return 2 * (best.height - self.held(column, other).fit.height)

        step = best.scatter / spread / math.sqrt(known)
        most = student_limit(level, known, self.design.shape[1])
        return value, *interval(deviance, value, step, most, (-math.inf, math.inf))

    def straight(self, columns: Sequence[int]) -> float:
        """P-value of the law against one with the squares of these columns; NaN where the times do not tell."""
        design = np.column_stack([self.design, self.design[:, list(columns)] ** 2])
        try:
            gain = 2 * (Times(self.low, self.high, design).checked().fit.height - self.fit.height)
        except Undetermined:
            return math.nan
        return fisher_test(gain, len(columns), int(self.known.sum()), design.shape[1]) if columns else math.nan

    def never(self) -> tuple[float, float]:
        """The share of the times that never end, which is 0 in the law itself: its likeliest value, and twice the log
        likelihood that it gains (a mixture, or cure model: Berkson and Gage 1952, J. Am. Stat. Assoc. 47:501)."""
        share = float((~self.known).mean())
        if share == 0:
            return 0.0, 0.0
        seen = Times(self.low[self.known], self.high[self.known], self.design[self.known])
        tops = [
            minimize(_mixed_loss, np.append(start, part * share), (self,), "L-BFGS-B", jac=True, bounds=self._mixed)
            for start, part in ((_point(self.fit), 0.1), (_point(self.fit), 0.9), (seen._start(), 0.9))
        ]
        best = min(tops, key=lambda one: one.fun)
        return float(best.x[-1]), max(0.0, 2 * float(-best.fun * len(self.low) - self.fit.height))

    @property
    def _mixed(self) -> list[tuple[float | None, float | None]]:
        return [*[(None, None)] * self.design.shape[1], (1e-6, None), (0.0, 1 - 1e-6)]

    def _start(self) -> np.ndarray:
        """Least squares, with censored times taken for ended ones."""
        middle = np.where(self.known, self.high, self.low)
        coefficients, *_ = np.linalg.lstsq(self.design, middle, rcond=None)
        scatter = max(float(np.std(middle - self.design @ coefficients)), 0.05)
        return np.append(coefficients, 1.0) / scatter


@dataclass(frozen=True)
class Fit:
    """``coefficients`` [p], the scatter of log time, and the log likelihood."""

    coefficients: np.ndarray
    scatter: float
    height: float


def _point(fit: Fit) -> np.ndarray:
    return np.append(fit.coefficients, 1.0) / fit.scatter


def _loss(point: np.ndarray, times: Times) -> tuple[float, np.ndarray]:
    """Minus the log likelihood per trial and its gradient; ``point``: coefficients / scatter [p], 1 / scatter."""
    if point[-1] <= 0:
        return np.inf, np.zeros_like(point)
    low, high = _standard(point, times)
    log, at_low, at_high = _mass(low, high)
    n = len(low)
    return -log.sum() / n, -_pull(times, at_high - at_low, _times(times.high, at_high) - _times(times.low, at_low)) / n


def _mixed_loss(point: np.ndarray, times: Times) -> tuple[float, np.ndarray]:
    """As ``_loss`` with a last parameter, the share of times that never end."""
    never, known, n = point[-1], times.known, len(times.low)
    log, at_low, at_high = _mass(*_standard(point[:-1], times))
    mass = np.exp(log)
    whole = (1 - never) * mass + np.where(known, 0.0, never)
    each = np.where(known, np.log1p(-never) + log, np.log(np.maximum(whole, 1e-300)))
    weight = np.where(known, 1.0, (1 - never) * mass / np.maximum(whole, 1e-300))  # of being one that ends
    at_low, at_high = weight * at_low, weight * at_high
    slope = _pull(times, at_high - at_low, _times(times.high, at_high) - _times(times.low, at_low))
    by_share = np.where(known, -1 / (1 - never), (1 - mass) / np.maximum(whole, 1e-300)).sum()
    return -each.sum() / n, -np.append(slope, by_share) / n


def _hessian(point: np.ndarray, times: Times) -> np.ndarray:
    if point[-1] <= 0:  # the search looks there and turns back
        return np.eye(len(point))
    low, high = _standard(point, times)
    _, at_low, at_high = _mass(low, high)
    lows, highs, both = _times(low, at_low) - at_low**2, -_times(high, at_high) - at_high**2, at_low * at_high
    mean = lows + highs + 2 * both  # second derivatives: by the mean, by 1 / scatter, by both
    mixed = _times(times.low, lows + both) + _times(times.high, highs + both)
    spread = _times(times.low, _times(times.low, lows)) + _times(times.high, _times(times.high, highs))
    spread = spread + 2 * _times(times.low, _times(times.high, both))
    curvature = np.empty((len(point), len(point)))
    curvature[:-1, :-1] = times.design.T @ (mean[:, None] * times.design)
    curvature[:-1, -1] = curvature[-1, :-1] = -times.design.T @ mixed
    curvature[-1, -1] = spread.sum()
    return -curvature / len(low)


def _standard(point: np.ndarray, times: Times) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals in scatters from the mean, two [n]."""
    mean = times.design @ point[:-1]
    return times.low * point[-1] - mean, times.high * point[-1] - mean


def _pull(times: Times, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Gradient from the derivatives by the standardized ends."""
    return np.append(-times.design.T @ mean, spread.sum())


def _mass(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log of the normal mass between low and high [n], and the density at each end over that mass."""
    flip = low > 0  # the tail whose logarithm has digits
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    above, below = log_ndtr(b), log_ndtr(a)
    log = above + np.log(-np.expm1(np.minimum(below - above, -1e-15)))
    half = np.log(2 * np.pi) / 2
    at_low, at_high = (np.exp(np.minimum(-(end**2) / 2 - half - log, 700.0)) for end in (low, high))
    return log, at_low, at_high


def _times(ends: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Their product, 0 at an infinite end."""
    return np.where(np.isfinite(ends), ends, 0.0) * weights
