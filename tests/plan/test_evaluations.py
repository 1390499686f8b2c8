"""The schedule of a trial's evaluations, forward and back."""

from itertools import pairwise

import pytest

from phasemap.plan.evaluations import next_evaluation, previous_evaluation
from phasemap.plan.trial import Trial


@pytest.mark.parametrize(
    "trial",
    [
        Trial(steps=10_000, evaluate_every=1_000, log_spaced=True),
        Trial(steps=950, evaluate_every=100),
        Trial(steps=7, evaluate_every=1),
    ],
    ids=["log-spaced", "a last step between two multiples", "every step"],
)
def test_evaluations_follow_from_the_step_alone(trial):
    steps = [0]
    while steps[-1] < trial.steps:
        steps.append(next_evaluation(trial, steps[-1]))
    assert steps[-1] == trial.steps
    for before, after in pairwise(steps):
        assert {next_evaluation(trial, step) for step in range(before, after)} == {after}  # also when stopped between
        assert previous_evaluation(trial, after) == before
        assert all(previous_evaluation(trial, step) == before for step in (before + 1, after))
