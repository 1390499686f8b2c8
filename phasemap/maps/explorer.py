"""Chooses the points of a sweep whose sampler is not the grid, a stack at a time, from what is recorded.

What was asked for is written down before it runs, so a sweep that was stopped first finishes what it
had asked for and then goes on as if it never had been. Trains nothing and draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import optuna

from phasemap.fields import Fault
from phasemap.maps.axes import Axes
from phasemap.maps.critical import GENERALIZED, Critical
from phasemap.maps.planner import Planner, sobol
from phasemap.plan.space import Space
from phasemap.plan.stack import Plan, Stack
from phasemap.plan.trial import STACKED, Trial

LARGEST_BATCH = 8  # trials asked for at once: more make each less telling
CHECK_EVERY = 8  # results between two looks at the target
MOST_REFUSED = 1_000  # points that break a rule, until the sweep ends

Row = dict[str, Any]  # a value of every axis but the seed


@dataclass
class Explorer:
    """The trials of a sampled sweep, in the order asked for.

    Args:
        space: the axes, the sampler and its budget.
        plan: how stacks are made.
        phase_of: phase of a trial id, None while it is not recorded.
        value_of: the space's objective of a trial id, None where it has none.
        write_down: called with all asked trials whenever some were added.
        asked: trials asked for by earlier runs of the sweep, the list that new ones are added to. One that was asked
            for twice counts once.
    """

    space: Space
    plan: Plan
    phase_of: Callable[[str], str | None]
    value_of: Callable[[str], float | None]
    write_down: Callable[[list[Trial]], None]
    asked: list[Trial] = field(default_factory=list)
    _refused: list[Row] = field(default_factory=list)  # points that break a rule
    _open: dict[str, optuna.Trial] = field(default_factory=dict)  # Optuna's own, by our trial's id, without a result
    _study: optuna.Study | None = None
    _looked_at: int = 0
    _certain: bool = False

    def __post_init__(self) -> None:
        self.asked[:] = {trial.id: trial for trial in self.asked}.values()

    @cached_property
    def distributions(self) -> dict[str, Any]:
        """Every axis but the seed as an Optuna distribution; lists of numbers stay exact choices."""
        choices = {
            name: optuna.distributions.CategoricalDistribution(values)
            for name, values in self.space.grid.items()
            if name != "seed"
        }
        named = {**choices, **self.space.distributions}
        return {name: named[name] for name in self.space.axes if name in named}

    @cached_property
    def axes(self) -> Axes:
        return Axes.from_distributions(self.distributions)

    @cached_property
    def _planner(self) -> Planner:
        return Planner(self.axes, seed=self.space.sampler_seed)

    @cached_property
    def _critical(self) -> Critical | None:
        space = self.space
        return Critical(self.axes, space.critical, space.target) if space.critical else None

    def unfinished(self) -> list[Trial]:
        """Asked for, not recorded."""
        return [trial for trial in self.asked if self.phase_of(trial.id) is None]

    def more(self) -> list[Stack]:
        """The next stack, or nothing once the budget is spent or the map is certain enough.

        Raises:
            Fault: of the last point, where so many break a rule that the sampler finds no other.
        """
        while (left := self.space.trials_wanted - len(self.asked)) > 0 and not self._is_certain():
            before = len(self.asked)
            self._ask(min(LARGEST_BATCH, left))
            self.write_down(self.asked)
            if trials := [trial for trial in self.asked[before:] if self.phase_of(trial.id) is None]:
                size = min(self.plan.largest(trial) for trial in trials)
                return replace(self.plan, size=size).stacks(trials)
        return []

    def _ask(self, count: int) -> None:
        """Adds up to so many trials; a point that breaks a rule counts as visited, and another one comes next time."""
        rows = self._near_boundaries(count) if self.space.sampler == "boundary" else self._rows(count)
        for row, frozen in rows:
            try:
                seed = self._seed(len(self.asked))
                trial = self.space.trial({**self.space.fixed, **row, "seed": seed})
            except Fault:
                self._refused.append(row)
                if len(self._refused) >= MOST_REFUSED:
                    raise
                continue
            self.asked.append(trial)
            if frozen:
                self._open[trial.id] = frozen

    def _seed(self, index: int) -> int:
        """The seeds written in the space, then the numbers after them: one that came again at the same point would be
        the same trial, which says nothing new."""
        listed = self.space.seeds
        return listed[index] if index < len(listed) else max(listed) + 1 + index - len(listed)

    def _rows(self, count: int) -> list[tuple[Row, optuna.Trial | None]]:
        if self.space.sampler == "sobol":
            return self._of(self._sobol(count))
        study = self._told()
        asked = [study.ask(self.distributions) for _ in range(count)]
        return [(self._tidied(frozen.params), frozen) for frozen in asked]

    def _of(self, points: np.ndarray) -> list[tuple[Row, optuna.Trial | None]]:
        return [(self._tidied(row), None) for row in self.axes.values(points)]

    def _sobol(self, count: int) -> np.ndarray:
        """The next points of one Sobol sequence: Optuna's begins again with every study."""
        so_far, draws = len(self.asked) + len(self._refused), np.random.default_rng(self.space.sampler_seed)
        return self.axes.spread(sobol(len(self.axes.axes), so_far + count, draws)[so_far:])

    def _near_boundaries(self, count: int) -> list[tuple[Row, optuna.Trial | None]]:
        points, labels = self._known()
        shared = [name for name in self.axes.names if name not in STACKED]
        visited = np.concatenate([self._points(self.unfinished()), self.axes.unit(self._refused)])
        return self._of(self._planner.ask(count, points, labels, visited, shared))

    def _known(self) -> tuple[np.ndarray, list[int | None]]:
        """Points and labels of the recorded trials."""
        known = [trial for trial in self.asked if self.phase_of(trial.id) is not None]
        return self._points(known), [self._label(self.phase_of(trial.id)) for trial in known]

    def _points(self, trials: list[Trial]) -> Any:
        return self.axes.unit([{name: getattr(trial, name) for name in self.axes.names} for trial in trials])

    def _told(self) -> optuna.Study:
        """Optuna's view of the sweep. For a sampler by name it is made again from what was asked for and recorded, so
        that an ask is a function of seed and history; a sampler object remembers in its study what it gave."""
        if self._study is None or isinstance(self.space.sampler, str):
            self._study = self._new_study()
            self._open = {}
            for trial in self.asked:
                self._study.enqueue_trial({name: getattr(trial, name) for name in self.axes.names})
                self._open[trial.id] = self._study.ask(self.distributions)
        for trial_id in [one for one in self._open if self.phase_of(one) is not None]:
            value = self.value_of(trial_id)
            state = None if value is not None else optuna.trial.TrialState.FAIL
            self._study.tell(self._open.pop(trial_id), value, state=state)
        return self._study

    def _new_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        named, words = self.space.sampler, [self.space.sampler_seed, len(self.asked), len(self._refused)]
        if isinstance(named, str):
            kind = optuna.samplers.RandomSampler if named == "random" else optuna.samplers.TPESampler
            named = kind(seed=int(np.random.SeedSequence(words).generate_state(1)[0]))
        return optuna.create_study(sampler=named, direction=self.space.direction)  # type: ignore[arg-type]

    def _is_certain(self) -> bool:
        recorded = sum(self.phase_of(trial.id) is not None for trial in self.asked)
        if self.space.sampler == "boundary" and self.space.target > 0 and recorded - self._looked_at >= CHECK_EVERY:
            self._looked_at = recorded
            points, labels = self._known()
            if self._critical:
                self._certain = self._critical.met(points, labels)
            else:
                self._certain = self._planner.uncertainty(points, labels) < self.space.target
        return self._certain

    def _label(self, phase: str | None) -> int | None:
        """A phase's number; where a critical value is sought, whether the trial generalized."""
        names = self.space.phase_names
        if phase not in names or (self._critical and phase == "diverged"):
            return None
        return int(phase in GENERALIZED) if self._critical else names.index(phase)

    def _tidied(self, row: Mapping[str, Any]) -> Row:
        return {name: self._tidy(name, value) for name, value in row.items()}

    def _tidy(self, name: str, value: Any) -> Any:
        """Of a continuous axis, six digits, what a person can type again, within its ends; a listed value as it is."""
        value, axis = self.space.coerce(name, value), self.space.distributions.get(name)
        if not isinstance(value, float) or axis is None or hasattr(axis, "choices"):
            return value
        low, high = self.space.coerce(name, axis.low), self.space.coerce(name, axis.high)
        return min(max(float(f"{value:.6g}"), low), high)
