"""How the command ends when something around it is wrong: one line, the right status, and a sweep that is let go."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
import ray
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from small import space_text

from phasemap import sweep
from phasemap.command import execution, signals
from phasemap.command.options import Options
from phasemap.numerics import matmul
from phasemap.scheduling import cluster, worker

SAMPLED = """
from optuna.distributions import FloatDistribution
from phasemap import Space
space = Space(weight_decay=FloatDistribution(0.01, 3, log=True), sampler="sobol", trials=4,
              width=8, model="mlp", modulus=11, depth=1, batch_size=32, steps=20, evaluate_every=10, probes="")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, schema) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.chdir(made)
    for name, steps in (("tiny.py", 20), ("long.py", 2_000_000)):
        (made / name).write_text(space_text(weight_decay=[0.1, 1.0], learning_rate=1e-3, steps=steps, probes=""))
    (made / "sampled.py").write_text(SAMPLED)
    shutil.copy(schema, made / "mlflow.db")
    return made


def here(*arguments: str) -> int:
    return sweep.main([*arguments, "--local", "--no-figures"])


def runs(folder: Path, name: str, kind: str = "trial", status: str = "FINISHED") -> list[Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    wanted = f"tags.`phasemap.kind` = '{kind}' and attributes.status = '{status}'"
    return list(client.search_runs([experiment.experiment_id], wanted))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--name", "../up"),
        ("--name", "/absolute"),
        ("--name", ".."),
        ("--name", ""),
        ("--name", "a\0b"),
        ("--name", "n" * 201),
        ("--stack-size", "-3"),
        ("--cpus-per-stack", "0"),
        ("--cpus-per-stack", "nan"),
        ("--gpus-per-stack", "0"),
        ("--gpus-per-stack", "-1"),
        ("--checkpoint-every", "nan"),
        ("--checkpoint-every", "-1"),
        ("--storage", "a\0b"),
    ],
)
def test_an_option_that_breaks_its_rule_is_one_line_and_nothing_is_written(folder, capsys, option, value):
    before = {file.name for file in folder.parent.rglob("*")}
    assert here("tiny.py", option, value) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{option}: must ")
    assert line.split("; ")[1]
    assert {file.name for file in folder.parent.rglob("*")} == before


def test_all_broken_options_are_reported_at_once(folder, capsys):
    assert here("tiny.py", "--stack-size", "-3", "--checkpoint-every", "inf") == 2
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "--stack-size",
        "--checkpoint-every",
    ]


@pytest.mark.parametrize("words", [["--dry-run"], ["--local"], []], ids=["dry run", "local", "own Ray"])
def test_a_gpu_that_is_not_there_is_one_line_before_anything_starts(folder, monkeypatch, capsys, words):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = {file.name for file in folder.rglob("*")}
    assert sweep.main(["tiny.py", "--device", "cuda", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--device: cuda needs a GPU that torch can use, got ")
    assert {file.name for file in folder.rglob("*")} == before


def test_of_a_cluster_that_runs_already_the_nodes_decide(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = Options(device="cuda", address="head:6379", storage="/shared")
    execution.check_device(options)
    monkeypatch.setattr(cluster, "connect", lambda address, wanted: None)
    monkeypatch.setattr(cluster, "check_shared", lambda storage: None)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0}}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    with pytest.raises(
        ValueError, match=r"cuda needs a cluster with a GPU, got one of 8 cores and 0 GPUs; join a node"
    ):
        execution._cluster(options, "/shared")
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    assert execution._cluster(options, "/shared").gpus == {"cuda": 2}


def test_a_name_with_dots_is_a_folder_of_that_name(folder):
    assert here("tiny.py", "--name", "v1.2..x") == 0
    assert len(runs(folder, "v1.2..x")) == 2


def test_a_place_for_checkpoints_that_cannot_be_written_is_reported_before_the_training(folder, capsys):
    assert here("tiny.py", "--storage", "/proc/x") == 2
    assert capsys.readouterr().err.startswith("--storage /proc/x/tiny-")
    assert len(runs(folder, "tiny", "sweep", "FAILED")) == 1
    assert here("tiny.py") == 0, "the sweep was let go"


def interrupted(monkeypatch, *arguments: str) -> int:
    """The command, interrupted once a checkpoint is written."""
    checkpoint = worker.StackRun.checkpoint

    def then_interrupt(run: worker.StackRun) -> None:
        checkpoint(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker.StackRun, "checkpoint", then_interrupt)
        return here(*arguments, "--checkpoint-every", "0", "--compile", "never", "--stack-size", "2")


def test_sweeps_that_share_a_folder_for_checkpoints_leave_each_others_alone(folder, monkeypatch, capsys):
    """A relative one is meant from here. One sweep is interrupted, another of the same trials runs to its end."""
    assert interrupted(monkeypatch, "tiny.py", "--set", "steps=20000", "--storage", "shared", "--name", "a") == 130
    left = sorted((folder / "shared").rglob("*.pt"))
    assert len(left) == 2
    assert here("tiny.py", "--storage", "shared", "--name", "b") == 0
    other = f"sqlite:///{folder / 'other.db'}"
    assert here("tiny.py", "--storage", "shared", "--name", "a", "--tracking-uri", other) == 0
    assert sorted((folder / "shared").rglob("*.pt")) == left
    assert [entry.name for entry in (folder / "shared").iterdir()] == [left[0].parent.name], "empty folders are removed"


def test_success_is_a_whole_record(folder, monkeypatch, capsys):
    """A trial that the store refuses is failed, with its reason and status 1; the same command runs it again."""
    from phasemap.record.writer import Recorder

    write = Recorder._write
    refused: list[str] = []

    def refusing(recorder: Recorder, result) -> None:
        if not refused or refused == [result.trial.id]:
            refused[:] = [result.trial.id]
            raise KeyError("a fault of this trial")
        write(recorder, result)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_write", refusing)
        assert here("tiny.py") == 1
    told = capsys.readouterr().out
    assert f"trial {refused[0]} cannot be recorded: KeyError: 'a fault of this trial'" in told
    assert "1 of 2 trials recorded" in told
    assert len(runs(folder, "tiny")) == len(runs(folder, "tiny", "sweep", "FAILED")) == 1
    assert here("tiny.py") == 0
    assert len(runs(folder, "tiny")) == 2


def test_an_error_nobody_expected_lets_go_of_the_sweep(folder, monkeypatch):
    def broken(*arguments: object) -> int:
        raise RuntimeError("unexpected")

    with monkeypatch.context() as patch:
        patch.setattr(execution, "_summary", broken)
        patch.setattr(execution, "_status", broken)
        patch.setattr(execution, "_opening", broken)
        with pytest.raises(RuntimeError, match="unexpected"):
            here("tiny.py")
    assert len(runs(folder, "tiny", "sweep", "FAILED")) == 1
    assert here("tiny.py") == 0


def test_an_interrupt_that_breaks_an_import_is_an_interrupt(folder, monkeypatch, capsys):
    """Ctrl-C while a library imports another by halves."""

    def half_imported(*arguments: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise AttributeError("module 'sympy' has no attribute 'core'") from None

    monkeypatch.setattr(execution, "_work", half_imported)
    assert here("tiny.py") == 130
    assert capsys.readouterr().err.startswith("left at once: ")
    assert len(runs(folder, "tiny", "sweep", "FAILED")) == 1


def test_the_command_runs_in_a_thread(folder):
    """As a server or a notebook's widget calls it; signals are not its own there."""
    status: list[int] = []
    thread = Thread(target=lambda: status.append(here("tiny.py")))
    thread.start()
    thread.join()
    assert status == [0]


def test_a_terminal_that_goes_away_is_an_interruption(folder):
    ours, theirs = pty.openpty()
    options = ["--local", "--no-figures", "--compile", "never", "--stack-size", "2"]
    words = [sys.executable, "-m", "phasemap.sweep", "long.py", *options]

    def lead() -> None:  # a session of its own with this terminal
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
        import fcntl
        import termios

        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lead)
    os.close(theirs)
    try:
        told = b""
        while b" trial-steps/s" not in told:
            told += os.read(ours, 4_096)
        os.close(ours)  # hangs up
        assert process.wait(timeout=90) == 130
    finally:
        process.kill()
    assert len(runs(folder, "long", "sweep", "KILLED")) == 1
    assert len(list((folder / "phasemap_data").rglob("*.pt"))) == 2


@pytest.mark.long
def test_a_backend_of_a_notebook_that_is_not_here_draws_all_the_same(folder):
    words = [sys.executable, "-m", "phasemap.sweep", "tiny.py", "--local"]
    environment = {**os.environ, "MPLBACKEND": "module://no_such_package.backend"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert list((folder / "figures" / "tiny").glob("*.png"))


def test_a_cache_that_takes_no_files_is_replaced_by_a_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "x"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    first = matmul.machine_file("product")
    assert first == matmul.machine_file("product") == tmp_path / "tmp" / f"phasemap-{os.getuid()}" / "product"
    assert first.parent.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(tmp_path / "tmp")
    matmul.machine_file("product").write_text("no place at all is no fault either")


def test_a_moved_folder_runs_no_recorded_point_of_a_sampler_again(folder, capsys):
    """The sampler's list lies where MLflow noted it, in the old folder."""
    assert here("sampled.py") == 0
    before = {run.data.tags["phasemap.trial"] for run in runs(folder, "sampled")}
    moved = folder.parent / "moved"
    folder.rename(moved)
    os.chdir(moved)
    assert here("sampled.py") == 0
    told = capsys.readouterr().out
    assert f"sampled keeps its files in {folder}/mlruns/sampled, where its database lay when it began" in told
    assert "the sampler's list of trials cannot be read" in told
    assert "all 4 trials are recorded; nothing to do" in told
    found = [run.data.tags["phasemap.trial"] for run in runs(moved, "sampled")]
    assert sorted(found) == sorted(before)


def test_a_cut_list_of_a_sampler_is_reported_and_the_recorded_trials_stand_in(folder, capsys):
    assert here("sampled.py") == 0
    (listed,) = folder.rglob("asked.json")
    listed.write_text(listed.read_text()[:40])
    assert here("sampled.py") == 0
    assert "the sampler's list of trials cannot be read (JSONDecodeError" in capsys.readouterr().out
    assert len(runs(folder, "sampled")) == 4


def test_a_run_robbed_of_its_tag_is_reported_and_not_counted(folder, capsys):
    from phasemap import load

    assert here("tiny.py") == 0
    robbed = runs(folder, "tiny")[0].info.run_id
    MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").delete_tag(robbed, "phasemap.trial")
    assert here("tiny.py") == 0
    assert f"run {robbed} has lost its tag phasemap.trial in MLflow: not counted" in capsys.readouterr().out
    assert len(load("tiny")) == 2


def test_tags_that_somebody_edited_are_reported_or_ignored(folder, capsys):
    from phasemap.command.watch import Watched
    from phasemap.plan.space_file import load

    assert here("tiny.py") == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    first, second = (run.info.run_id for run in runs(folder, "tiny"))
    client.set_tag(first, "phase", "nonsense")
    client.set_tag(second, "phasemap.code", "{garbage")
    (parent,) = runs(folder, "tiny", "sweep")
    client.set_tag(parent.info.run_id, "phasemap.trials", "many")
    assert here("tiny.py") == 0
    assert f"run {first}: phase must be one of " in capsys.readouterr().out
    watched = Watched("tiny", f"sqlite:///{folder / 'mlflow.db'}")
    client.delete_run(parent.info.run_id)
    assert not watched.is_running()
    assert watched.status(load(folder / "tiny.py")).total == 2


def test_refreshed_figures_hide_the_address_from_the_list_of_processes(monkeypatch):
    from phasemap.command import refresh

    started = []

    class Nothing:
        returncode, pid = 0, os.getpid()

        def __init__(self, words, env, **more):
            started.append((words, env))

        def communicate(self, timeout):
            return "", ""

    class Record:
        name, uri, done = "tiny", "http://me:secret@host", {}

    monkeypatch.setattr(subprocess, "Popen", Nothing)
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    record: Any = Record
    assert refresh.Refresh(record, Path("out"), print)._draw() == ""
    ((words, environment),) = started
    assert "secret" not in json.dumps(words)
    assert environment["MLFLOW_TRACKING_URI"] == Record.uri


def test_an_interrupt_of_an_import_comes_when_it_has_ended():
    """Half of Ray, imported in a notebook, could not be imported again."""
    before, ended = signal.getsignal(signal.SIGINT), []

    def interrupted() -> None:
        with signals.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            ended.append(True)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended
