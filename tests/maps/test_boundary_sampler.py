"""The sampler in real studies of Optuna."""

import math

import optuna
import pytest

from phasemap.maps.boundary_sampler import BoundarySampler

optuna.logging.set_verbosity(optuna.logging.ERROR)
MIXED = {
    "weight_decay": optuna.distributions.FloatDistribution(1e-3, 10, log=True),
    "width": optuna.distributions.CategoricalDistribution([16, 32, 64, 128, 256, 512]),
    "depth": optuna.distributions.IntDistribution(1, 4),
    "activation": optuna.distributions.CategoricalDistribution(["relu", "gelu"]),
}


def phase(params):
    return int(math.log10(params["weight_decay"]) > -1.5 + 0.3 * math.log2(params["width"] / 16))


def study_of(seed=0, **settings):
    return optuna.create_study(sampler=BoundarySampler(MIXED, seed=seed, **settings))


def test_a_real_study_maps_mixed_axes():
    study = study_of()
    study.optimize(lambda t: phase({n: t._suggest(n, d) for n, d in MIXED.items()}), n_trials=80)
    found = study.sampler.phase_map(study)
    at = found.boundary_position("weight_decay", [1], {"width": 64, "depth": 2, "activation": "gelu"})
    assert math.log10(at.position) == pytest.approx(-0.9, abs=0.3)
    assert type(study.trials[-1].params["depth"]) is int
    assert study.trials[-1].params["width"] in (16, 32, 64, 128, 256, 512)


def test_a_study_rebuilt_from_its_trials_goes_on_as_if_never_stopped():
    whole, part = study_of(seed=5), study_of(seed=5)
    for study, count in ((whole, 30), (part, 24)):
        for _ in range(count):
            trial = study.ask(MIXED)
            study.tell(trial, phase(trial.params))
    rebuilt = study_of(seed=5)
    rebuilt.add_trials(part.trials)
    for _ in range(6):
        trial = rebuilt.ask(MIXED)
        rebuilt.tell(trial, phase(trial.params))
    assert [t.params for t in rebuilt.trials] == [t.params for t in whole.trials]


def test_a_study_counts_running_trials_and_survives_failed_ones():
    study = study_of()
    for _ in range(20):
        trial = study.ask(MIXED)
        study.tell(trial, phase(trial.params))
    study.tell(study.ask(MIXED), state=optuna.trial.TrialState.FAIL)
    study.tell(study.ask(MIXED), math.nan)
    asked = [study.ask(MIXED).params for _ in range(8)]
    assert len({tuple(p.values()) for p in asked}) == 8


def test_the_phase_may_come_from_an_attribute_and_a_target_ends_the_study():
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    sampler = BoundarySampler(space, phase_attribute="phase", target=0.1, startup=8)

    def objective(trial):
        trial.set_user_attr("phase", int(trial.suggest_float("x", 0, 1) > 0.4))
        return 0.5

    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=200, callbacks=[sampler.stop_when_certain])
    assert 8 <= len(study.trials) < 60
    found = sampler.phase_map(study).boundary_position("x", [1])
    assert found is not None
    assert found.position == pytest.approx(0.4, abs=0.05)
