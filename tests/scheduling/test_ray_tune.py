"""Stacks on a real Ray of two workers: which worker gets which stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small import MLP

from phasemap.plan.stack import Plan
from phasemap.scheduling import ray_tune
from phasemap.scheduling.queue import Work

ONE_CORE = ray_tune.Resources(cpus=1, gpus=0)


@pytest.fixture
def two_workers(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray_tune.connect(None, ONE_CORE)
    yield
    ray_tune.ray.shutdown()


def test_a_worker_goes_on_with_the_shape_it_has_compiled(two_workers, tmp_path, monkeypatch):
    trials = [MLP.replace(width=width, seed=seed) for width in (8, 16) for seed in range(12)]
    recorded, pairs = [], []
    work = Work(record=recorded.append, fail=print, say=print, slots=2)
    work.add(Plan(slots=2, size=2).stacks(trials))
    tell = ray_tune.WorkSearcher.on_trial_complete

    def noting(searcher, trial_id, result=None, error=False):
        stack = work.running[searcher.stacks[trial_id]].stack
        pairs.append((result["pid"], stack.trials[0].width))
        tell(searcher, trial_id, result, error)

    monkeypatch.setattr(ray_tune.WorkSearcher, "on_trial_complete", noting)
    ray_tune.run(work, str(tmp_path / "checkpoints"), 60, ONE_CORE, "cpu", tmp_path / "tune")
    assert sorted(result.trial.id for result in recorded) == sorted(trial.id for trial in trials)
    assert len(pairs) == 12
    assert len({pid for pid, _ in pairs}) == 2
    assert len(set(pairs)) <= 3  # whoever is through with its shape helps with the other
