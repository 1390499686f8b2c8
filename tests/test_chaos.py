"""Kills at random moments: the finished sweep equals the undisturbed one, exactly once each.

Real Ray, real MLflow on sqlite, real SIGKILL. The whole record is compared: configurations, outcomes,
curves. Only the measured time differs.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import command_line, descendants, kill, trainers
from small import space_text

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

KILLS = int(os.environ.get("PHASEMAP_KILLS", "4"))  # of the long test; set more for a longer night
FIGURELESS = ("--no-figures", "--checkpoint-every", "0.5", "--stack-size", "3")


def write(folder: Path, steps: int, seeds: int) -> None:
    axes = {"weight_decay": [0.1, 1.0, 3.0], "width": [8, 16], "seed": range(seeds)}
    slow = {"modulus": 23, "batch_size": 128, "beta2": 0.98, "evaluate_every": 100, "delay_limit": 200}
    (folder / "space.py").write_text(space_text(**axes, **slow, steps=steps))


def start(folder: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "phasemap.sweep", "space.py", *FIGURELESS, *options]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def finish(folder: Path, *options: str) -> None:
    """Runs the command until it says that everything is recorded."""
    for _ in range(5):
        if start(folder, *options).wait(timeout=600) == 0:
            return
    raise AssertionError((folder / "log.txt").read_text()[-3_000:])


def record(folder: Path) -> dict[str, tuple]:
    """trial id -> everything recorded of it but the time it took."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("space")
    assert experiment is not None
    condition = "tags.`phasemap.kind` = 'trial' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment.experiment_id], condition, max_results=1_000)
    found = {}
    for run in runs:
        trial = run.data.tags["phasemap.trial"]
        assert trial not in found, f"trial {trial} is recorded twice"
        curves = {
            key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
            if key != "train_seconds"
        }
        found[trial] = (run.data.params, run.data.tags["phase"], curves)
    return found


def disturb(folder: Path, kills: int, rng: random.Random, *options: str) -> dict[str, int]:
    """Kills workers, drivers, or everything at once, at random moments, until ``kills`` are done."""
    done = {"worker": 0, "driver": 0, "everything": 0}
    driver = start(folder, *options)
    deadline = time.monotonic() + 60 * kills
    while sum(done.values()) < kills and time.monotonic() < deadline:
        time.sleep(rng.uniform(0.2, 2.0))
        if driver.poll() is not None:
            if driver.returncode == 0:
                break
            driver = start(folder, *options)
            continue
        victims = trainers([driver.pid])
        what = rng.choice(["worker", "worker", "worker", "driver", "everything"])
        if not victims:
            continue
        if what == "worker":
            done[what] += kill(rng.choice(victims))
            continue
        below = descendants([driver.pid]) if what == "everything" else []
        done[what] += kill(driver.pid)
        for pid in below:
            kill(pid)
        driver.wait()
        driver = start(folder, *options)
    if driver.poll() is None:
        driver.wait(timeout=600)
    return done


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """The record of a sweep nobody touched; run in one process, without Ray."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write(folder, steps=2_000, seeds=5)
    finish(folder, "--local")
    return record(folder)


def at_work(folder: Path) -> subprocess.Popen:
    """A driver whose stacks are training."""
    driver = start(folder)
    until(lambda: bool(trainers([driver.pid])), driver, folder)
    return driver


def until(holds: Callable[[], bool], driver: subprocess.Popen, folder: Path) -> None:
    """Waits for it while the driver runs, ten minutes at most."""
    deadline = time.monotonic() + 600
    while not holds():
        assert driver.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.long
def test_a_killed_worker_a_killed_driver_and_a_killed_node_change_nothing(tmp_path, undisturbed):
    write(tmp_path, steps=2_000, seeds=5)
    driver = at_work(tmp_path)
    time.sleep(2)
    assert kill(trainers([driver.pid])[0])
    died = "stopped (its worker process died); runs again from its last checkpoint"
    until(lambda: died in (tmp_path / "log.txt").read_text(), driver, tmp_path)
    assert kill(driver.pid)
    driver.wait()
    driver = at_work(tmp_path)
    node = next(pid for pid in descendants([driver.pid]) if b"/raylet " in command_line(pid))
    for pid in (node, *descendants([node])):
        kill(pid)
    assert driver.wait(timeout=900) == 0
    told = (tmp_path / "log.txt").read_text()
    assert "this machine's Ray node is gone; connecting again" in told
    assert "(raylet" not in told, "Ray's paragraph about a dead worker is not for the user"
    assert record(tmp_path) == undisturbed
    assert not list((tmp_path / "phasemap_data").rglob("*.pt")), "checkpoints of recorded trials are removed"


@pytest.mark.long
def test_interrupts_and_termination_keep_progress_and_the_same_command_continues(tmp_path, undisturbed):
    """A terminal's Ctrl-C goes to every process of the group; the second leaves at once."""
    write(tmp_path, steps=2_000, seeds=5)
    driver = at_work(tmp_path)
    time.sleep(3)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(timeout=180) == 130
    assert "interrupted: progress is kept, the same command continues" in (tmp_path / "log.txt").read_text()
    driver = at_work(tmp_path)
    for _ in range(2):
        os.killpg(driver.pid, signal.SIGINT)
        time.sleep(0.05)
    assert driver.wait(timeout=180) == 130
    driver = at_work(tmp_path)
    driver.terminate()  # as batch systems and container engines do it, the driver alone
    assert driver.wait(timeout=180) == 130
    driver = at_work(tmp_path)
    os.killpg(driver.pid, signal.SIGTERM)  # as `timeout` does it
    assert driver.wait(timeout=180) == 130
    told = (tmp_path / "log.txt").read_text()
    assert told.count("interrupted: progress is kept") >= 3
    assert "GCS" not in told
    assert "Traceback" not in told
    assert "SIGTERM" not in told
    finish(tmp_path)
    assert record(tmp_path) == undisturbed


@pytest.mark.long
def test_random_kills_change_nothing(tmp_path, tmp_path_factory):
    quiet = tmp_path_factory.mktemp("quiet")
    for folder in (quiet, tmp_path):
        write(folder, steps=4_000, seeds=2)
    finish(quiet, "--local")
    rng, done = random.Random(0), {"worker": 0, "driver": 0, "everything": 0}
    rounds = 0
    while sum(done.values()) < KILLS:
        rounds += 1
        folder = tmp_path / f"round{rounds}"
        folder.mkdir()
        write(folder, steps=4_000, seeds=2)
        for what, count in disturb(folder, KILLS - sum(done.values()), rng).items():
            done[what] += count
        finish(folder)
        assert record(folder) == record(quiet)
    print(f"{sum(done.values())} kills in {rounds} sweeps: {done}")
