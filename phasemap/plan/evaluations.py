"""When a trial is evaluated: the schedule that training keeps, and what a table's row says of it."""

from __future__ import annotations

from typing import Protocol


class Scheduled(Protocol):
    """A trial, or the row of a table that describes one."""

    @property
    def steps(self) -> int: ...
    @property
    def evaluate_every(self) -> int: ...
    @property
    def log_spaced(self) -> bool: ...


def next_evaluation(trial: Scheduled, step: int) -> int:
    """The first evaluation step after ``step``, whether or not that is one itself; the last step is always one."""
    at = step // trial.evaluate_every * trial.evaluate_every  # every multiple is one
    while at <= step:
        coming = (at // trial.evaluate_every + 1) * trial.evaluate_every
        if trial.log_spaced:  # 1, 2, 3, 4, 5, 6, 8, 10, ... : a factor of about 1.25
            coming = min(coming, max(at + 1, round(at * 1.25)))
        at = coming
    return min(at, trial.steps)


def previous_evaluation(trial: Scheduled, step: int) -> int:
    """The last evaluation step before ``step``, 0 where there is none: every multiple of evaluate_every is one."""
    before = (step - 1) // trial.evaluate_every * trial.evaluate_every
    while (coming := next_evaluation(trial, before)) < step:
        before = coming
    return before


def evaluations(trial: Scheduled, until: int) -> list[int]:
    """All evaluation steps up to ``until``."""
    steps, step = [], 0
    while step < min(until, trial.steps) and (step := next_evaluation(trial, step)) <= until:
        steps.append(step)
    return steps
