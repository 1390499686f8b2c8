"""The rule that places trials where phases meet, for Optuna's studies; ``planner.py`` is the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from phasemap.maps.axes import Axes
from phasemap.maps.phase_map import PhaseMap, is_label
from phasemap.maps.planner import Planner


class BoundarySampler(optuna.samplers.BaseSampler):
    """Seeks boundaries (the straddle of Bryan et al. 2005) as an Optuna sampler.

    A study whose objective returns the phase (a whole number) maps the phases.

    The direction of the study plays no role. Float, int and categorical distributions mix freely; categories that are
    numbers are ordered. Trials that are running count as pending, so ``study.ask`` may be called any number of times
    before a ``tell``; a study rebuilt from its trials, in order, goes on as if never stopped. Report a whole number
    even for a diverged trial: a NaN value leaves some Optuna front ends with a trial that runs forever.

    Args:
        space: name -> distribution; other parameters are drawn at random.
        seed: with the history, fixes every choice.
        startup: trials of the Sobol design that comes first.
        method: "straddle", "neighbors", or "auto": neighbors on 5 axes and more.
        failed_label: None: a failed trial is not asked for again and counts for no phase. A whole number: failing is a
            phase of its own.
        phase_attribute: user attribute holding the phase; the trial's (first) value if left out.
        target: ``stop_when_certain`` ends the study once the mean uncertainty of the map, 0 to 1, is below this.
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
