"""The command in one process: what it runs, what it says, how it ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from mlflow import MlflowClient
from small import space_text

from phasemap import sweep
from phasemap.plan.space_file import load
from phasemap.record import live
from phasemap.scheduling import worker
from phasemap.training.train import train


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tiny.py").write_text(space_text(weight_decay=[0.1, 1.0], seed=[0, 1]))
    return tmp_path


@pytest.fixture
def stored(folder, schema) -> Path:
    """The same with a store that is there already, and empty."""
    shutil.copy(schema, folder / "mlflow.db")
    return folder


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "phasemap.sweep", *arguments]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def here(*arguments: str) -> int:
    """The same in this process: quicker by the imports."""
    return sweep.main(["tiny.py", "--local", "--no-figures", *arguments])


def runs(folder: Path, status: str = "FINISHED", name: str = "tiny") -> list:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    condition = f"tags.`phasemap.kind` = 'trial' and attributes.status = '{status}'"
    return list(client.search_runs([experiment.experiment_id], condition))


def ids(found: list) -> list[str]:
    return sorted(run.data.tags["phasemap.trial"] for run in found)


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A sweep run once, as a person runs it, with its figures."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "tiny.py").write_text(space_text(weight_decay=[0.1, 1.0], seed=[0, 1]))
    environment = os.environ.pop("MLFLOW_TRACKING_URI", None)
    done = command(folder, "tiny.py", "--local")
    if environment is not None:
        os.environ["MLFLOW_TRACKING_URI"] = environment
    return folder, done


@pytest.fixture
def again(swept, tmp_path, monkeypatch) -> Path:
    """A copy of that sweep's folder, to go on in."""
    folder = tmp_path / "again"
    shutil.copytree(swept[0], folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_dry_run_says_what_it_would_cost_and_starts_nothing(folder):
    code = "import sys; from phasemap.sweep import main; print(main(['tiny.py', '--dry-run']), sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    *told, last = done.stdout.splitlines()
    assert told[0] == "tiny: 4 trials in 2 cells, 80 trial-steps, recorded ones included"
    where = r"on \d+ core slots? of this machine, to a factor of two, besides starting and compiling"
    assert re.fullmatch(rf"  less than 10 s of training {where}", told[1])
    assert "  weight_decay: 0.1, 1" in told
    assert last.startswith("0 [")
    loaded = set(last[3:-1].replace("'", "").split(", "))
    assert "phasemap.sweep" in loaded
    assert not loaded & {"torch", "ray", "mlflow", "optuna", "matplotlib"}
    assert [file.name for file in folder.iterdir()] == ["tiny.py"]


def test_a_dry_run_names_each_shape_by_all_that_differs(folder, capsys):
    assert sweep.main(["tiny.py", "--dry-run", "--set", "width=8,16", "--set", "depth=1,2", "--set", "seed=0"]) == 0
    shapes = [line for line in capsys.readouterr().out.splitlines() if " in stacks of " in line]
    assert sorted(shape.partition(":")[0].strip() for shape in shapes) == [
        f"depth {depth}, width {width}" for depth in (1, 2) for width in (16, 8)
    ]


def test_a_dry_run_lists_the_ends_of_a_long_axis(folder, capsys):
    assert sweep.main(["tiny.py", "--dry-run", "--set", "seed=0..59"]) == 0
    assert "  seed: 0, 1, 2, …, 59 (60 values)\n" in capsys.readouterr().out


def test_the_first_run_records_every_trial_and_draws(swept):
    folder, done = swept
    assert done.returncode == 0, done.stderr
    assert ids(runs(folder)) == sorted(trial.id for trial in load(folder / "tiny.py").trials())
    assert "tiny: 4 trials to run on " in done.stdout
    assert "tiny: 4 of 4 trials recorded" in done.stdout
    assert f"figures: {folder / 'figures' / 'tiny'}" in done.stdout
    assert f"mlflow ui --backend-store-uri sqlite:///{folder / 'mlflow.db'}" in done.stdout
    assert list((folder / "figures" / "tiny").glob("*.png"))
    assert list((folder / "figures" / "tiny").glob("*.svg"))


def test_no_checkpoint_outlives_its_trial(swept):
    assert not list(swept[0].rglob("*.pt"))


def test_every_run_has_a_phase_and_a_readable_name(swept):
    for run in runs(swept[0]):
        assert run.data.tags["phase"] in ("comprehension", "grokking", "memorization", "confusion")
        decay, seed = run.data.params["weight_decay"], run.data.params["seed"]
        assert run.info.run_name == f"weight_decay={float(decay):g} seed={seed}"


def test_the_second_run_does_nothing_and_says_so(again):
    before = {run.info.run_id for run in runs(again)}
    parent = runs(again)[0].data.tags["mlflow.parentRunId"]
    folder = again / "phasemap_data" / f"tiny-{parent[:12]}"
    left = folder / f"{ids(runs(again))[0]}.pt"  # its driver was killed before it was removed
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"")
    done = command(again, "tiny.py", "--local", "--no-figures")
    assert not left.exists()
    assert done.returncode == 0, done.stderr
    assert "tiny: all 4 trials are recorded; nothing to do" in done.stdout
    assert "tiny: 4 of 4 trials recorded" in done.stdout
    assert {run.info.run_id for run in runs(again)} == before


def test_widening_an_axis_runs_only_the_new_cells(again, capsys):
    before = {run.info.run_id for run in runs(again)}
    assert here("--set", "weight_decay=0.1,1.0,3.0") == 0
    told = capsys.readouterr().out
    assert "tiny: 2 trials to run on " in told
    assert "; 4 are recorded already" in told
    found = runs(again)
    assert before < {run.info.run_id for run in found}
    assert len(found) == len(set(ids(found))) == 6


@pytest.mark.product
def test_recorded_trials_are_the_same_whatever_the_stacks(stored, capsys):
    """Accuracies and losses of one trial after another, and of all at once, to the last bit."""
    assert here("--stack-size", "1", "--name", "alone") == 0
    assert here("--stack-size", "4", "--name", "together") == 0
    alone, together = (
        {run.data.tags["phasemap.trial"]: {**run.data.metrics, "train_seconds": 0} for run in runs(stored, name=name)}
        for name in ("alone", "together")
    )
    assert len(alone) == 4
    assert alone == together


def test_bad_input_ends_with_status_two_and_every_fault(folder):
    (folder / "bad.py").write_text(space_text(weight_decay=[-1, 1.0], seed=[0, 1], model="transformer", width=9))
    done = command(folder, "bad.py", "--local")
    assert done.returncode == 2
    assert done.stdout == ""
    assert sorted(done.stderr.splitlines()) == [
        "bad.py: weight_decay: must not be negative, got -1.0; use 0 or more",
        "bad.py: width: must be a multiple of heads (4), got 9; use 8 or 12",
    ]
    assert not (folder / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.py"], "missing.py: must be a file, found none; there are tiny.py"),
        (
            ["tiny.py", "--set", "widht=3"],
            "tiny.py: --set widht: not a field of a trial, got '3' (did you mean width?); docs/search-spaces.md lists",
        ),
        (
            ["tiny.py", "--set", "weight_decay=1,1"],
            "tiny.py: weight_decay: values must differ, or cells would be doubled",
        ),
        (
            ["tiny.py", "--set", "weight_decay"],
            "tiny.py: --set weight_decay: must read field=value or field=value,value",
        ),
        (["tiny.py", "--tracking-uri", "http://127.0.0.1:9"], "tracking server http://127.0.0.1:9: must answer within"),
        (["tiny.py", "--tracking-uri", "sqlite:////no/such/a.db"], "tracking database /no/such/a.db: must be writable"),
    ],
)
def test_each_fault_of_the_command_is_reported_before_anything_starts(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr("phasemap.record.background.START", 0.0)
    assert sweep.main([*arguments, "--local"]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (folder / "mlflow.db").exists()


def test_a_crashing_trial_is_failed_with_its_reason_and_its_neighbors_are_recorded(stored, monkeypatch, capsys):
    trials = load(stored / "tiny.py").trials()
    guilty = trials[2]

    def crashing(training, **options):
        if guilty in training.trials:
            raise RuntimeError("a fault of this trial alone")
        yield from train(training, **options)

    monkeypatch.setattr(worker, "train", crashing)
    assert here("--stack-size", "4") == 1
    told = capsys.readouterr().out
    assert "tiny: 3 of 4 trials recorded" in told
    assert "failed             1" in told
    assert ids(runs(stored)) == sorted(trial.id for trial in trials if trial != guilty)
    (failed,) = runs(stored, "FAILED")
    assert failed.data.tags["phasemap.trial"] == guilty.id
    assert "RuntimeError: a fault of this trial alone" in failed.data.tags["failure"]
    monkeypatch.setattr(worker, "train", train)
    assert here() == 0
    assert ids(runs(stored)) == sorted(trial.id for trial in trials)


def test_a_diverging_trial_is_an_outcome_and_no_failure(stored, capsys):
    assert here("--set", "initial_scale=1,1e20", "--set", "seed=0") == 0
    phases = {run.data.params["initial_scale"]: run.data.tags["phase"] for run in runs(stored)}
    assert phases["1e+20"] == "diverged"
    assert phases["1.0"] != "diverged"
    assert "tiny: 4 of 4 trials recorded" in capsys.readouterr().out


def test_a_storage_that_cannot_be_written_is_refused_before_anything_is_trained(stored, capsys):
    (stored / "in the way").write_text("")
    assert here("--storage", str(stored / "in the way" / "x"), "--set", "steps=200") == 2
    assert "in the way" in capsys.readouterr().err
    assert runs(stored) == runs(stored, "FAILED") == []


def test_a_number_of_threads_that_is_none_is_refused_before_anything_is_recorded(stored):
    words = [sys.executable, "-m", "phasemap.sweep", "tiny.py", "--local", "--no-figures"]
    environment = {**os.environ, "OMP_NUM_THREADS": "many"}
    done = subprocess.run(words, cwd=stored, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if line and "libgomp" not in line]  # which says its own
    (line,) = told
    assert line.startswith("OMP_NUM_THREADS: must be a number of threads, ")
    assert line.endswith("got 'many'; set it to 1, or unset it")
    assert MlflowClient(tracking_uri=f"sqlite:///{stored / 'mlflow.db'}").get_experiment_by_name("tiny") is None


def test_threads_are_told_how_to_wait_before_a_space_file_loads_torch(tmp_path):
    look = 'import os, sys\nprint("torch" in sys.modules, os.environ.get("OMP_WAIT_POLICY"))\nimport torch\n'
    (tmp_path / "own.py").write_text(look + space_text())
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    words = [sys.executable, "-m", "phasemap.sweep", "own.py", "--dry-run"]
    told = subprocess.check_output(words, cwd=tmp_path, text=True, env=environment | {"OMP_NUM_THREADS": "2"})
    assert told.startswith("False passive\n")


def test_phases_that_the_evaluations_cannot_tell_are_warned_of_before_the_start(folder, capsys):
    coarse = ["tiny.py", "--dry-run", "--set", "delay_limit=40"]
    assert sweep.main(coarse) == 0
    assert "warning: evaluate_every: 10 steps leave fewer than 5 evaluations" in capsys.readouterr().err
    assert sweep.main([*coarse, "--set", "evaluate_every=8"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_watching_a_mistyped_sweep_names_the_one_that_was_meant(again, capsys):
    assert sweep.main(["tiny.py", "--watch", "--name", "tinny"]) == 2
    assert "(did you mean tiny?)" in capsys.readouterr().err


def test_a_sweep_run_from_python_leaves_the_signals_and_threads_of_its_program_alone(folder):
    code = """
import signal
import threadpoolctl
import torch
import phasemap
mine = lambda number, frame: None
signal.signal(signal.SIGTERM, mine)
torch.set_num_threads(3)
blas = threadpoolctl.threadpool_limits(2, user_api="blas")
threads = lambda: {one["filepath"]: one["num_threads"] for one in threadpoolctl.threadpool_info()}
before = threads()
space = phasemap.Space(weight_decay=[1.0], model="mlp", width=8, modulus=7, steps=10, evaluate_every=5)
sweep = phasemap.run(space, name="mine", local=True, figures=False)
assert len(sweep.table) == 1
print(signal.getsignal(signal.SIGTERM) is mine, torch.get_num_threads() == 3, before.items() <= threads().items())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True True True"


def test_a_sweep_whose_curves_are_shown_while_it_trains_leaves_the_same_record(stored, monkeypatch):
    assert here("--name", "plain") == 0
    monkeypatch.setattr(worker, "REPORT_EVERY", 0.0)
    monkeypatch.setattr(worker, "CURVES_EVERY", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e3)
    shown, write = [], live.Live._write

    def showing(self, one):
        shown.append(one.trial.id)
        write(self, one)

    monkeypatch.setattr(live.Live, "_write", showing)
    assert here("--name", "live") == 0
    plain, other = (
        [run.data for run in sorted(runs(stored, name=name), key=lambda run: run.data.tags["phasemap.trial"])]
        for name in ("plain", "live")
    )
    assert set(shown) <= {run.tags["phasemap.trial"] for run in other}
    assert shown
    assert [run.params for run in other] == [run.params for run in plain]
    for run, same in zip(other, plain, strict=True):
        assert run.metrics | {"train_seconds": 0} == same.metrics | {"train_seconds": 0}
