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

from phasemap.maps.axes import Axes
from phasemap.maps.critical import GENERALIZED, Critical
from phasemap.maps.planner import Planner
from phasemap.plan.space import Space
from phasemap.plan.stack import Plan, Stack
from phasemap.plan.trial import STACKED, Trial

LARGEST_BATCH = 8  # trials asked for at once: more make each less telling
CHECK_EVERY = 8  # results between two looks at the target


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
        """The next stack, or nothing once the budget is spent or the map is certain enough."""
        left = self.space.trials_wanted - len(self.asked)
        if left <= 0 or self._is_certain():
            return []
        rows = self._ask(min(LARGEST_BATCH, left))
        trials = [self._trial(row, len(self.asked) + i) for i, row in enumerate(rows)]
        self.asked += trials
        self.write_down(self.asked)
        size = self.plan.size or min(self.plan.best(trial) for trial in trials)
        return replace(self.plan, size=size).stacks(trials)

    def _trial(self, row: Mapping[str, Any], index: int) -> Trial:
        return self.space.trial({**self.space.fixed, **row, "seed": self._seed(index)})

    def _seed(self, index: int) -> int:
        """The seeds written in the space, then the numbers after them: one that came again at the same point would be
        the same trial, which says nothing new."""
        listed = self.space.seeds
        return listed[index] if index < len(listed) else max(listed) + 1 + index - len(listed)

    def _ask(self, count: int) -> list[dict[str, Any]]:
        if self.space.sampler == "boundary":
            rows = self.axes.values(self._near_boundaries(count))
        else:
            study = self._study()
            rows = [study.ask(self.distributions).params for _ in range(count)]
        return [{name: self._tidy(name, value) for name, value in row.items()} for row in rows]

    def _near_boundaries(self, count: int) -> np.ndarray:
        points, labels = self._known()
        shared = [name for name in self.axes.names if name not in STACKED]
        return self._planner.ask(count, points, labels, self._points(self.unfinished()), shared)

    def _known(self) -> tuple[np.ndarray, list[int | None]]:
        """Points and labels of the recorded trials."""
        known = [trial for trial in self.asked if self.phase_of(trial.id) is not None]
        return self._points(known), [self._label(self.phase_of(trial.id)) for trial in known]

    def _points(self, trials: list[Trial]) -> Any:
        return self.axes.unit([{name: getattr(trial, name) for name in self.axes.names} for trial in trials])

    def _study(self) -> optuna.Study:
        """Optuna's view of the sweep, made again from what was asked for and recorded."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = self.space.sampler_seed + len(self.asked)  # an ask is a function of seed and history
        kinds: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "sobol": lambda: optuna.samplers.QMCSampler(seed=self.space.sampler_seed, warn_independent_sampling=False),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        }
        named = self.space.sampler
        sampler = kinds[named]() if isinstance(named, str) else named
        study = optuna.create_study(sampler=sampler, direction=self.space.direction)  # type: ignore[arg-type]
        for trial in self.asked:
            study.enqueue_trial({name: getattr(trial, name) for name in self.axes.names})
            frozen = study.ask(self.distributions)
            if self.phase_of(trial.id) is not None:
                value = self.value_of(trial.id)
                state = None if value is not None else optuna.trial.TrialState.FAIL
                study.tell(frozen, value, state=state)
        return study

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

    def _tidy(self, name: str, value: Any) -> Any:
        """Six digits: what a person can type again."""
        value = self.space.coerce(name, value)
        return float(f"{value:.6g}") if isinstance(value, float) else value
