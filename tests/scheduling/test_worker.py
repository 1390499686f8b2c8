"""A stack that does not fit its device is halved before it is tried."""

from __future__ import annotations

import pytest
from small import MLP, facts, trained

from phasemap.plan.stack import Stack, memory
from phasemap.scheduling import worker
from phasemap.training.checkpoint import Storage

TRIALS = tuple(MLP.replace(seed=seed, steps=20) for seed in range(5))


@pytest.mark.parametrize(("room", "sizes"), [(5.0, [5]), (4.9, [2, 3]), (2.0, [2, 1, 2]), (0.1, [1] * 5)])
def test_a_stack_is_halved_until_its_parts_fit(room, sizes):
    found = worker.parts(TRIALS, room * memory(MLP))
    assert [len(part) for part in found] == sizes
    assert tuple(trial for part in found for trial in part) == TRIALS


def test_this_machine_tells_its_memory():
    assert 2**20 < worker.free_memory("cpu") < 2**50


def test_what_runs_in_parts_gives_the_results_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "free_memory", lambda device: 2.0 * memory(MLP))
    run = worker.StackRun(Stack(TRIALS), Storage(str(tmp_path)), "cpu", 60)
    found = {result.trial.id: facts(result) for report in run for result in report.results}
    assert found == {trial_id: facts(result) for trial_id, result in trained(TRIALS).items()}


def test_reports_bring_each_point_of_the_trials_that_still_train_once(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "REPORT_EVERY", 0.0)
    monkeypatch.setattr(worker, "CURVES_EVERY", 0.0)
    reports = list(
        worker.StackRun(Stack(tuple(t.replace(steps=60) for t in TRIALS)), Storage(str(tmp_path)), "cpu", 60)
    )
    (results,) = [report.results for report in reports if report.results]
    for result in results:
        for key, (steps, values) in result.curves.items():
            points = [report.curves.get(result.trial.id, {}).get(key, ((), ())) for report in reports]
            assert sum((part for part, _ in points), ()) == steps[:-1]  # the last one comes with the result
            assert sum((part for _, part in points), ()) == values[:-1]
    assert all(report.began > 0 for report in reports)
