"""Weights and states that sweeps keep, from the command to Python, in real stores."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from small import space_text

import phasemap
from phasemap import sweep
from phasemap.fields import Fault
from phasemap.plan.space_file import load, overrides
from phasemap.record import reader

PROBED = space_text(weight_decay=[0.1, 1.0], seed=[0, 1], probe_every=10)
OWN = """
import torch

from phasemap import Space

class Net(torch.nn.Module):
    def __init__(self, task, width: int = 8):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.head = torch.nn.Linear(width, task.classes)

    def hidden(self, tokens):
        return self.table(tokens).sum(1)

    def forward(self, tokens):
        return self.head(self.hidden(tokens).relu())

space = Space(model=Net, modulus=7, width=[8], batch_size=16, steps=10, evaluate_every=5, probes="")
"""


@pytest.fixture
def folder(tmp_path, schema, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(schema, tmp_path / "mlflow.db")
    (tmp_path / "tiny.py").write_text(PROBED)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def here(*arguments: str, space: str = "tiny.py") -> int:
    return sweep.main([space, "--local", "--no-figures", *arguments])


def recorded(name: str) -> dict:
    """Outcomes and curves of each finished trial, all but its time, by id."""
    trials = reader.read(name, everything=True).finished
    assert trials.trial.is_unique
    curves = reader.load_curves(trials.run_id)
    outcomes = [*reader.OUTCOMES]
    outcomes.remove("train_seconds")
    return {
        row.trial: (
            trials.loc[[i], outcomes].to_csv(index=False),
            curves.loc[curves.run_id == row.run_id, ["key", "step", "value"]].to_csv(index=False),
        )
        for i, row in trials.iterrows()
    }


def run_of(trial: str) -> tuple[MlflowClient, Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`phasemap.trial` = '{trial}'")
    return client, run


def test_a_network_comes_back_in_a_line_and_gives_the_recorded_accuracy(folder):
    assert here("--keep-weights", "log+13") == 0
    assert here("--name", "plain") == 0
    assert recorded("tiny") == recorded("plain")
    table = phasemap.load("tiny")
    for row in table.itertuples():
        network = phasemap.network(row.trial)
        task = network.trial.shape.examples
        right = network(task.inputs).argmax(1) == torch.from_numpy(task.labels)
        train = int(len(task.labels) * 0.5)
        shares = train * row.final_train_accuracy + (len(task.labels) - train) * row.final_test_accuracy
        assert right.sum().item() == pytest.approx(shares)
        assert (network.trial.id, network.step) == (row.trial, 20)
        by_run = phasemap.weights(row.run_id, 13)
        assert {name: one.shape for name, one in by_run.items()} == {
            name: one.shape for name, one in network.weights.items()
        }
        assert not torch.equal(by_run["table"], network.weights["table"])
    assert run_of(row.trial)[1].data.tags["phasemap.kept"] == "1+2+4+8+13+16+20"


def test_trials_recorded_without_weights_are_named_and_trained_again_on_request(folder, capsys):
    assert here() == 0
    trial, other = phasemap.load("tiny").trial[:2]
    with pytest.raises(ValueError, match=f"trial {trial}: must have kept weights, got none; run its sweep with"):
        phasemap.weights(trial)
    before = recorded("tiny")
    assert here("--keep-weights", "final", "--keep-state") == 0
    told = capsys.readouterr().out
    assert "tiny: 4 trials recorded without what is to be kept; --retrain trains them again" in told
    assert "tiny: all 4 trials are recorded; nothing to do" in told
    client, run = run_of(other)
    client.log_metric(run.info.run_id, "final_test_loss", 0.5, step=20)  # as if on another processor
    assert here("--keep-weights", "final", "--keep-state", "--retrain") == 0
    told = capsys.readouterr().out
    assert "tiny: 4 recorded trials to train again, for what is to be kept" in told
    assert f"trial {other}: must give the recorded numbers again, got final_test_loss " in told
    assert phasemap.network(trial).step == 20
    with pytest.raises(ValueError, match="must have kept weights"):
        phasemap.weights(other)
    after = recorded("tiny")
    assert {key: one for key, one in after.items() if key != other} == {
        key: one for key, one in before.items() if key != other
    }
    assert here("--keep-weights", "final", "--keep-state") == 0
    assert "1 trial recorded without what is to be kept" in capsys.readouterr().out


def test_a_network_of_ones_own_comes_back_from_its_space_and_runs_no_code_unasked(folder):
    assert here("--keep-weights", "final", space="own.py") == 0
    trial = phasemap.load("own").trial[0]
    assert set(phasemap.weights(trial)) == {"table.weight", "head.weight", "head.bias"}
    with pytest.raises(Fault, match=f"trial {trial}: needs the code of Net, which is not built in, got none; pass"):
        phasemap.network(trial)
    space = load(folder / "own.py")
    tokens = torch.tensor([[1, 2], [3, 4]])
    logits = phasemap.network(trial, space=space)(tokens)
    module = space.parts[0].target(space.trial({"model": "Net", "modulus": 7}).shape.examples, width=8)
    module.load_state_dict(phasemap.weights(trial))
    torch.testing.assert_close(module(tokens).detach(), logits)
    (folder / "own.py").write_text("raise SystemExit")
    assert torch.equal(phasemap.network(trial, execute=True)(tokens), logits)
    (folder / "other.py").write_text(OWN.replace("sum(1)", "mean(1)"))
    with pytest.raises(Fault, match=f"model Net: must be the code that trial {trial} was recorded under"):
        phasemap.network(trial, space=load(folder / "other.py"))


def test_a_recorded_space_is_run_with_what_the_command_gave_and_no_comment_of_its_own(folder):
    note = "# --set width=32 takes half of the time"
    (folder / "own.py").write_text(f"{note}\n{OWN}\n{note}\n")
    for name, given in (("plain", []), ("set", ["--set", "modulus=5", "--set", "width=4"])):
        assert here("--keep-weights", "final", "--name", name, *given, space="own.py") == 0
        before = list(sys.path)
        found = phasemap.network(phasemap.load(name).trial[0], execute=True)
        assert sys.path == before
        assert found(torch.tensor([[1, 2]])).shape == (1, 5 if given else 7)
        assert found.weights["table.weight"].shape == ((5, 4) if given else (7, 8))


def test_a_space_that_no_line_break_ends_is_run_with_what_the_command_gave():
    for text in ("space = 1\n", "space = 1"):
        assert overrides(text) == []
        assert overrides(f"# --set a=1\n{text}\n# --set b=2\n# --set c=3") == ["b=2", "c=3"]


def test_a_longer_budget_goes_on_and_the_short_one_stays(folder, capsys):
    assert here("--keep-state") == 0
    short = recorded("tiny")
    capsys.readouterr()
    assert here("--set", "steps=50") == 0
    assert "trials go on from the states that were kept of them at step 20" in capsys.readouterr().out
    assert here("--set", "steps=50", "--name", "whole") == 0
    assert "go on" not in capsys.readouterr().out
    whole, both = recorded("whole"), recorded("tiny")
    assert both == {**short, **whole}
    assert len(whole) == 4


@pytest.mark.long
def test_a_longer_budget_that_is_killed_goes_on_to_the_same_bits(folder):
    longer = ["--set", "steps=1500", "--set", "seed=0"]
    assert here("--keep-state", "--set", "seed=0") == 0
    words = [sys.executable, "-m", "phasemap.sweep", "tiny.py", "--local", "--no-figures", "--checkpoint-every", "0"]
    process = subprocess.Popen([*words, *longer], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = folder / "phasemap_data"
    end = time.monotonic() + 60
    while not list(checkpoints.glob("tiny-*/*.pt")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(recorded("tiny")) == 2
    assert here(*longer) == 0
    assert here(*longer, "--name", "whole") == 0
    whole, both = recorded("whole"), recorded("tiny")
    assert len(whole) == 2
    assert {key: both[key] for key in whole} == whole


def test_training_starts_from_kept_weights_of_another_sweep(folder, capsys):
    assert here("--keep-weights", "10") == 0
    first, second = phasemap.load("tiny").trial[:2]
    assert here("--name", "tuned", "--set", f"start_from={first}@10,{second}", "--set", "seed=7") == 0
    tuned = phasemap.load("tuned")
    assert sorted(tuned.start_from) == sorted([f"{first}@10", second] * 2)
    assert tuned.trial.nunique() == 4
    assert tuned.final_test_loss.nunique() == 4
    sampled = ["--set", "sampler=sobol", "--set", "trials=2", "--set", "sampler_seed=5"]
    assert here("--name", "sampled", "--set", f"start_from={second}@10", *sampled) == 0
    assert set(phasemap.load("sampled").start_from) == {f"{second}@10"}
    capsys.readouterr()
    for given, message in (
        (["--set", "start_from=0123"], "tiny.py: start_from: must be a trial's id, or id@step, got '0123'"),
        (["--set", f"start_from={'0' * 16}"], f"start_from: trial {'0' * 16}: must be recorded in "),
        (["--set", f"start_from={first}@11"], "must hold weights of step 11, got those of 10, 20; name one"),
        (["--set", f"start_from={first}", "--set", "width=16"], "readout.weight [8, 11] (here [16, 11])"),
    ):
        assert here("--name", "refused", *given) == 2
        assert message in capsys.readouterr().err
    assert phasemap.load("tuned").equals(tuned)
