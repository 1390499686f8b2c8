from __future__ import annotations

import dataclasses
import pickle

import pytest

from phasemap.plan.outcome import DEFINITIONS, Outcome, is_curve


def test_a_defined_outcome_that_did_not_happen_is_none_and_another_name_is_a_fault() -> None:
    outcome = Outcome(grok_step=40, settled_step=None, roughness=2.5)
    assert (outcome.grok_step, outcome.settled_step, outcome.phase, outcome.roughness) == (40, None, None, 2.5)
    assert outcome.values == {"grok_step": 40, "roughness": 2.5}
    with pytest.raises(AttributeError, match="grok_stepp"):
        _ = outcome.grok_stepp
    assert all(hasattr(outcome, name) for name in DEFINITIONS)


def test_outcomes_are_compared_replaced_and_sent_to_another_process() -> None:
    outcome = Outcome(grok_step=40, roughness=2.5)
    assert outcome == Outcome(roughness=2.5, grok_step=40, phase=None)
    assert hash(outcome) == hash(Outcome(roughness=2.5, grok_step=40))
    assert outcome != Outcome(grok_step=40)
    assert outcome.replace(phase="grokking", roughness=None) == Outcome(grok_step=40, phase="grokking")
    assert outcome == Outcome(grok_step=40, roughness=2.5), "the first is as it was"
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert repr(outcome) == "Outcome(grok_step=40, roughness=2.5)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.grok_step = 3  # type: ignore[attr-defined]


def test_what_a_users_probe_finds_is_a_curve() -> None:
    assert all(is_curve(name) for name in ("roughness", "weight_norm", "weight_norm/block0"))
    assert not any(is_curve(name) for name in ("betti0", "grok_step"))
