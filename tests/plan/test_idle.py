"""An axis is refused exactly where its values would repeat one training: every pair of field and component."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from small import facts, trained

from phasemap import Task
from phasemap.fields import Fault
from phasemap.plan.component import built_in, names
from phasemap.plan.idle import idle
from phasemap.plan.space import Space
from phasemap.plan.trial import CORE, FIELDS, SLOTS, Trial, broken_rules

# What only tells how a trial is looked at: two values may give equal numbers in a run so short.
LOOKS = {"steps", "evaluate_every", "probe_every", "log_spaced", "probes", "phases", "stop_when_settled"}
LOOKS |= {"split"}  # another order of the batches
LOOKS |= {"subnormals"}  # no number becomes so small in a short run
LOOKS |= {"start_from"}  # needs weights that were kept: training/test_weights.py
LOOKS |= {"grok_threshold", "memorization_threshold", "delay_limit", "settle_evaluations"}
OTHER: dict[str, object] = {"gradient_clip": 1e-3, "norm_clamp": 3.0, "momentum": 0.5, "dropout": 0.5}
OTHER |= {"modulus": 7, "context": 5, "width": 12, "data_fraction": 0.61, "batch_size": 9, "late_weight_decay": 0.3}
OTHER |= {"parity_examples": 40, "warmup": 3, "stream_length": 1_100, "heads": 4, "decay_switch": 2}


def rings(size: int = 5) -> Task:
    """Real inputs."""
    angle = 2 * np.pi * np.arange(60) / 60
    return Task(np.stack([np.cos(angle), np.sin(angle)], 1), np.arange(60) * size // 60)


def short(**values: object) -> Trial:
    plain = {"data_fraction": 0.5, "batch_size": 12, "width": 8, "heads": 2, "depth": 2, "probes": ""}
    fields = {**plain, "steps": 5, "evaluate_every": 5, "learning_rate": 1e-2, **values}
    fields = {name: value for name, value in fields.items() if name in CORE or name in Trial(**fields).fields()}
    return Trial(**fields)


BASES = {
    "mlp on addition, adamw": short(model="mlp", modulus=5),
    "one deep mlp on addition, sgd": short(model="mlp", modulus=5, depth=1, optimizer="sgd"),
    "mlp on parity, adam": short(model="mlp", task="sparse_parity", context=6, parity_examples=50, optimizer="adam"),
    "mlp on windows": short(model="mlp", task="lfsr_5", context=6, embedding="concatenate", stream_length=1_050),
    "mlp on real inputs": short(model="mlp", task=rings),
    "transformer on addition": short(modulus=5),
    "transformer of one block on windows": short(task="lfsr_5", context=6, depth=1, stream_length=1_050),
    "mlp whose warm-up leaves no further step": short(model="mlp", modulus=5, warmup=5),
    "transformer, decay that changes at once": short(modulus=5, late_weight_decay=0.2),
    "transformer, decay that never comes to change": short(modulus=5, late_weight_decay=0.2, decay_switch=5),
}


def other(trial: Trial, name: str) -> object:
    """Another value that the trial may have."""
    now, field = getattr(trial, name), FIELDS[name]
    if field.choices:
        for choice in field.choices:
            if choice != now and not broken_rules(trial.replace(**{name: choice})):
                return choice
        return now
    if isinstance(now, bool):
        return not now
    return OTHER.get(name, now / 2 if isinstance(now, float) and now > 0 else now + 1)


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_an_axis_is_refused_exactly_where_it_changes_no_number(base):
    before = facts(trained([base])[base.id])
    for name in set(FIELDS) - set(SLOTS) - LOOKS:
        changed = base.replace(**{name: other(base, name)})
        if getattr(changed, name) == getattr(base, name):
            continue  # the one value that is possible here
        same = facts(trained([changed])[changed.id]) == before if name in base.fields() else True
        assert bool(idle(base, (name,))) == same, name


@pytest.mark.parametrize("kind", SLOTS)
def test_the_fields_of_every_other_component_are_refused(kind):
    for name in names(kind):
        model = {"model": "mlp", "embedding": "concatenate"} if kind == "task" and name not in names("task")[:1] else {}
        trial = Trial(**{**model, kind: name})
        foreign = [one for one in FIELDS if one not in trial.fields()]
        refused = [fault.partition(":")[0] for fault in idle(trial, tuple(FIELDS)) if "would repeat" in fault]
        assert refused == foreign
        assert not {field.name for field in built_in(kind, name).fields} & set(foreign)


def pace(curves, outcomes) -> Literal["early", "late"]:
    return "early" if outcomes["grok_step"] else "late"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"delay_limit": [1, 2], "phases": pace},
            "delay_limit: has no effect on a phase rule of your own; leave it out",
        ),
        (
            {"log_spaced": [True, False], "evaluate_every": 1},
            "log_spaced: has no effect where evaluate_every is 1; raise that",
        ),
        (
            {"decay_switch": [1, 2], "late_weight_decay": [-1, 0.1]},
            "decay_switch: has no effect while late_weight_decay is -1; give that too",
        ),
        (
            {"decay_switch": [1, 2], "late_weight_decay": [0.1, -1]},
            "decay_switch: has no effect while late_weight_decay is -1; give that too",
        ),
        (
            {"split": ["examples", "distinct"]},
            "split: has no effect as distinct where no two inputs are equal; use examples",
        ),
        (
            {"parity_examples": [64, 65], "task": "sparse_parity", "context": 6},
            "parity_examples: has no effect where it exceeds the inputs there are; lower it",
        ),
        ({"clone_blocks": [True, False], "depth": [1, 2]}, "clone_blocks: has no effect where depth is 1; raise that"),
    ],
)
def test_a_combination_without_effect_is_refused_before_the_start(values, message):
    with pytest.raises(Fault) as caught:
        Space(modulus=7, steps=20, **{"evaluate_every": 10, **values}).trials()
    assert caught.value.faults == [message]


def test_a_value_that_is_fixed_may_be_one_that_changes_nothing():
    """A file may be run with another network or task, and its fixed values stay."""
    assert len(Space(model=["mlp", "transformer"], modulus=7, heads=2, decay_switch=3).trials()) == 2
