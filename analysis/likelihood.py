"""Intervals and tests that need a log likelihood alone: profiles and ratios.

The deviance of a value is twice what the highest log likelihood loses when a parameter is held there; the values whose
deviance stays below a limit are the interval (Cox and Hinkley 1974, section 9.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from scipy.optimize import brentq
from scipy.stats import f, t

SURE = 0.05  # p-value below which a law counts as refused
DOUBLINGS = 40  # of a step outward, before an end counts as open


def limit(level: float, freedom: float = math.inf) -> float:
    """The deviance up to which values stand in an interval; ``freedom``: of Student's t, where trials are few."""
    return float(t.ppf((1 + level) / 2, freedom) ** 2)


def student_limit(level: float, n: int, spent: int) -> float:
    """The same for n times and ``spent`` coefficients: the interval is Student's where the times are normal and all
    are known."""
    return float(n * math.log1p(t.ppf((1 + level) / 2, n - spent) ** 2 / (n - spent)))


def ratio_test(deviance: float, freedom: float = math.inf) -> float:
    """P-value of a likelihood ratio against one more parameter; ``freedom`` as above."""
    return float(2 * t.sf(math.sqrt(max(deviance, 0.0)), freedom))


def fisher_test(deviance: float, added: int, n: int, spent: int) -> float:
    """The same for n times and ``spent`` coefficients in the larger model: Fisher's F where the times are normal and
    all are known."""
    ratio = math.expm1(min(max(deviance, 0.0) / n, 700.0)) * (n - spent) / added
    return float(f.sf(ratio, added, n - spent))


def verdict(p: float) -> str:
    """Whether a p-value refuses a law, in words."""
    return f"{'refused by the data' if p < SURE else 'not refused'} ({p_value(p)})"


def p_value(p: float) -> str:
    """ "p = 0.31", "p < 0.001" """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def interval(
    deviance: Callable[[float], float], best: float, step: float, most: float, inside: tuple[float, float]
) -> tuple[float, float]:
    """Ends of the values around ``best`` whose deviance is at most ``most``; infinite beyond ``inside``.

    ``step``: a first guess of their distance.
    """
    return _end(deviance, best, -step, most, inside[0]), _end(deviance, best, step, most, inside[1])


def _end(deviance: Callable[[float], float], best: float, step: float, most: float, last: float) -> float:
    @cache  # one answer for a value, whatever a search has learned since
    def excess(value: float) -> float:  # nearly straight, as a deviance is nearly a parabola
        above = 0.0 if value == best else max(deviance(value), 0.0)
        return math.sqrt(above) - math.sqrt(most)

    inner = best
    for _ in range(DOUBLINGS):
        outer = inner + step
        beyond = outer <= last if step < 0 else outer >= last
        outer = last if beyond else outer
        if excess(outer) > 0:
            return float(brentq(excess, inner, outer, xtol=1e-4 * abs(outer - inner), rtol=1e-9))
        if beyond:
            break
        inner, step = outer, 2 * step
    return math.copysign(math.inf, step)
