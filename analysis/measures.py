"""What a published claim is measured by: trials -> an estimate with its interval.

``claims.py`` names these functions; every one takes the tidy table of the trials that a claim speaks of. The few at
the end compute a fact from the task and need no trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from phasemap.plan.trial import make_trial, train_examples
from phasemap.tasks.task import overlap
from phasemap.training.events import reaches

from . import critical_law, grok_step_law
from .statistics import LEVEL, Estimate, event_time, is_redefined, median, rate_difference, wilson
from .style import Absent

Measure = Callable[[pd.DataFrame], Estimate]
Event = Callable[[pd.DataFrame], pd.Series]  # for each trial whether it holds, NaN where that is not known
NOTHING = Estimate(math.nan, -math.inf, math.inf, 0)
SEEDS = range(6)  # of the training sets on which a fact is checked
DRAWS = 2_000  # of a bootstrap


def middle(column: str, least: int = 1) -> Measure:
    """Median of an outcome over the trials that have it and were to run so many steps at least."""
    return lambda trials: median(trials[trials.steps >= least][column].dropna())


def time_to(event: str) -> Measure:
    """Kaplan–Meier median of the step of an event; trials without it are censored at the steps they ran."""
    return lambda trials: event_time(trials, event).median


def share(event: Event) -> Measure:
    """Share of trials in which the event holds, of those of which it is known, with Wilson's interval."""

    def held(trials: pd.DataFrame) -> Estimate:
        known = event(trials).dropna()
        return wilson(int(known.sum()), len(known))

    return held


def share_within(event: str, steps: int) -> Measure:
    """Share of trials with the event at or before a step, of those whose budget reaches so far: of a smaller one only
    the trials with the event would be known."""

    def within(trials: pd.DataFrame) -> Estimate:
        known = trials[trials.steps >= steps]
        return wilson(int((known[event] <= steps).sum()), len(known))

    return within


def share_without(event: str, steps: int) -> Measure:
    """One minus ``share_within``: the trials that ran so long and never had the event."""

    def without(trials: pd.DataFrame) -> Estimate:
        estimate = share_within(event, steps)(trials)
        return Estimate(1 - estimate.value, 1 - estimate.high, 1 - estimate.low, estimate.n)

    return without


def ends_high(trials: pd.DataFrame) -> pd.Series:
    """Which trials end at or above their grok threshold."""
    return reaches(trials.final_test_accuracy, trials.grok_threshold)


def is_phase(phase: str) -> Event:
    """Which trials are of the phase."""
    return lambda trials: (trials.phase == phase).where(trials.phase.notna())


def below(column: str, value: float) -> Event:
    """Which trials have a smaller number in the column."""
    return lambda trials: (trials[column] < value).where(trials[column].notna())


def happened(outcome: str, seen_by: str) -> Event:
    """Which trials have the outcome; unknown where the number that it is read off was not measured, or where the record
    has it by another definition."""

    def known(trials: pd.DataFrame) -> pd.Series:
        return trials[outcome].notna().where(trials[seen_by].notna() & ~is_redefined(trials, outcome))

    return known


def generalized(trials: pd.DataFrame) -> pd.Series:
    """Which trials reached the grok threshold."""
    return trials.grok_step.notna()


def inner_stride_is(rule: Callable[[int, int], int]) -> Event:
    """Whether a trial's inner winning stride is what a rule of (outer places, inner places) predicts."""

    def holds(trials: pd.DataFrame) -> pd.Series:
        predicted = [rule(*_places(modulus)) for modulus in trials.modulus]
        found = trials.inner_winning_stride
        return (found == pd.Series(predicted, index=trials.index)).where(found.notna())

    return holds


def _places(modulus: int) -> tuple[int, int]:
    """Cosets, and members of each, in which multiplication mod p is read."""
    group = make_trial({"task": "modular_multiplication", "modulus": modulus}).shape.examples.group
    assert group is not None  # a cyclic task
    return group.cosets, group.order // group.cosets


def difference(first: str, other: str) -> Measure:
    """Median over the trials of one outcome minus another of the same trial."""
    return lambda trials: median((trials[first] - trials[other]).dropna())


def change(outcome: str, first: Mapping[str, Any], other: Mapping[str, Any]) -> Measure:
    """Median over the seeds of an outcome in one arm minus that in the other."""

    def arms(trials: pd.DataFrame) -> Estimate:
        a, b = (chosen(trials, arm).set_index("seed")[outcome] for arm in (first, other))
        return median((a - b).dropna())

    return arms


def between(first: Mapping[str, Any], other: Mapping[str, Any], event: Event = generalized) -> Measure:
    """Share of trials with an event in one arm minus that in the other (Newcombe)."""

    def arms(trials: pd.DataFrame) -> Estimate:
        a, b = chosen(trials, first), chosen(trials, other)
        if a.empty or b.empty:
            return NOTHING
        return rate_difference(int(event(a).sum()), len(a), int(event(b).sum()), len(b))

    return arms


def inside_minus_end(end: str) -> Measure:
    """Share generalized at the inner weight decays minus that at the "lowest" or the "highest"."""

    def arms(trials: pd.DataFrame) -> Estimate:
        values = sorted(trials.weight_decay.unique())
        if len(values) < 3:
            return NOTHING
        outer = values[0] if end == "lowest" else values[-1]
        return between({"weight_decay": tuple(values[1:-1])}, {"weight_decay": outer})(trials)

    return arms


def exponent(axis: str, *others: str) -> Measure:
    """Exponent of an axis in the law of the grok step over it and the others that vary (``grok_step_law.py``), 95 %."""

    def fitted(trials: pd.DataFrame) -> Estimate:
        try:
            rows = grok_step_law.summarize(trials, [n for n in (axis, *others) if trials[n].nunique() > 1]).table
        except Absent:
            return NOTHING
        own = rows[(rows.axis == axis) & (rows.quantity == "exponent")].to_dict("records")
        return Estimate(own[0]["value"], own[0]["low"], own[0]["high"], len(trials)) if own else NOTHING

    return fitted


def critical_exponent(along: str, other: str, budgets: tuple[int, ...] = ()) -> Measure:
    """Exponent of another axis in the law of the value at which half of the trials begin to generalize
    (``critical_law.py``), 95 %. With ``budgets`` that axis is the number of steps, and each trial is read at each of
    them. The interval takes them for others then; of 60 made-up sweeps it held the truth in 57."""

    def fitted(trials: pd.DataFrame) -> Estimate:
        seen = pd.concat([_read_at(trials, steps) for steps in budgets]) if budgets else trials
        try:
            return Estimate(*critical_law.exponent(seen, along, other, "start", LEVEL), len(trials))
        except Absent:
            return NOTHING

    return fitted


def _read_at(trials: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The trials that were to run so long, as they would be had they ended there."""
    able = trials[trials.steps >= steps]
    return able.assign(steps=steps, grok_step=able.grok_step.where(able.grok_step <= steps))


def explained(outcome: str, divided_by: str, cells: tuple[str, ...]) -> Measure:
    """R^2 of the logarithm of a cell's median grok step against its median outcome, a straight line over the cells of
    which more than half generalize; a trial that did not is later than all that did. The interval draws the trials of
    each cell again."""

    def over(trials: pd.DataFrame) -> Estimate:
        seen = trials.assign(at=trials[outcome] / trials[divided_by], grok_step=trials.grok_step.fillna(math.inf))
        groups = [rows[["grok_step", "at"]].dropna().to_numpy(float) for _, rows in seen.groupby(list(cells))]
        groups = [rows for rows in groups if len(rows) and np.isfinite(np.median(rows[:, 0]))]
        if len(groups) < 4:
            return NOTHING
        draw = np.random.default_rng(0)
        drawn = [_straight([rows[draw.integers(len(rows), size=len(rows))] for rows in groups]) for _ in range(DRAWS)]
        first, last = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        return Estimate(_straight(groups), first, last, sum(map(len, groups)))

    return over


def _straight(groups: list[np.ndarray]) -> float:
    """R^2 of log(median of the first column) against the median of the second, over the groups that have one."""
    middles = np.array([np.median(rows, axis=0) for rows in groups])
    steps, at = middles[np.isfinite(middles[:, 0])].T
    return float(np.corrcoef(np.log(steps), at)[0, 1] ** 2)


def chosen(trials: pd.DataFrame, select: Mapping[str, Any]) -> pd.DataFrame:
    """The trials whose columns have these values; a pair (low, high) in brackets [...] is a range, a tuple a choice."""
    for name, value in select.items():
        column = trials[name]
        if isinstance(value, list):
            trials = trials[column.between(*value)]
        else:
            trials = trials[column.isin(value if isinstance(value, tuple) else (value,))]
    return trials


def overlaps(task: str) -> Callable[[], list[float]]:
    """Share of test windows that also stand in the training set, for several training sets of 30 %."""

    def computed() -> list[float]:
        trial = make_trial({"task": task, "context": 16, "data_fraction": 0.3, "model": "transformer"})
        examples = trial.shape.examples
        shares = []
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(examples.labels))
            train = np.zeros(len(order), bool)
            train[order[: train_examples(len(order), 0.3)]] = True
            shares.append(overlap(examples.distinct, train, ~train))
        return shares

    return computed


def ceiling(task: str, **fields: int) -> Callable[[], list[float]]:
    """The best accuracy that any predictor can reach on a task's test examples."""
    values = {"task": task, "data_fraction": 0.3, "model": "transformer"} | fields
    return lambda: [make_trial(values).shape.examples.ceiling]
