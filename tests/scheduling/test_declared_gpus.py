"""A real Ray node that declares GPUs it does not have: who is placed where, and sees which GPU."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from small import MLP, facts, space_text, trained

from phasemap import sweep
from phasemap.plan.stack import Plan
from phasemap.scheduling import cluster, cores, ray_tune
from phasemap.scheduling.queue import Work
from phasemap.scheduling.worker import ON_CPU

pytestmark = pytest.mark.long

TRIALS = [MLP.replace(seed=seed) for seed in range(12)]


@pytest.fixture
def two_gpus(monkeypatch) -> Iterator[None]:
    import ray

    monkeypatch.setattr(cores, "lent", lambda: 4)
    monkeypatch.setenv(ON_CPU, "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    start = ray.init
    monkeypatch.setattr(ray, "init", lambda *args, **more: start(*args, num_gpus=2, **more))
    cluster.connect(None, cluster.Resources(cpus=1, gpus=1))
    yield
    cluster.leave()


def seen(monkeypatch, tmp_path, wanted: cluster.Resources, device: str) -> tuple[list[Any], list[tuple[str, str, int]]]:
    """Results, and of every stack: its device, CUDA_VISIBLE_DEVICES of its worker, and the worker."""
    recorded: list[Any] = []
    places = []

    class Telling(ray_tune.StackTrainable):
        def step(self) -> dict[str, Any]:
            found = super().step()
            time.sleep(1)  # or the first worker has done all before the second has started
            return found | {"sees": os.environ.get("CUDA_VISIBLE_DEVICES", "")}

    tell = ray_tune.WorkSearcher.on_trial_complete

    def noting(searcher, trial_id, result=None, error=False):
        places.append((searcher.devices[trial_id], result["sees"], result["pid"]))
        tell(searcher, trial_id, result, error)

    monkeypatch.setattr(ray_tune, "StackTrainable", Telling)
    monkeypatch.setattr(ray_tune.WorkSearcher, "on_trial_complete", noting)
    slots = cluster.count_slots(wanted, device)
    work = Work(record=recorded.append, fail=print, say=print, slots=slots.count)
    work.add(Plan(size=1, compiled="never").stacks(TRIALS))
    ray_tune.run(work, str(tmp_path / "checkpoints"), 60, wanted, device, tmp_path / "tune")
    return recorded, places


def as_alone(recorded: list[Any]) -> bool:
    alone = trained(TRIALS)
    return {one.trial.id: facts(one) for one in recorded} == {key: facts(one) for key, one in alone.items()}


def test_a_stack_on_a_gpu_sees_one_gpu_and_a_worker_keeps_its_own(two_gpus, monkeypatch, tmp_path):
    assert cluster.count_slots(cluster.Resources(1, 1), "auto").gpus == {"cuda": 2}
    recorded, places = seen(monkeypatch, tmp_path, cluster.Resources(cpus=1, gpus=1), "cuda")
    assert {device for device, _, _ in places} == {"cuda"}
    assert {sees for _, sees, _ in places} == {"0", "1"}
    assert all(len({sees for _, sees, pid in places if pid == worker}) == 1 for _, _, worker in places)
    assert as_alone(recorded)


def test_shares_of_a_gpu_are_slots_of_their_own_and_cores_beside_them_see_none(two_gpus, monkeypatch, tmp_path):
    wanted = cluster.Resources(cpus=1, gpus=0.67)
    slots = cluster.count_slots(wanted, "auto")
    assert (slots.cpu, slots.gpus) == (2, {"cuda": 2})
    assert cluster.count_slots(cluster.Resources(cpus=1, gpus=0.5), "auto").gpus == {"cuda": 4}
    recorded, places = seen(monkeypatch, tmp_path, wanted, "auto")
    assert Counter(device for device, _, _ in places).keys() <= {"cuda", "cpu"}
    assert all(sees in ("0", "1") for device, sees, _ in places if device == "cuda")
    assert all(sees == "" for device, sees, _ in places if device == "cpu")
    assert as_alone(recorded)


def test_a_gpu_that_ray_counts_and_torch_cannot_use_trains_nothing(tmp_path, monkeypatch, capsys):
    import ray

    start = ray.init
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(ray, "init", lambda *args, **more: start(*args, num_gpus=1, **more))
    (tmp_path / "space.py").write_text(space_text(seed=[0, 1, 2]))
    assert sweep.main(["space.py", "--no-figures"]) == 0
    told = capsys.readouterr().out
    assert "space: Ray counts a GPU that torch cannot use (" in told
    assert "space: 3 of 3 trials recorded" in told
