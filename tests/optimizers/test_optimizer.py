"""What holds of every optimizer: a trial's update is its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import MLP, TRANSFORMER, facts, finish, mixed, trained
from stepping import LAYOUT, different, noise, stepped

from phasemap.fields import Fault, Field
from phasemap.optimizers.optimizer import Optimizer
from phasemap.plan.component import names
from phasemap.plan.trial import make_trial
from phasemap.training.checkpoint import Storage
from phasemap.training.train import begin

OWN: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9, "nesterov": True}, "muon": {"muon_rate": "match_rms_adamw"}}


@pytest.mark.parametrize("name", names("optimizer"))
def test_a_trials_update_does_not_depend_on_its_neighbors(name):
    trials = different(optimizer=name, orthogonal_gradient=True, **OWN.get(name, {}))
    start, gradients = noise(5, LAYOUT.size), noise(6, 5, LAYOUT.size)
    gradients[2:, 3] = torch.nan
    whole = stepped(trials, start, gradients)[-1]
    for k in (0, 1, 2, 4):
        assert torch.equal(whole[k : k + 1], stepped(trials[k : k + 1], start[k : k + 1], gradients[:, k : k + 1])[-1])
    assert not whole[3].isfinite().any()


@pytest.mark.parametrize("name", sorted(set(names("optimizer")) - {"adam", "adamw"}))
@pytest.mark.parametrize("shape", [MLP, TRANSFORMER.replace(width=9, heads=3)], ids=["mlp", "odd transformer"])
def test_a_trial_alone_is_the_same_in_a_stack(name, shape):
    trials = mixed(shape.replace(optimizer=name, steps=20, evaluate_every=10, **OWN.get(name, {})))
    together = trained(trials)
    assert len({facts(one)["curve of train_loss"] for one in together.values()}) == 5
    for one in (trials[2], trials[4]):
        assert facts(trained([one])[one.id]) == facts(together[one.id])


@pytest.mark.parametrize("name", sorted(set(names("optimizer")) - {"adam", "adamw"}))
def test_a_resumed_stack_equals_the_undisturbed_one(name, tmp_path):
    trial = MLP.replace(optimizer=name, **OWN.get(name, {}))
    trials = (trial, trial.replace(seed=1, weight_decay=0.1))
    storage, training = Storage(str(tmp_path)), begin(trials)
    training.advance(13)
    storage.save(training)
    (again,) = storage.resume(trials[::-1], say=pytest.fail)
    assert again.step == 13
    assert {key: facts(one) for key, one in finish(again).items()} == {
        key: facts(one) for key, one in trained(trials).items()
    }


def test_no_optimizer_uses_a_name_for_something_else():
    """Fields of one name are one axis, and one column of the table."""
    from phasemap.plan.component import built_in

    seen: dict[str, Field] = {}
    for name in names("optimizer"):
        for field in built_in("optimizer", name).fields:
            assert seen.setdefault(field.name, field) == field


def test_an_optimizer_of_ones_own_must_be_one():
    class Bare:
        pass

    from phasemap.plan.component import component

    with pytest.raises(Fault, match=r"optimizer: Bare must be a phasemap\S+Optimizer, got Bare; derive it from that"):
        make_trial({"optimizer": "Bare"}, [component("optimizer", Bare)])
    assert issubclass(component("optimizer", "lion").target, Optimizer)
