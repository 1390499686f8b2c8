"""Stacks on a real Ray of two workers: which worker gets which stack."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import Thread

import pytest
from processes import trainers
from small import MLP, waited

from phasemap.plan.keep import Keep
from phasemap.plan.outcome import Result
from phasemap.plan.stack import Plan
from phasemap.scheduling import cluster, cores, queue, ray_tune
from phasemap.scheduling.queue import Work

ONE_CORE = cluster.Resources(cpus=1, gpus=0)


@pytest.fixture
def two_workers(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(cores, "lent", lambda: 2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster.connect(None, ONE_CORE)
    yield
    cluster.leave()


def test_a_worker_goes_on_with_the_shape_it_has_compiled(two_workers, tmp_path, monkeypatch):
    trials = [MLP.replace(width=width, seed=seed) for width in (8, 16) for seed in range(12)]
    recorded: list[Result] = []
    pairs = []
    work = Work(record=recorded.append, fail=print, say=print, slots=2)
    work.add(Plan(size=2).stacks(trials))
    tell = ray_tune.WorkSearcher.on_trial_complete

    def noting(searcher, trial_id, result=None, error=False):
        stack = work.running[searcher.stacks[trial_id]].stack
        pairs.append((result["pid"], stack.trials[0].width))
        tell(searcher, trial_id, result, error)

    monkeypatch.setattr(ray_tune.WorkSearcher, "on_trial_complete", noting)
    keep = Keep("20", state=True)
    ray_tune.run(work, str(tmp_path / "checkpoints"), 60, ONE_CORE, "cpu", tmp_path / "tune", keep)
    assert {result.notes["kept"] for result in recorded} == {"20+60"}
    assert len(list((tmp_path / "checkpoints" / "states").glob("*/60.pt"))) == len(trials)
    assert sorted(result.trial.id for result in recorded) == sorted(trial.id for trial in trials)
    assert len(pairs) == 12
    assert len({pid for pid, _ in pairs}) == 2
    assert len(set(pairs)) <= 3  # whoever is through with its shape helps with the other


@pytest.mark.long
def test_a_stopped_worker_is_noticed_and_its_stack_runs_again(two_workers, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "NEWS", 10.0)
    monkeypatch.setattr(queue, "SILENCES", 3)
    monkeypatch.setattr(ray_tune, "LOOK_EVERY", 1.0)
    quiet = MLP.replace(steps=9_000, evaluate_every=3_000, probe_every=3_000, delay_limit=3_000)
    trials = [quiet.replace(seed=seed) for seed in range(2)]
    recorded: list[Result] = []
    said: list[str] = []
    work = Work(record=recorded.append, fail=print, say=said.append, slots=2)
    work.add(Plan(size=1, compiled="never").stacks(trials))
    stopped = []

    def stop_one() -> None:
        waited(lambda: len(work.running) == 2 and all(one.started for one in work.running.values()), 120)
        stopped.append(trainers([os.getpid()])[0])
        os.kill(stopped[0], signal.SIGSTOP)

    stopping = Thread(target=stop_one)
    stopping.start()
    ray_tune.run(work, str(tmp_path / "checkpoints"), 60, ONE_CORE, "cpu", tmp_path / "tune")
    stopping.join()
    assert sorted(result.trial.id for result in recorded) == sorted(trial.id for trial in trials)
    (line,) = said
    assert "sent no report for " in line
    assert line.endswith("runs again from its last checkpoint")
    assert stopped[0] not in trainers([os.getpid()])


def test_an_error_of_the_work_ends_the_run_at_once(two_workers, tmp_path):
    work = Work(record=print, fail=print, say=print, slots=2)
    work.add(Plan(size=1, compiled="never").stacks([MLP.replace(steps=10**7)]))

    def check() -> None:
        if work.trial_steps:
            raise ValueError("nothing can be recorded")

    work.check = check
    with pytest.raises(ValueError, match="nothing can be recorded"):
        ray_tune.run(work, str(tmp_path / "checkpoints"), 60, ONE_CORE, "cpu", tmp_path / "tune")


def test_the_reason_of_a_workers_end_is_its_error(two_workers, tmp_path, monkeypatch):
    """An import that fails in the worker alone."""
    died = []
    work = Work(record=print, fail=lambda trial, reason: died.append(reason), say=print, slots=2)
    work.add(Plan(size=1, compiled="never").stacks([MLP]))
    monkeypatch.setattr(queue, "ALONE_TRIES", 1)
    monkeypatch.setattr(ray_tune.StackTrainable, "setup", lambda trainable, config: __import__("no_such_module"))
    ray_tune.run(work, str(tmp_path / "checkpoints"), 60, ONE_CORE, "cpu", tmp_path / "tune")
    assert died == ["its worker process died: ModuleNotFoundError: No module named 'no_such_module'"]
