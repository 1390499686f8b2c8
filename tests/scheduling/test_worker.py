"""A stack that does not fit its device is halved before it is tried."""

from __future__ import annotations

import time

import pytest
from small import MLP, facts, trained

from phasemap.plan.stack import Stack, memory
from phasemap.scheduling import cores, worker
from phasemap.training.checkpoint import Storage

TRIALS = tuple(MLP.replace(seed=seed, steps=20) for seed in range(5))


@pytest.mark.parametrize(("room", "sizes"), [(5.0, [5]), (4.9, [2, 3]), (2.0, [2, 1, 2]), (0.1, [1] * 5)])
def test_a_stack_is_halved_until_its_parts_fit(room, sizes):
    found = worker.parts(TRIALS, room * memory(MLP))
    assert [len(part) for part in found] == sizes
    assert tuple(trial for part in found for trial in part) == TRIALS


def test_this_machine_tells_its_memory():
    assert 2**20 < worker.free_memory("cpu") < 2**50


def test_the_limit_of_a_container_or_a_job_counts(tmp_path, monkeypatch):
    """A job's group has no limit of its own, the one above it has; files in memory can be given back."""
    group = tmp_path / "groups" / "job" / "step"
    group.mkdir(parents=True)
    (tmp_path / "own").write_text("4:memory:/old\n0::/job/step\n")
    for name, text in (("max", "max\n"), ("current", "900\n"), ("stat", "anon 600\ninactive_file 300\n")):
        (group / f"memory.{name}").write_text(text)
        (group.parent / f"memory.{name}").write_text(text.replace("max", "1000"))
    monkeypatch.setattr(cores, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "OWN_GROUP", tmp_path / "own")
    assert worker.free_memory("cpu") == pytest.approx(worker.SHARE_OF_MEMORY * 400)
    (group.parent / "memory.max").write_text("max\n")
    assert worker.free_memory("cpu") > 2**20


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


def test_a_trial_lasts_as_long_as_it_trained_however_the_clock_jumps(tmp_path, monkeypatch):
    now, jumps = time.time, iter((0, -7, 5, -7, 5))
    monkeypatch.setattr(time, "time", lambda: now() + 3_600 * next(jumps, 0))
    run = worker.StackRun(Stack(TRIALS), Storage(str(tmp_path)), "cpu", 60)
    lasted = [result.ended - result.began for report in run for result in report.results]
    assert len(lasted) == len(TRIALS)
    assert all(0 < seconds < 60 for seconds in lasted)
