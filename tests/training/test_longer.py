"""A longer budget that goes on from a kept state has the bits of one go; what does not fit starts from step 0."""

from __future__ import annotations

import pytest
from small import MLP, TRANSFORMER, facts, finish, mixed, trained

from phasemap.plan.keep import Keep
from phasemap.plan.stack import Stack
from phasemap.plan.trial import Trial
from phasemap.scheduling.worker import StackRun
from phasemap.training import longer
from phasemap.training.checkpoint import Storage
from phasemap.training.train import train


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "sweep"))


def short(storage: Storage, trials: list[Trial], compiled: bool = False) -> dict:
    """Trains a stack and keeps its states."""
    reports = list(StackRun(Stack(tuple(trials), compiled), storage, "cpu", 60.0, Keep(state=True)))
    return {result.trial.id: result for report in reports for result in report.results}


def gone_on(storage: Storage, trials: list[Trial]) -> tuple[list[int], dict, list[str]]:
    """The steps at which the stacks begin, their results, and what was said."""
    said: list[str] = []
    stacks = storage.resume(tuple(trials), say=said.append)
    begun = [training.step for training in stacks]
    return begun, {key: one for training in stacks for key, one in finish(training).items()}, said


@pytest.mark.parametrize(
    ("trial", "changes"),
    [
        (MLP, {}),
        (MLP, {"steps": 50}),  # ends between two evaluations, and is measured there
        (MLP, {"log_spaced": True, "steps": 37}),
        (MLP, {"warmup": 80}),  # that is still going on
        (MLP, {"dropout": 0.2, "weight_noise": 0.1}),
        (MLP, {"optimizer": "sgd", "late_weight_decay": 0.5, "decay_switch": 70}),
        (MLP, {"optimizer": "grokfast"}),
        (TRANSFORMER, {"optimizer": "muon"}),
    ],
    ids=[
        "mlp",
        "between evaluations",
        "log-spaced",
        "warm-up",
        "noise",
        "sgd with a switch",
        "grokfast",
        "transformer by muon",
    ],
)
def test_a_longer_budget_has_the_bits_of_one_go(storage, trial, changes):
    trial = trial.replace(**changes)
    before = [one for i, one in enumerate(mixed(trial)) if i != 3]
    after = [one.replace(steps=100) for one in before]
    first = short(storage, before)
    assert {key: facts(one) for key, one in first.items()} == {key: facts(one) for key, one in trained(before).items()}
    begun, found, said = gone_on(storage, after)
    assert begun == [trial.steps]
    assert set(said) == {f"trials go on from the states that were kept of them at step {trial.steps}"}
    whole = trained(after)
    assert {key: facts(one) for key, one in found.items()} == {key: facts(one) for key, one in whole.items()}


def test_it_may_go_on_twice_be_killed_in_between_and_be_stacked_otherwise(storage):
    a, b, c = MLP, MLP.replace(seed=1), MLP.replace(seed=2)
    short(storage, [a, b])
    short(storage, [one.replace(steps=80) for one in (b, c)])  # b goes on, c starts
    long = [one.replace(steps=140) for one in (a, b, c)]
    stacks = storage.resume(tuple(long), say=lambda text: None)
    assert [(stack.step, [trial.seed for trial in stack.trials]) for stack in stacks] == [(80, [1, 2]), (60, [0])]
    next(train(stacks[0]))  # the evaluation at step 80
    stacks[0].advance(93)
    storage.save(stacks[0])  # and is killed
    begun, found, _ = gone_on(storage, long)
    assert begun == [93, 60]
    assert {key: facts(one) for key, one in found.items()} == {key: facts(one) for key, one in trained(long).items()}


def test_probes_whose_distance_follows_from_the_budget_do_not_fit():
    trial = MLP.replace(steps=2_000, evaluate_every=100, probe_every=0, batch_size=8)
    assert longer.misfit(trial.replace(steps=20_000), 2_000) == (
        "probes every 300 and 1300 steps; set probe_every for both"
    )
    assert longer.misfit(trial.replace(steps=4_000), 2_000) == ""  # as near: every 300 steps


@pytest.mark.parametrize("annealing", ["linear", "cosine"])
def test_a_rate_that_falls_towards_the_end_of_the_budget_does_not_fit(storage, annealing):
    trial = MLP.replace(annealing=annealing)
    short(storage, [trial])
    begun, _, said = gone_on(storage, [trial.replace(steps=100)])
    assert begun == [0]
    assert said == [
        "the state kept at step 60 must fit a budget of 100 steps, got rates that follow from the budget; "
        "its trials start from step 0"
    ]


def test_a_state_that_does_not_fit_is_named_with_its_reason(storage):
    trial = MLP.replace(steps=40)
    short(storage, [trial], compiled=False)
    said: list[str] = []
    (training,) = storage.resume((trial.replace(steps=80),), compiled=True, say=said.append)
    assert training.step == 0
    assert said == [
        "the state kept at step 40 must fit a budget of 80 steps, got one made with engine eager (here compiled); "
        "its trials start from step 0"
    ]


def test_a_trial_that_would_have_settled_at_the_end_of_the_shorter_budget_settles_there(storage):
    trial = MLP.replace(stop_when_settled=True, grok_threshold=1e-9, settle_evaluations=2, steps=40)
    assert short(storage, [trial])[trial.id].outcome.ending == "budget"
    long = trial.replace(steps=100)
    begun, found, _ = gone_on(storage, [long])
    assert begun == [40]
    assert found[long.id].outcome.ending == "settled"
    assert facts(found[long.id]) == facts(trained([long])[long.id])


def test_what_goes_on_and_is_killed_before_its_first_evaluation_still_takes_it(storage):
    short(storage, [MLP])
    long = MLP.replace(steps=100)
    (training,) = storage.resume((long,), say=lambda text: None)
    storage.save(training)
    begun, found, said = gone_on(storage, [long])
    assert (begun, said) == ([60], [])
    assert facts(found[long.id]) == facts(trained([long])[long.id])


def test_what_is_killed_when_one_trial_of_two_has_written_its_first_checkpoint_measures_the_other_too(storage):
    trials = [MLP, MLP.replace(seed=1)]
    short(storage, trials)
    longest = [trial.replace(steps=100) for trial in trials]
    (training,) = storage.resume(tuple(longest))
    assert training.due
    assert training.evaluate() == []
    storage.save(training)
    storage.remove(longest[1].id)
    begun, found, _ = gone_on(storage, longest)
    assert begun == [60, 60]
    whole = trained(longest)
    assert {key: facts(one) for key, one in found.items()} == {key: facts(one) for key, one in whole.items()}


def test_only_the_budget_may_differ_and_a_shorter_one_takes_nothing_from_a_longer(storage):
    short(storage, [MLP])
    for other in (MLP.replace(seed=9, steps=90), MLP.replace(weight_decay=0.5, steps=90), MLP.replace(steps=50)):
        assert gone_on(storage, [other])[0] == [0]


def test_a_trial_that_ended_early_keeps_no_state(storage):
    trial = MLP.replace(stop_when_settled=True, grok_threshold=1e-9, settle_evaluations=2)
    result = short(storage, [trial])[trial.id]
    assert result.outcome.ending == "settled"
    assert "state" not in result.notes
    assert storage.states(trial).steps(".pt") == []
