"""What makes two trials the same, and the words of every refusal."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from phasemap.fields import SHARE_BELOW_ONE, Fault
from phasemap.plan.outcome import DEFINITIONS
from phasemap.plan.trial import FIELDS, STACKED, SWITCHED, Trial, broken_rules, coerce, make_trial

CHOICES = {name: field.choices for name, field in FIELDS.items() if field.choices}


def refusal(**values: object) -> list[str]:
    with pytest.raises(Fault) as caught:
        make_trial(values)
    return caught.value.faults


def test_identities_do_not_change_between_versions():
    assert Trial().id == "44136fa355b3678a"
    assert Trial(weight_decay=0.1, width=64, seed=3).id == "0900a72cb8fb617b"
    assert Trial(task="modular_division", model="mlp", log_spaced=True).id == "dff99cbc776ef5dc"


def test_equal_fields_are_the_same_trial_in_any_order():
    one = make_trial({"width": 64, "weight_decay": 0.1, "seed": 7})
    other = make_trial({"seed": 7, "weight_decay": 0.1, "width": 64})
    assert one == other
    assert one.id == other.id


def test_a_default_given_or_left_out_is_the_same_trial():
    everything = {name: field.default for name, field in FIELDS.items()}
    assert make_trial(everything).id == make_trial({}).id == Trial().id


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if type(field.default) is float])
def test_an_int_for_a_float_is_the_same_trial(name):
    value = {"data_fraction": 0.5, "late_weight_decay": 3}.get(name, 0 if SHARE_BELOW_ONE in FIELDS[name].rules else 1)
    spoken = make_trial({name: value})
    assert type(getattr(spoken, name)) is float
    assert spoken.id == make_trial({name: float(value)}).id == make_trial({name: str(value)}).id


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_part_of_the_identity(name):
    default = FIELDS[name].default
    if name in CHOICES:
        other: Any = next(choice for choice in CHOICES[name] if choice != default)
    elif name == "probes":
        other = "stride"
    elif name == "start_from":
        other = "0123456789abcdef@100"
    elif name == "phases":
        pytest.skip("a rule of your own is a component: see test_own.py")
    else:
        other = not default if isinstance(default, bool) else default / 2 if default > 1 else default + 1
    start = Trial(task="lfsr_5") if name == "context" else Trial(model="mlp") if name == "embedding" else Trial()
    changed = start.replace(**{name: other})
    assert changed.id != start.id
    assert (changed.shape == start.shape) == (name in STACKED - SWITCHED)
    assert (changed.cell == start.cell) == (name == "seed")


@pytest.mark.parametrize("name", sorted(SWITCHED))
def test_trials_that_all_use_a_switched_field_may_differ_in_it(name):
    """One that does not use it takes other steps, so that it trains as it would alone."""
    one, other, without = (Trial(**{name: value}) for value in (0.5, 3.0, FIELDS[name].default))
    assert one.shape == other.shape != without.shape
    assert without.shape == Trial().shape
    with pytest.raises(AttributeError, match="is not shared by the trials of a stack"):
        getattr(one.shape, name)


def test_the_training_set_of_a_full_batch_fixes_its_shape():
    assert Trial(data_fraction=0.3).shape == Trial(data_fraction=0.4).shape
    assert Trial(batch_size=0, data_fraction=0.3).shape != Trial(batch_size=0, data_fraction=0.4).shape


def test_probes_stand_on_evaluation_steps():
    assert Trial(steps=15_000, evaluate_every=1_000).probe_interval == 1_000
    assert Trial(steps=150_000, evaluate_every=1_000).probe_interval == 10_000
    assert Trial(steps=2_500, evaluate_every=100).probe_interval == 300
    assert Trial(steps=100, evaluate_every=100).probe_interval == 300  # at its end alone
    assert Trial(steps=100, evaluate_every=10, probe_every=50).probe_interval == 50


def test_a_label_names_the_axes():
    assert Trial(weight_decay=0.1, width=64).label(("weight_decay", "width")) == "weight_decay=0.1 width=64"
    assert Trial().label(()) == "modular_addition"


RULES = [  # what is said, the message
    ({"weight_decay": math.nan}, "weight_decay: must be a finite number, got nan; remove it"),
    ({"learning_rate": math.inf}, "learning_rate: must be a finite number, got inf; remove it"),
    ({"width": 0}, "width: must be at least 1, got 0; use a positive whole number"),
    ({"depth": 0}, "depth: must be at least 1, got 0; use a positive whole number"),
    ({"heads": 0}, "heads: must be at least 1, got 0; use a positive whole number"),
    ({"steps": 0}, "steps: must be at least 1, got 0; use a positive whole number"),
    ({"evaluate_every": 0}, "evaluate_every: must be at least 1, got 0; use a positive whole number"),
    ({"context": 0}, "context: must be at least 1, got 0; use a positive whole number"),
    ({"settle_evaluations": 0}, "settle_evaluations: must be at least 1, got 0; use a positive whole number"),
    ({"bottleneck": -1}, "bottleneck: must not be negative, got -1; use 0 or more"),
    ({"batch_size": -1}, "batch_size: must not be negative, got -1; use 0 or more"),
    ({"warmup": -1}, "warmup: must not be negative, got -1; use 0 or more"),
    ({"probe_every": -1_000}, "probe_every: must not be negative, got -1000; use 0 or more"),
    ({"decay_switch": -1}, "decay_switch: must not be negative, got -1; use 0 or more"),
    ({"delay_limit": -1}, "delay_limit: must not be negative, got -1; use 0 or more"),
    ({"weight_decay": -0.5}, "weight_decay: must not be negative, got -0.5; use 0 or more"),
    ({"learning_rate": 0}, "learning_rate: must be positive, got 0.0; use a number above 0"),
    ({"initial_scale": -2}, "initial_scale: must be positive, got -2.0; use a number above 0"),
    ({"grok_threshold": 0}, "grok_threshold: must lie in (0, 1], got 0.0; use an accuracy such as 0.9"),
    ({"memorization_threshold": 2}, "memorization_threshold: must lie in (0, 1], got 2.0; use an accuracy such as 0.9"),
    ({"beta1": 1}, "beta1: must lie in [0, 1), got 1.0; use a number such as 0.9"),
    ({"beta2": -0.1}, "beta2: must lie in [0, 1), got -0.1; use a number such as 0.9"),
    ({"data_fraction": 0}, "data_fraction: must lie in (0, 1], got 0.0; use a share such as 0.3"),
    (
        {"data_fraction": 1},
        "data_fraction: must be below 1, because modular_addition has no test examples of its own, got 1.0; "
        "use a share such as 0.3",
    ),
    ({"data_fraction": 1.5}, "data_fraction: must lie in (0, 1], got 1.5; use a share such as 0.3"),
    ({"seed": -1}, "seed: must lie from 0 to 2^53 - 1, got -1; use 0, 1, 2, …"),
    (
        {"late_weight_decay": -0.5},
        "late_weight_decay: must be -1 (never changes) or at least 0, got -0.5; use one of these",
    ),
    ({"width": 130}, "width: must be a multiple of heads (4), got 130; use 128 or 132"),
    ({"width": 2}, "width: must be a multiple of heads (4), got 2; use 4"),
    ({"evaluate_every": 99, "steps": 98}, "evaluate_every: must not exceed steps (98), got 99; lower it"),
    (
        {"probe_every": 1_500},
        "probe_every: must be a multiple of evaluate_every (1000), got 1500; use a multiple, or 0 for the default",
    ),
    ({"modulus": 95, "task": "modular_division"}, "modulus: modular_division needs a prime, got 95; use 97"),
    ({"modulus": 1}, "modulus: must be at least 2, got 1; use a prime such as 97"),
    (
        {"modulus": 2, "data_fraction": 0.1},
        "data_fraction: both sides of the split must hold an example, got 0.1, which leaves the training side of "
        "modular_addition (4 examples) empty; move it away from 0",
    ),
    (
        {"modulus": 5, "task": "modular_division", "data_fraction": 1 - 1e-12},
        "data_fraction: both sides of the split must hold an example, got 0.999999999999, which leaves the test side "
        "of modular_division (16 examples) empty; move it away from 1",
    ),
]


@pytest.mark.parametrize(("said", "message"), RULES, ids=[message.split(", got")[0] for _, message in RULES])
def test_a_broken_rule_says_where_what_was_got_and_what_to_do(said, message):
    assert message in refusal(**said)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_does_not_exist_is_answered_with_those_that_do(name):
    listed = ", ".join(CHOICES[name])
    assert refusal(**{name: "xyz"}) == [f"{name}: must be one of {listed}, got 'xyz'; choose one of these"]


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_can_be_chosen(name):
    for choice in CHOICES[name]:
        other = {"model": "mlp"} if choice == "teacher_student" else {}  # of real inputs
        assert getattr(make_trial({name: choice, **other}), name) == choice


def test_an_mlp_has_no_heads_to_divide_its_width():
    assert make_trial({"model": "mlp", "width": 130}).width == 130


def test_all_faults_come_at_once():
    faults = refusal(weight_decay=-1, width=130, data_fraction=2, task="modular_multiplication", modulus=96)
    assert [fault.split(":")[0] for fault in faults] == ["data_fraction", "weight_decay", "modulus", "width"]


def test_unknown_fields_and_wrong_types_come_at_once():
    faults = refusal(widht=64, depth=2.5, clone_blocks=1, task=3, seed="many")
    assert faults[0] == "widht: not a field of a trial, got 64 (did you mean width?); docs/search-spaces.md lists all"
    assert faults[1:] == [
        "depth: must be of type int, got 2.5; write a whole number such as 2",
        "clone_blocks: must be of type bool, got 1; write True or False",
        "task: must be of type str, got 3; write text such as 'modular_addition'",
        "seed: must be of type int, got 'many'; write a whole number such as 0",
    ]


@pytest.mark.parametrize("value", [True, None, [1], math.nan, math.inf, "1.5", "", "true"])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(Fault, match="width: must be of type int, got "):
        coerce("width", value)


def test_text_is_read_as_the_fields_type():
    assert coerce("width", "64") == coerce("width", 64.0) == 64
    assert type(coerce("width", 64.0)) is int
    assert coerce("weight_decay", "1e-3") == 0.001
    assert coerce("weight_decay", ".5") == coerce("weight_decay", "+0.50") == 0.5
    assert coerce("weight_decay", "1.") == coerce("weight_decay", "01") == 1.0
    assert coerce("clone_blocks", "True") is True
    assert coerce("task", "modular_division") == "modular_division"


def test_the_default_trial_breaks_no_rule():
    assert broken_rules(Trial()) == []


def test_no_outcome_has_the_name_of_a_setting():
    """Both are columns of one table and keys of one run."""
    assert not set(FIELDS) & set(DEFINITIONS)


@pytest.mark.parametrize(
    ("given", "meant"),
    [({"phases": "lu"}, "liu"), ({"probes": "stride+dimention"}, "dimension"), ({"model": "mpl"}, "mlp")],
)
def test_a_mistyped_name_is_refused_with_the_one_that_was_meant(given, meant):
    with pytest.raises(Fault, match=rf"did you mean {meant}\?"):
        make_trial({"modulus": 13, **given})


def test_a_trial_with_another_seed_is_the_trial_that_is_made_with_it():
    first = make_trial({"modulus": 59, "weight_decay": 0.3, "batch_size": 0})
    other = first.with_seed(7)
    assert other == make_trial({"modulus": 59, "weight_decay": 0.3, "batch_size": 0, "seed": 7})
    assert (other.id, other.shape, other.cell) == (first.replace(seed=7).id, first.shape, first.cell)
    assert first.seed == 0
    assert pickle.loads(pickle.dumps(other)) == other
