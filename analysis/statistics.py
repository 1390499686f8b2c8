"""Numbers with their uncertainty: rates, times until an event, and differences.

Pure functions of counts or of the tidy table; nothing here draws, reads a store or picks axes.
Every interval is two-sided, 95 % unless stated otherwise.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import CensoredData, binom, ecdf, norm

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, from n trials. An end that the data leave open is infinite."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}], n = {self.n}"


@dataclass(frozen=True)
class EventTime:
    """Kaplan–Meier estimate of the step of an event, such as the grok step, in optimizer steps.

    ``median.value`` is infinite when fewer than half are estimated to generalize within the steps run.
    ``curve`` has the columns step, grokked, low, high: the estimated share generalized by that step.
    """

    median: Estimate
    grokked: int
    budget: float
    curve: pd.DataFrame


def wilson(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """Wilson's score interval of a rate (Wilson 1927, J. Am. Stat. Assoc. 22:209).

    No trials say nothing: the value is NaN, the interval [0, 1].
    """
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    z, p = norm.ppf((1 + level) / 2), successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, float(middle - half))
    high = 1.0 if successes == n else min(1.0, float(middle + half))
    return Estimate(float(p), low, high, n)


def rate_difference(successes: int, n: int, others: int, m: int, level: float = LEVEL) -> Estimate:
    """Rate of the first arm minus rate of the second, with Newcombe's hybrid score interval
    (Newcombe 1998, Statist. Med. 17:873, method 10)."""
    a, b = wilson(successes, n, level), wilson(others, m, level)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high, n + m)


def median(values: Any, level: float = LEVEL) -> Estimate:
    """Median of values [n] with the interval of its order statistics, which assumes no distribution
    (Conover 1999, section 3.2). Fewer than six values leave both ends open (infinite)."""
    values = np.asarray(values, float)
    middle = float(np.median(values)) if len(values) else math.nan
    return Estimate(middle, *_median_ends(values, values, level), len(values))


def _median_ends(earliest: np.ndarray, latest: np.ndarray, level: float) -> tuple[float, float]:
    """Ends of the interval of a median of n values that lie between ``earliest`` [n] and ``latest`` [n].

    scipy.stats.quantile_test gives the same ends for known values, 15 times slower.
    """
    n = len(earliest)
    rank = int(binom.ppf((1 - level) / 2, n, 0.5)) if n else 0  # P(fewer than `rank` below the median) <= alpha / 2
    if rank == 0:
        return -math.inf, math.inf
    return float(np.sort(earliest)[rank - 1]), float(np.sort(latest)[n - rank])


def reached(curve: pd.DataFrame, share: float) -> float:
    """First step by which this share is estimated to have generalized; infinite if none."""
    steps = curve.step[curve.grokked >= share - 1e-12]
    return float(steps.iloc[0]) if len(steps) else math.inf


def decided(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials with a phase: one that stopped before a threshold could be read has none, and belongs in no share."""
    return trials[trials.phase.notna()]


def is_redefined(trials: pd.DataFrame, outcome: str) -> pd.Series:
    """Of which trials the record has the outcome by another definition, so that its absence says nothing."""
    if "redefined" not in trials:
        return pd.Series(False, trials.index)
    return trials.redefined.fillna("").map(lambda names: outcome in names.split(","))


def grok_time(trials: pd.DataFrame, level: float = LEVEL) -> EventTime:
    """Time to ``grok_step``, as ``event_time``."""
    return event_time(trials, "grok_step", level)


def event_time(trials: pd.DataFrame, event: str, level: float = LEVEL) -> EventTime:
    """Time to the event, such as ``grok_step``, over the trials (columns of that name, steps_run, steps, phase).

    A trial that did not grok is censored where it was last ``followed``, never dropped. Grok steps are known to the
    next evaluation only.
    """
    seen, ran = trials[event].notna(), followed(trials)
    duration = trials[event].where(seen, ran).astype(float)
    curve, median = kaplan_meier(duration, seen, level)
    return EventTime(median, int(seen.sum()), float(ran.max()) if len(ran) else math.nan, curve)


def followed(trials: pd.DataFrame) -> pd.Series:
    """The steps up to which each trial is known not to have had an event that it lacks: those it ran.

    One that diverged can not grok any more, so it stays in the risk set up to its budget (as in a cumulative
    incidence; censoring it at once would say the opposite).
    """
    return trials.steps_run.fillna(trials.steps).where(trials.phase != "diverged", trials.steps)


def kaplan_meier(duration: Any, seen: Any, level: float = LEVEL) -> tuple[pd.DataFrame, Estimate]:
    """Kaplan–Meier curve and median of durations [n] and events seen [n] (bool).

    The curve has the columns step, grokked, low, high, of 1 - S(step), with Greenwood's variance and the
    log-log interval (Kaplan and Meier 1958; Kalbfleisch and Prentice 1980). Where that is undefined
    (none or all seen so far), the interval is Wilson's for none or all of n.

    The interval of the median is that of the order statistics, which holds for any n: its lower end
    takes each censored trial to end when it was censored, its upper end never. The log-log band read
    across holds the median in 62 % of the cases at n = 1 and in 93 % at n = 5. Fewer than six trials
    leave both ends open, and the lower end is never later than the last follow-up.
    """
    duration, seen = np.asarray(duration, float), np.asarray(seen, bool)
    n = len(duration)
    if not n:
        return pd.DataFrame(columns=["step", "grokked", "low", "high"], dtype=float), median([], level)
    survival = ecdf(CensoredData.right_censored(duration, ~seen)).sf
    with warnings.catch_warnings():  # "undefined at some observations": filled below
        warnings.simplefilter("ignore", RuntimeWarning)
        band = survival.confidence_interval(level, method="log-log")
    steps = np.unique(np.append(duration, 0.0))
    at = np.searchsorted(survival.quantiles, steps, side="right")
    grokked = 1 - np.append(1.0, survival.probabilities)[at]
    low, high = (1 - np.append(1.0, end.probabilities)[at] for end in (band.high, band.low))
    none, every = wilson(0, n, level).high, wilson(n, n, level).low
    low = np.where(grokked == 0, 0.0, np.where(grokked == 1, np.nanmax([every, *low[grokked < 1]]), low))
    high = np.where(grokked == 0, none, np.where(grokked == 1, 1.0, high))
    curve = pd.DataFrame({"step": steps, "grokked": grokked, "low": low, "high": high})
    ends = _median_ends(duration, np.where(seen, duration, math.inf), level)
    return curve, Estimate(reached(curve, 0.5), *ends, n)
