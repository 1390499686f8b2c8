from __future__ import annotations

import pytest
import torch
from small import MLP, facts, finish, mixed, trained

from phasemap.probes.distance import initial_distance
from phasemap.training.checkpoint import Storage
from phasemap.training.train import begin

TRIAL = MLP.replace(probes="distance")


def test_the_distance_is_relative_to_the_start() -> None:
    start = torch.tensor([[0.0, 2.0], [6.0, 8.0], [0.0, 0.0]])
    moved = start + torch.tensor([[3.0, 4.0]])
    assert initial_distance(moved, start).tolist()[:2] == [2.5, 0.5]
    assert initial_distance(start, start).tolist()[:2] == [0, 0]
    assert initial_distance(moved, start)[2].isnan()
    assert initial_distance(moved + torch.inf, start).isnan().all()


def test_weights_are_compared_with_those_that_the_trial_began_with() -> None:
    trials = tuple(TRIAL.replace(seed=seed, initial_scale=1.0 + seed) for seed in range(3))
    training = begin(trials)
    start = training.flat.clone()
    assert torch.equal(training.start(), start)
    training.advance(20)
    training.evaluate()
    for k, trial in enumerate(trials):
        expected = ((training.flat[k] - start[k]).norm() / start[k].norm()).item()
        ((step, value),) = training.curves[trial.id]["initial_distance"]
        assert step == 20
        assert value == pytest.approx(expected, rel=1e-5)
        assert expected > 0.1


def test_a_resumed_trial_knows_where_it_began(tmp_path) -> None:
    """Beside one that diverges, and so leaves the stack first."""
    trials = mixed(TRIAL)
    whole = trained(trials)
    training = begin(tuple(trials))
    training.advance(20)
    training.evaluate()
    assert len(training.trials) == 4
    Storage(str(tmp_path)).save(training)
    (again,) = Storage(str(tmp_path)).resume(training.trials, say=pytest.fail)
    for name, result in finish(again).items():
        assert len(result.curves["initial_distance"][0]) == 3
        assert facts(result) == facts(whole[name])
