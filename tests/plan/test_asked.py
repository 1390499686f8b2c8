"""Which recorded trials a space asks for."""

import json
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from phasemap.plan.asked import MOST_CHARACTERS, asked, strays
from phasemap.plan.space import Space

SPACE = Space(
    weight_decay=[0.1, 1.0], width=[16, 32], seed=range(3), model="mlp", modulus=23, steps=200, evaluate_every=50
)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, []),
        ({"weight_decay": 1.0, "seed": 2}, []),
        ({"steps": 1_200}, ["steps"]),
        ({"width": 64, "seed": 3}, ["seed", "width"]),
        ({"learning_rate": 1e-2}, ["learning_rate"]),  # not written in the space: its default is meant
    ],
)
def test_a_trial_of_other_values_is_none_of_the_space(change, differs):
    trial = SPACE.trials()[0].replace(**change)
    wanted = json.loads(json.dumps(asked(SPACE)))  # as the record keeps it
    assert sorted(strays(wanted, trial.texts)) == differs


def test_continuous_axes_ask_for_what_lies_between_their_ends():
    axes: dict[str, Any] = {
        "weight_decay": FloatDistribution(1 / 3, 2 / 3),
        "width": IntDistribution(16, 64),
        "activation": CategoricalDistribution(["relu", "gelu"]),
    }
    wanted = asked(Space(sampler="random", model="mlp", modulus=23, **axes))
    near = Space(model="mlp", modulus=23, weight_decay=2 / 3, width=16, activation="gelu").trials()[0]
    assert strays(wanted, near.texts) == []
    far = near.replace(weight_decay=0.7, width=65, activation="square")
    assert sorted(strays(wanted, far.texts)) == ["activation", "weight_decay", "width"]


def test_a_sampler_draws_its_own_seeds():
    space = Space(sampler="boundary", model="mlp", weight_decay=FloatDistribution(0.1, 1.0))
    trial = Space(model="mlp", weight_decay=0.5, seed=7).trials()[0]
    assert strays(asked(space), trial.texts) == []
    assert strays(asked(Space(model="mlp", weight_decay=[0.5])), trial.texts) == ["seed"]


@pytest.mark.parametrize("fixed", [2 / 3, 0.1 * 3])
def test_a_fixed_number_of_many_digits_is_that_of_the_sampled_trials(fixed):
    space = Space(sampler="random", model="mlp", weight_decay=FloatDistribution(0.1, 1.0), data_fraction=fixed)
    assert [strays(asked(space), trial.texts) for trial in space.corners()] == [[], []]
    written = space.corners()[0].replace(data_fraction=fixed)  # with all digits, as some were recorded
    assert strays(asked(space), written.texts) == []


def test_a_sampler_goes_on_after_the_seeds_that_are_written():
    for seeds, before in (([3, 5], 2), (7, 6)):
        space = Space(sampler="boundary", model="mlp", weight_decay=FloatDistribution(0.1, 1.0), seed=seeds)
        trial = Space(model="mlp", weight_decay=0.5).trials()[0]
        assert strays(asked(space), trial.replace(seed=40).texts) == []
        assert strays(asked(space), trial.replace(seed=before).texts) == ["seed"]


def test_a_field_that_another_network_does_not_have_says_nothing():
    wanted = asked(Space(model=["mlp", "transformer"], heads=2, width=16, modulus=23))
    assert strays(wanted, Space(model="mlp", width=16, modulus=23).trials()[0].texts) == []
    assert strays(wanted, Space(model="transformer", width=16, modulus=23).trials()[0].texts) == ["heads"]


class Net(torch.nn.Module):
    def __init__(self, task, width: int = 24):
        super().__init__()
        self.table, self.head = torch.nn.Embedding(task.vocabulary, width), torch.nn.Linear(width, task.classes)

    def forward(self, tokens):
        return self.head(self.table(tokens).sum(1))


def test_networks_with_other_defaults_of_one_field_are_all_of_the_space():
    space = Space(model=["mlp", Net], modulus=23)
    assert [trial.width for trial in space.trials()] == [128, 24]
    assert [strays(asked(space), trial.texts) for trial in space.trials()] == [[], []]


def test_a_long_axis_is_kept_by_its_ends():
    rates = [0.001 * n for n in range(1, 2_001)]
    wanted = asked(Space(learning_rate=rates, seed=range(5_000), model="mlp"))
    assert wanted["seed"] == {"from": 0, "to": 4_999}
    assert len(json.dumps(wanted)) < MOST_CHARACTERS
    assert strays(wanted, {"learning_rate": "2.1", "model": "mlp"}) == ["learning_rate"]
