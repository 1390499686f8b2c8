"""From axes, fixed values and the command line to trials, and the words of every refusal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from small import faults, written

from phasemap.fields import Fault
from phasemap.plan.space import MOST_VALUES, Space
from phasemap.plan.space_file import load
from phasemap.plan.trial import Trial, make_trial


def test_the_last_axis_varies_fastest():
    trials = Space(weight_decay=[0.1, 1], seed=range(3), width=64, model="mlp").trials()
    assert [(t.weight_decay, t.seed) for t in trials] == [(0.1, 0), (0.1, 1), (0.1, 2), (1, 0), (1, 1), (1, 2)]
    assert {t.width for t in trials} == {64}


def test_a_space_without_axes_is_one_trial():
    assert Space().trials() == [Trial()]


def test_any_field_can_be_an_axis():
    assert {t.task for t in Space(task=["modular_addition", "random_labels"]).trials()} == {
        "modular_addition",
        "random_labels",
    }
    assert {t.clone_blocks for t in Space(clone_blocks=[True, False]).trials()} == {True, False}


def test_an_unknown_axis_is_answered_with_the_nearest_one():
    for value in ([64, 128], 64):
        (message,) = faults(Space(widht=value).trials)
        assert (
            message
            == f"widht: not a field of a trial, got {value!r} (did you mean width?); docs/search-spaces.md lists all"
        )


@pytest.mark.parametrize("empty", [[], (), range(0)])
def test_an_empty_axis_is_refused(empty):
    message = "width: an axis needs a value, got an empty one; add a value or remove the axis"
    assert faults(Space(width=empty).trials) == [message]


@pytest.mark.parametrize("seeds", [range(10**12), range(MOST_VALUES + 1)], ids=len)
def test_an_axis_that_is_too_long_is_refused_before_its_trials_are_made(seeds, monkeypatch):
    """A billion values took all memory of the machine, and a hundred thousand half a minute."""
    made = []

    def make(values, parts):
        made.append(values)
        return Trial(**values)

    monkeypatch.setattr("phasemap.plan.space.make_trial", make)
    message = f"seed: an axis may have 100,000 values, got {len(seeds):,}; shorten it"
    assert faults(Space(seed=seeds, weight_decay=[0.1, 1]).trials) == [message]
    assert len(made) == 2


def test_doubled_values_are_refused_even_if_written_differently():
    message = "weight_decay: values must differ, or cells would be doubled, got 1.0 3 times; keep one"
    assert faults(Space(weight_decay=[1, 1.0, 2, "1"]).trials) == [message]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": [128, 130]}, "width: must be a multiple of heads (4), got 130; use 128 or 132"),
        (
            {"task": ["modular_addition", "modular_division"], "modulus": 57},
            "modulus: modular_division needs a prime, got 57; use 59",
        ),
        (
            {"data_fraction": [0.3, 1]},
            "data_fraction: must be below 1, because modular_addition has no test examples of its own, got 1.0; use a "
            "share such as 0.3",
        ),
        ({"weight_decay": [-1, 1]}, "weight_decay: must not be negative, got -1.0; use 0 or more"),
        ({"weight_decay": [math.nan, 1]}, "weight_decay: must be a finite number, got nan; remove it"),
        ({"weight_decay": math.nan}, "weight_decay: must be a finite number, got nan; remove it"),
        ({"width": "wide"}, "width: must be of type int, got 'wide'; write a whole number such as 128"),
        ({"width": [64, "wide"]}, "width: must be of type int, got 'wide'; write a whole number such as 128"),
    ],
)
def test_a_cell_that_breaks_a_rule_is_refused(values, message):
    assert message in faults(Space(**values, seed=range(3)).trials)


def test_a_split_with_an_empty_side_is_refused():
    message = faults(Space(modulus=2, data_fraction=[0.1, 0.5]).trials)
    assert len(message) == 1
    assert "both sides of the split must hold an example, got 0.1, which leaves the training side" in message[0]


def test_faults_of_all_axes_come_at_once_and_each_once():
    found = faults(Space(weight_decay=[-1, 1], width=[128, 130], seed=range(5)).trials)
    assert sorted(fault.split(":")[0] for fault in found) == ["weight_decay", "width"]
    found = faults(Space(widht=[8], depth=[], seed=[1, 1], weight_decay=["x"]).trials)
    assert [fault.split(":")[0] for fault in found] == ["widht", "depth", "seed", "weight_decay"]


def test_a_mistyped_name_is_one_fault_and_counts_as_the_field_that_was_meant():
    message = (
        "evalute_every: not a field of a trial, got {} (did you mean evaluate_every?); docs/search-spaces.md lists all"
    )
    assert faults(Space(steps=200, evalute_every=100).trials) == [message.format(100)]
    assert faults(Space(steps=200).override, ["evalute_every=100"]) == ["--set " + message.format("'100'")]
    found = faults(Space(steps=200, evalute_every=300).trials)  # what was meant breaks a rule of its own
    assert [fault.split(":")[0] for fault in found] == ["evalute_every", "evaluate_every"]


def test_settings_are_checked():
    assert faults(Space(sampler="magic").check)[0].startswith("sampler: must be one of grid, boundary, ")
    assert faults(Space(trials=0).check) == ["trials: must be a whole number of at least 1, got 0; raise it"]
    message = "sampler: boundary needs an axis to explore, got none; add one"
    assert faults(Space(sampler="boundary").check) == [message]
    message = "weight_decay: the grid sampler takes lists only, got a distribution; write a list, or choose a sampler"
    assert faults(Space(weight_decay=FloatDistribution(0.1, 3)).check) == [message]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"width": IntDistribution(16, 256, log=True)},
            "width: must be a multiple of heads (4), got 17; use 16 or 20",
        ),
        ({"width": [16, 18, 32]}, "width: must be a multiple of heads (4), got 18; use 16 or 20"),
        ({"width": [64, 100], "heads": [4, 8]}, "width: must be a multiple of heads (8), got 100; use 96 or 104"),
        ({"weight_decay": [0.1, -1, 3]}, "weight_decay: must not be negative, got -1.0; use 0 or more"),
        (
            {"activation": CategoricalDistribution(["relu", "gleu", "gelu"])},
            "activation: must be one of relu, gelu, square, tanh, sigmoid, silu, got 'gleu'; choose one of these (did "
            "you mean gelu?)",
        ),
        (
            {"width": FloatDistribution(16, 64)},
            "width: must be whole numbers, got FloatDistribution(high=64.0, log=False, low=16.0, step=None); use an "
            "IntDistribution",
        ),
        (
            {"weight_decay": FloatDistribution(1, 1)},
            "weight_decay: an axis needs two values, got FloatDistribution(high=1.0, log=False, low=1.0, step=None); "
            "write the value itself",
        ),
        (
            {"seed": IntDistribution(1, 9), "weight_decay": [1, 2]},
            "seed: must be a value or a list, got IntDistribution(high=9, log=False, low=1, step=1); leave it out: "
            "every trial has a seed of its own",
        ),
    ],
)
@pytest.mark.parametrize("sampler", ["boundary", "sobol"])
def test_a_value_that_a_sampler_might_choose_and_that_breaks_a_rule_is_refused_at_the_start(axes, message, sampler):
    assert faults(Space(**axes, sampler=sampler).check) == [message]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"target": 5}, "target: must lie in [0, 1), got 5; use 0.05, say, or 0 for none"),
        ({"target": -0.1}, "target: must lie in [0, 1), got -0.1; use 0.05, say, or 0 for none"),
        ({"sampler_seed": -1}, "sampler_seed: must be a whole number of at least 0, got -1; raise it"),
        (
            {"objective": "phase"},
            "objective: must be a number among a trial's outcomes, got 'phase'; use grok_step, say",
        ),
    ],
)
def test_a_setting_of_the_sampler_that_would_fail_midway_is_refused_at_the_start(setting, message):
    assert faults(Space(weight_decay=[0.1, 1], sampler="boundary", **setting).check) == [message]


def test_settings_may_be_numbers_of_numpy():
    numbers: dict[str, Any] = {"trials": np.int64(8), "sampler_seed": np.uint8(3), "target": np.float32(0.5)}
    space = Space(weight_decay=[0.1, 1], sampler="sobol", **numbers)
    space.check()
    assert (space.trials_wanted, space.sampler_seed, space.target) == (8, 3, 0.5)


def test_a_distribution_is_an_axis_of_the_other_samplers():
    space = Space(sampler="boundary", weight_decay=FloatDistribution(0.1, 3, log=True), width=[64, 128])
    space.check()
    assert space.axes == ("weight_decay", "width")
    assert set(space.distributions) == {"weight_decay"}
    assert space.grid == {"width": [64, 128]}


def test_the_command_line_overrides_fixes_and_adds_axes():
    space = Space(weight_decay=[0.1, 1.0], width=64, model="mlp")
    changed = space.override(["weight_decay=3", "width=32,64", "seed=0..2"])
    assert changed.fixed == {"weight_decay": 3.0, "model": "mlp"}
    assert changed.grid == {"width": [32, 64], "seed": [0, 1, 2]}
    assert space.grid == {"weight_decay": [0.1, 1.0]}


def test_the_command_line_mixes_ranges_and_values():
    assert Space().override(["seed=0..2,7"]).grid == {"seed": [0, 1, 2, 7]}
    assert Space().override(["learning_rate=1e-3,3e-3"]).grid == {"learning_rate": [0.001, 0.003]}
    assert Space().override(["clone_blocks=true,false"]).grid == {"clone_blocks": [True, False]}


def test_the_command_line_reaches_the_samplers_settings():
    changed = Space(weight_decay=[0.1, 1]).override(["sampler=sobol", "trials=16", "sampler_seed=3", "target=0.1"])
    assert (changed.sampler, changed.trials_wanted, changed.sampler_seed, changed.target) == ("sobol", 16, 3, 0.1)
    assert changed.axes == ("weight_decay",)


@pytest.mark.parametrize("written", ["0-3", "0:3", "0...3", "3..0", "0 - 3"])
def test_a_range_that_is_written_otherwise_is_shown_as_it_must_be(written):
    assert faults(Space().override, [f"seed={written}"]) == [
        f"--set seed: a range must read smallest..largest, got {written!r}; write 0..3"
    ]


def test_all_faults_of_the_command_line_come_at_once():
    found = faults(Space().override, ["widht=3", "width", "depth=", "steps=few"])
    assert found[0].startswith("--set widht: not a field of a trial, got '3' (did you mean width?); ")
    assert found[1] == "--set width: must read field=value or field=value,value; write it so"
    assert found[2] == "--set depth=: must read field=value or field=value,value; write it so"
    assert found[3] == "--set steps: must be of type int, got 'few'; write a whole number such as 15000"


def test_faults_of_the_command_line_do_not_hide_those_of_its_values():
    found = faults(Space().override, ["weight_decay=-1", "foo=1"])
    assert found[0].startswith("--set foo: not a field of a trial, got '1'; ")
    assert found[1:] == ["weight_decay: must not be negative, got -1.0; use 0 or more"]
    found = faults(Space(sampler="sobol", weight_decay=[-1, 1]).override, ["foo=1"])
    assert [fault.split(":")[0] for fault in found] == ["--set foo", "weight_decay"]


def test_the_command_line_takes_an_empty_text():
    space = Space(probes=["stride"], start_from="0" * 16, critical="weight_decay", sampler="boundary", target=0.1)
    changed = space.override(["probes=", "start_from=", "critical=", "sampler=grid"])
    assert (changed.fixed["probes"], changed.fixed["start_from"], changed.critical) == ("", "", "")
    assert changed.trials()[0].probes == ""
    assert faults(Space().override, ["model="]) == [
        "--set model=: must read field=value or field=value,value; write it so"
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["heads=8"],
            "heads: has no effect for mlp on modular_addition with adamw, so its values would repeat one training",
        ),
        (["depth=1", "residual=true"], "residual: has no effect where depth is 1; raise that"),
        (
            ["trials=5"],
            "trials: has no effect with sampler grid; leave it out, or choose another (boundary, sobol, ",
        ),
        (
            ["sampler=sobol", "target=0.1"],
            "target: has no effect with sampler sobol; leave it out, or choose another",
        ),
        (["sampler=sobol", "heads=8"], "heads: has no effect for mlp on modular_addition with adamw"),
    ],
)
def test_a_value_of_the_command_line_that_has_no_effect_is_refused(given, message):
    space = Space(model="mlp", weight_decay=[0.1, 1]).override(given)
    (found,) = faults(space.trials if space.sampler == "grid" else space.check)
    assert found.startswith(message)


def test_a_value_without_effect_may_stand_in_a_space_or_say_what_holds_anyway():
    assert Space(model="mlp", heads=8, trials=5).override(["seed=0,1"]).trials()
    assert Space(model="mlp").override(["depth=1", "residual=false"]).trials()
    assert Space().override(["model=mlp,transformer", "heads=8"]).trials()  # on one of them it has


OWN = """
import torch
from phasemap import Space

class Attn(torch.nn.Module):
    def __init__(self, task, width: int = 8):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.head = torch.nn.Linear(task.tokens * width, task.classes)

    def forward(self, tokens):
        return self.head(self.table(tokens).flatten(1))

def mine(view):
    return {}

"""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            'model="atn"',
            "model: must be one of mlp, transformer, got 'atn'; choose one of these, or write model=Attn, which the "
            "file defines",
        ),
        ('model="mpl"', "model: must be one of mlp, transformer, got 'mpl'; choose one of these (did you mean mlp?)"),
        (
            "model=torch.nn.Linear(3, 4)",
            "model: must be a name, or a torch.nn.Module, got an object of class Linear; write the class or function "
            "itself",
        ),
        (
            "probes=[3]",
            "probe: must be a name, or a function of a view, got an object of class int; write the class or function "
            "itself",
        ),
        (
            "phases=3",
            "phases: must be a name, or a function of curves and outcomes, got an object of class int; write the class "
            "or function itself",
        ),
        (
            "model=Attn, width=-16",
            "model: space.py line 8: Attn(width=-16) raised RuntimeError: Trying to create tensor with negative "
            "dimension -16: [97, -16]; correct it",
        ),
    ],
)
def test_what_is_no_component_is_one_line(tmp_path, values, message):
    assert faults(load(written(tmp_path, f"{OWN}space = Space({values})\n")).trials) == [message]


@pytest.mark.parametrize("probes", ['["dimensions", "stride", mine, "mien"]', '"dimensions+mien"'])
def test_probes_that_are_none_are_named_with_those_that_were_meant(tmp_path, probes):
    space = load(written(tmp_path, f"{OWN}space = Space(probes={probes}, weight_decay=-1)\n"))
    decay, named = sorted(faults(space.trials), reverse=True)
    assert decay.startswith("weight_decay: must not be negative")
    assert named.endswith(
        "got 'dimensions' (did you mean dimension?), 'mien' (did you mean mine?); correct or remove it"
    )


def test_a_probe_whose_library_is_missing_is_a_fault_at_the_start(monkeypatch):
    monkeypatch.setattr("phasemap.plan.space.find_spec", lambda module: None)
    space = Space(model="mlp", modulus=13, probes=["stride", "dimension+homology"], steps=10, evaluate_every=10)
    with pytest.raises(Fault, match=r"probes: homology needs ripser, which is not installed; pip install ripser"):
        space.trials()


def test_every_seed_of_every_cell_is_checked_and_made_once():
    trials = Space(weight_decay=[0.1, 1.0], seed=[3, 1], model="mlp").trials()
    assert [(one.weight_decay, one.seed) for one in trials] == [(0.1, 3), (0.1, 1), (1.0, 3), (1.0, 1)]
    assert trials == [make_trial({"weight_decay": d, "seed": s, "model": "mlp"}) for d in (0.1, 1.0) for s in (3, 1)]
    with pytest.raises(Fault) as caught:
        Space(weight_decay=[0.1, 1.0], seed=[0, -1], model="mlp").trials()
    assert caught.value.faults == ["seed: must lie from 0 to 2^53 - 1, got -1; use 0, 1, 2, …"]
