"""A probe that fails costs its numbers, of the guilty trials alone, and never a trial."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mlflow.utils.validation import _validate_metric_name
from small import MLP, facts, finish, mixed, trained

from phasemap.probes import built_in
from phasemap.probes.view import ALLOWED, Look, View, asked, run
from phasemap.training import evaluate
from phasemap.training.checkpoint import Storage
from phasemap.training.train import begin

TRIALS = [MLP.replace(seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def view() -> View:
    """Three trials after 10 steps, at their end."""
    training = begin(tuple(TRIALS))
    training.advance(10)
    stack = training.stacked()
    return evaluate.view(stack, evaluate.measure(stack, keep=True), [0, 1, 2], last=True)


def one(view: View, function, name: str = "sharpest") -> list[Look]:
    return run(view, [(name, function)])


def length(view: View) -> dict:
    return {"length": view.flat.norm(dim=1)}


def test_a_probe_sees_each_weight_by_its_name(view):
    assert all(len(one) == 3 for one in view.weights.values())
    together = torch.cat([one.flatten(1) for one in view.weights.values()], 1)
    torch.testing.assert_close(together.norm(dim=1), view.flat.norm(dim=1))
    name = max(view.weights)
    assert view.one(1).weights[name].equal(view.weights[name][1:2])


def fails_for(view: View, guilty: int):
    """A probe that cannot bear the weights of one trial."""
    cursed = view.flat[guilty]

    def spectrum(seen: View) -> dict:
        if (seen.flat == cursed).all(1).any():
            raise torch.linalg.LinAlgError("linalg.eigh: the algorithm\nfailed to converge")  # type: ignore[attr-defined]
        return length(seen)

    return spectrum


def test_tensors_arrays_and_lists_are_numbers(view):
    wanted = view.flat.norm(dim=1).double().tolist()
    for form in (
        length,
        lambda v: {"length": length(v)["length"].numpy()},
        lambda v: {"length": length(v)["length"].tolist()},
    ):
        assert [look.numbers for look in one(view, form)] == [{"length": value} for value in wanted]
    exact = one(view, lambda v: {"third": [1 / 3] * len(v.flat), "some": np.arange(len(v.flat)) > 0})
    assert [look.numbers for look in exact] == [{"third": 1 / 3, "some": value} for value in (0.0, 1.0, 1.0)]


def test_only_the_guilty_trial_loses_its_numbers(view):
    looks = one(view, fails_for(view, 1))
    assert [look.numbers for look in looks] == [
        look.numbers if k != 1 else {} for k, look in enumerate(one(view, length))
    ]
    assert [bool(look.faults) for look in looks] == [False, True, False]
    line = looks[1].faults["sharpest"]
    said = "probe sharpest: raised _LinAlgError: linalg.eigh: the algorithm failed to converge (test_run.py:"
    assert line.startswith(said)
    assert "\n" not in line


def test_a_factorisation_that_fails_in_torch_spares_the_neighbors(view):
    """The whole stack's call raises because of one matrix that is not positive definite."""

    def pivots(seen: View) -> dict:
        sign = torch.where((seen.flat == view.flat[2]).all(1), -1.0, 1.0)
        return {"pivot": torch.linalg.cholesky(sign[:, None, None] * torch.eye(4))[:, 0, 0]}

    looks = one(view, pivots)
    assert [look.numbers for look in looks] == [{"pivot": 1.0}, {"pivot": 1.0}, {}]
    assert "raised _LinAlgError: linalg.cholesky" in looks[2].faults["sharpest"]


def test_a_probe_after_a_failed_one_is_run(view):
    own = [(name, built_in(name)) for name in ("stride", "dimension")]
    looks = run(view, [own[0], ("broken", lambda seen: 1 / 0), ("sharpest", length), own[1]])
    for look in looks:
        assert look.faults.keys() == {"broken"}
        assert {"winning_stride", "length", "intrinsic_dimension"} <= look.numbers.keys()


@pytest.mark.parametrize(
    ("returned", "fault"),
    [
        (
            {"roughness": torch.ones(2)},
            "roughness must have one number for each of the 3 trials [3], got shape [2]",
        ),
        ({"roughness": 1.0}, "roughness must have one number for each of the 3 trials [3], got shape []"),
        ({"roughness": ["a", "b", "c"]}, "roughness must be real numbers, got list"),
        ({"roughness": None}, "roughness must be real numbers, got NoneType"),
        ({"roughness": torch.ones(3, dtype=torch.complex64)}, "roughness must be real numbers, got torch.complex64"),
        (torch.ones(3), "must return a dict, name -> one number for each trial, got Tensor"),
        (None, "must return a dict, name -> one number for each trial, got NoneType"),
        ({"width": torch.ones(3)}, "width is a name of phasemap; choose another"),
        ({"grok_step": torch.ones(3)}, "grok_step is a name of phasemap; choose another"),
        ({"picture": torch.ones(3)}, "picture is a name of phasemap; choose another"),
        (
            {"sharp+ness": torch.ones(3)},
            "'sharp+ness' must be a name of letters, digits, _ - . : and spaces, separated by",
        ),
        ({3: torch.ones(3)}, "3 must be a name of letters"),
    ],
)
def test_a_wrong_return_is_a_fault_of_one_line(view, returned, fault):
    for look in one(view, lambda seen: returned):
        assert look.numbers == {}
        assert look.faults["sharpest"].startswith(f"probe sharpest: {fault}")


def test_two_probes_of_the_user_may_not_share_a_name(view):
    looks = run(view, [("first", length), ("second", length)])
    assert all(look.faults == {"second": "probe second: length is a name of probe first"} for look in looks)
    assert [look.numbers for look in looks] == [look.numbers for look in one(view, length)]


@pytest.mark.parametrize(
    "name", ["a", "a b", "a/b", "é-1.5:x", "/a", "a//b", "a/", "../a", "a/../b", ".", "a/./b", "", "a+b", "a,b"]
)
def test_a_name_that_mlflow_refuses_is_refused(name):
    try:
        _validate_metric_name(name)
    except Exception:
        assert not ALLOWED.fullmatch(name)
    else:
        assert ALLOWED.fullmatch(name)


def test_a_number_that_does_not_exist_is_left_out(view):
    looks = one(view, lambda seen: {"rank": torch.where(seen.flat[:, 0] == view.flat[0, 0], torch.nan, 1.0)})
    assert [look.numbers for look in looks] == [{}, {"rank": 1.0}, {"rank": 1.0}]


def with_probe(monkeypatch, function) -> None:
    """Every trial also asks for this probe."""
    monkeypatch.setattr(evaluate, "asked", lambda joined: [*asked(joined), ("sharpest", function)])


def early(view: View) -> dict:
    """A norm that works at first, and not at a trial's end; never for the diverged."""
    if view.last or not view.flat.isfinite().all():
        raise RuntimeError("no more")
    return length(view)


def test_a_trial_reads_the_same_alone_and_beside_the_guilty(monkeypatch):
    with_probe(monkeypatch, early)
    trials = mixed(MLP)
    together = trained(trials)
    for trial in trials:
        alone = trained([trial])[trial.id]
        assert facts(alone) == facts(together[trial.id])
        assert alone.notes["fault"] == together[trial.id].notes["fault"]
        assert alone.notes["fault"].startswith("probe sharpest: raised RuntimeError: no more (test_run.py:")
        assert "length" not in alone.outcome.values, "an earlier value is no outcome"


def test_a_users_number_is_a_curve_and_an_outcome(monkeypatch):
    with_probe(monkeypatch, length)
    result = trained([MLP])[MLP.id]
    assert result.curves["length"][0] == (20, 40, 60)
    assert result.outcome.length == result.curves["length"][1][-1]
    assert result.outcome.length == pytest.approx(result.outcome.weight_norm, rel=1e-5)
    assert "fault" not in result.notes


def test_a_fault_before_an_interruption_is_still_noted(monkeypatch, tmp_path):
    with_probe(monkeypatch, lambda view: length(view) if view.last else 1 / 0)
    training = begin((MLP,))
    training.advance(20)
    assert training.evaluate() == []
    Storage(str(tmp_path)).save(training)
    (again,) = Storage(str(tmp_path)).resume((MLP,), say=pytest.fail)
    result = finish(again)[MLP.id]
    assert result.notes["fault"].startswith("probe sharpest: raised ZeroDivisionError: division by zero (test_run")
    assert result.outcome.length > 0
