"""A disk that is full, under the checkpoints and under the record: a small file system of its own,
filled by a ballast that is taken away to make room.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from mlflow import MlflowClient
from small import space_text

TRIALS = 12


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Takes all room but ``leave`` bytes; returns the ballast, to be unlinked."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave))
    return ballast


def start(folder: Path, steps: int, *options: str) -> subprocess.Popen:
    (folder / "full.py").write_text(space_text(seed=range(12), steps=steps))
    words = [sys.executable, "-m", "phasemap.sweep", "full.py", "--local", "--no-figures", *options]
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)


def said(folder: Path, what: str) -> list[str]:
    return [line for line in (folder / "log.txt").read_text().splitlines() if what in line]


def recorded(store: Path) -> list[str]:
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("full")
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id],
        "tags.`phasemap.kind` = 'trial' and attributes.status = 'FINISHED'",
    )
    return [run.data.tags["phasemap.trial"] for run in found]


def test_a_full_disk_under_the_checkpoints_is_reported_once_and_costs_nothing_else(tmp_path, disk, schema):
    shutil.copy(schema, tmp_path / "mlflow.db")
    fill(disk)
    sweep = start(tmp_path, 300, "--storage", str(disk / "new"), "--checkpoint-every", "0", "--stack-size", "3")
    assert sweep.wait(timeout=120) == 0, (tmp_path / "log.txt").read_text()
    (line,) = said(tmp_path, "no checkpoint")
    place, _, why = line.partition(": ")
    assert place.startswith(f"no checkpoint in {disk / 'new'}/full-")
    assert why == "No space left on device; training goes on, and begins at the last one if it is stopped"
    assert len(set(recorded(tmp_path / "mlflow.db"))) == len(recorded(tmp_path / "mlflow.db")) == TRIALS


@pytest.mark.long
def test_a_full_disk_under_the_record_is_waited_for_and_corrupts_nothing(tmp_path, disk, schema):
    store = disk / "mlflow.db"
    shutil.copy(schema, store)
    options = ("--tracking-uri", f"sqlite:///{store}", "--checkpoint-every", "0")
    ballast = fill(disk, leave=200_000)  # enough to begin, not enough for all
    sweep = start(tmp_path, 300, *options)
    deadline = time.monotonic() + 120
    while not said(tmp_path, "tracking store") and sweep.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    (line,) = said(tmp_path, "tracking store")
    assert line.endswith("database or disk is full"), line
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
    for _ in range(2):  # the first waits until all is recorded, the second leaves
        time.sleep(2)
        sweep.send_signal(signal.SIGINT)
    assert sweep.wait(timeout=30) == 130
    ballast.unlink()
    assert sqlite3.connect(store).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    before = recorded(store)
    assert len(before) < TRIALS
    sweep = start(tmp_path, 300, *options)
    assert sweep.wait(timeout=120) == 0, (tmp_path / "log.txt").read_text()
    assert len(set(recorded(store))) == len(recorded(store)) == TRIALS
    assert set(before) < set(recorded(store))


def test_a_disk_that_is_full_from_the_start_is_one_message(tmp_path, disk, schema):
    shutil.copy(schema, disk / "mlflow.db")
    fill(disk)
    sweep = start(tmp_path, 100, "--tracking-uri", f"sqlite:///{disk / 'mlflow.db'}")
    assert sweep.wait(timeout=60) == 2
    opening, line = (tmp_path / "log.txt").read_text().splitlines()
    assert opening == "full: opening the record"
    assert line.startswith(f"tracking store sqlite:///{disk / 'mlflow.db'}: must take what is written, got ")
