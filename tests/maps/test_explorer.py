"""Sweeps whose points are chosen as they go: what is asked for, in which stacks, and that a stop changes nothing."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from phasemap import sweep
from phasemap.fields import Fault
from phasemap.maps.explorer import Explorer
from phasemap.plan.asked import asked as asked_of
from phasemap.plan.asked import strays
from phasemap.plan.space import Space
from phasemap.plan.stack import Plan

AXES = {
    "weight_decay": FloatDistribution(0.01, 10, log=True),
    "width": [16, 32, 64],
    "depth": IntDistribution(1, 3),
    "activation": CategoricalDistribution(["relu", "gelu"]),
}
SPACE = """
from optuna.distributions import FloatDistribution

from phasemap import Space

space = Space(
    weight_decay=FloatDistribution(0.1, 10, log=True),
    width=[4, 8],
    sampler="boundary",
    modulus=11,
    data_fraction=0.5,
    model="mlp",
    depth=1,
    learning_rate=1e-2,
    batch_size=32,
    steps=20,
    evaluate_every=10,
)
"""


class Record:
    """What a sweep of known outcome remembers: the trials asked for, the phases of those that ended."""

    def __init__(self, fails=lambda trial: False):
        self.asked, self.phases, self.fails = [], {}, fails

    def explorer(self, axes=2, trials=64, **settings):
        named: dict[str, Any] = dict(list(AXES.items())[:axes])
        small: dict[str, Any] = {"model": "mlp", "batch_size": 256}  # eight of the widest fit one stack
        space = Space(**named, sampler="boundary", trials=trials, **small, **settings)
        return Explorer(space, Plan(), self.phases.get, lambda trial: None, self.write_down, list(self.asked))

    def write_down(self, trials):
        self.asked = list(trials)

    def end(self, trials):
        for trial in trials:
            grokked = trial.weight_decay > 0.05 * trial.width / 16
            self.phases[trial.id] = "failed" if self.fails(trial) else "grokking" if grokked else "memorization"


def run(record, **settings):
    return ended(record, record.explorer(**settings))


def sampled(sampler: Any, trials: int, **axes: Any) -> list[Any]:
    """The trials of a whole sweep over these axes."""
    space = Space(**axes, sampler=sampler, trials=trials, model="mlp", modulus=11, batch_size=256)
    space.check()
    record = Record()
    explorer = Explorer(space, Plan(), record.phases.get, lambda trial: 1.0, record.write_down, [])
    return ended(record, explorer).asked


def ended(record, explorer):
    while stacks := explorer.more():
        for stack in stacks:
            record.end(stack.trials)
    return record


def test_a_batch_is_one_stack():
    record = Record()
    explorer = record.explorer()
    for _ in range(6):
        (stack,) = explorer.more()
        assert len(stack.trials) == 8
        record.end(stack.trials)
    assert {trial.width for trial in record.asked} == {16, 32, 64}


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_continuous_whole_and_worded_axes_spend_the_budget_on_different_trials(axes):
    asked = run(Record(), axes=axes, trials=40).asked
    assert len({trial.id for trial in asked}) == 40
    assert len({trial.seed for trial in asked}) == 40


@pytest.mark.parametrize("seeds", [[3, 1], 7])
def test_a_few_points_with_a_few_seeds_are_never_the_same_trial_twice(seeds):
    """Two points and two seeds would be four trials; a fifth would count evidence that is there already."""
    record = Record()
    explorer = record.explorer(axes=1, trials=24, seed=seeds)
    explorer.space = explorer.space.override(["weight_decay=0.1,1.0"])
    while stacks := explorer.more():
        record.end(stacks[0].trials)
    assert len({trial.id for trial in record.asked}) == 24
    first = [3, 1, 4, 5] if seeds != 7 else [7, 8, 9, 10]
    assert [trial.seed for trial in record.asked][:4] == first
    assert all(strays(asked_of(explorer.space), trial.texts) == [] for trial in record.asked)


def test_a_trial_that_was_asked_for_twice_counts_once():
    record = Record()
    (stack,) = record.explorer(trials=8).more()
    record.end(stack.trials)
    record.asked *= 2
    explorer = record.explorer(trials=16)
    assert len(explorer.asked) == 8
    assert len(explorer.more()[0].trials) == 8


@pytest.mark.parametrize("recorded", [0, 5, 8])
def test_a_sweep_stopped_within_a_batch_goes_on_as_if_never_stopped(recorded):
    whole, stopped = run(Record()), Record()
    explorer = stopped.explorer()
    for _ in range(4):
        (stack,) = explorer.more()
        stopped.end(stack.trials)
    (stack,) = explorer.more()
    stopped.end(stack.trials[:recorded])
    stopped.end(stopped.explorer().unfinished())  # what the next run of the command trains first
    assert run(stopped).asked == whole.asked


def test_failed_trials_count_as_spent_and_stop_nothing():
    record = run(Record(fails=lambda trial: trial.weight_decay > 1))
    assert len(record.asked) == 64
    assert 0 < sum(phase == "failed" for phase in record.phases.values()) < 32


def test_a_target_ends_the_sweep_before_its_budget():
    assert 16 <= len(run(Record(), trials=400, target=0.1).asked) < 200


@pytest.mark.parametrize("sampler", ["sobol", "random", "tpe", "boundary", optuna.samplers.QMCSampler(seed=1)])
def test_every_trial_of_continuous_axes_is_another_point(sampler):
    axes: dict[str, Any] = {
        "weight_decay": FloatDistribution(0.1, 10, log=True),
        "learning_rate": FloatDistribution(1e-4, 1e-2),
    }
    asked = sampled(sampler, 64, **axes)
    assert len({(trial.weight_decay, trial.learning_rate) for trial in asked}) == 64


def test_a_sobol_sweep_covers_its_axes_evenly_however_often_it_is_stopped():
    axes: dict[str, Any] = {"label_noise": FloatDistribution(0.0, 1.0), "weight_decay": FloatDistribution(0.0, 1.0)}
    asked = sampled("sobol", 64, **axes)
    boxes = Counter((int(trial.label_noise * 8), int(trial.weight_decay * 8)) for trial in asked)
    assert set(boxes.values()) == {1}  # a (0, 6, 2)-net has a point in each of 8 x 8 boxes
    assert sampled("sobol", 20, **axes) == asked[:20]


def test_random_sweeps_of_neighboring_seeds_share_no_point():
    axes: dict[str, Any] = {"weight_decay": FloatDistribution(0.1, 10)}
    points = [{trial.weight_decay for trial in sampled("random", 24, sampler_seed=seed, **axes)} for seed in (0, 8)]
    assert not points[0] & points[1]


@pytest.mark.parametrize("sampler", ["sobol", "random", "tpe", "boundary"])
def test_listed_values_and_the_ends_of_an_axis_are_kept_to_the_last_digit(sampler):
    axes: dict[str, Any] = {
        "weight_decay": np.geomspace(0.1, 10, 6),
        "learning_rate": FloatDistribution(0.00123457499, 0.00123457501),
    }
    asked = sampled(sampler, 24, **axes)
    space = Space(**axes, sampler=sampler, model="mlp", modulus=11, batch_size=256)
    assert {trial.weight_decay for trial in asked} <= set(space.grid["weight_decay"])
    assert all(strays(asked_of(space), trial.texts) == [] for trial in asked)


def test_a_point_that_breaks_a_rule_is_passed_over():
    """Too many combinations to try all before the start: two widths at every 1,000th number of heads."""
    record = Record()
    axes: dict[str, Any] = {"width": [60, 64], "heads": IntDistribution(1, 4), "weight_decay": [0.1, 1.0]}
    space = Space(**axes, sampler="sobol", trials=24, modulus=11, batch_size=256)
    explorer = Explorer(space, Plan(), record.phases.get, lambda trial: None, record.write_down, [])
    asked = ended(record, explorer).asked
    assert len(asked) == 24
    assert all(trial.width % trial.heads == 0 for trial in asked)
    assert {trial.heads for trial in asked} == {1, 2, 3, 4}


def test_a_space_without_a_point_that_may_be_tried_ends_with_its_fault():
    space = Space(width=[61, 67], heads=[4], weight_decay=[0.1, 1.0], sampler="random", trials=8)
    explorer = Explorer(space, Plan(), lambda trial: None, lambda trial: None, lambda trials: None, [])
    with pytest.raises(Fault, match="width: must be a multiple of heads"):
        explorer.more()


def test_a_trial_that_is_recorded_already_counts_and_is_not_trained_again():
    whole, record = run(Record(), trials=24).asked, Record()
    record.phases = {trial.id: "grokking" for trial in whole[:8]}  # a grid of the same name ran them, say
    trained = [trial for stack in record.explorer(trials=16).more() for trial in stack.trials]
    assert not {trial.id for trial in trained} & set(record.phases)
    assert record.asked[:8] == whole[:8]


def trained(folder, *words) -> int:
    """Runs the command in this process; how many trials there are to run by its own words."""
    assert sweep.main(["space.py", "--local", "--no-figures", *words]) == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("space")
    assert experiment is not None
    return len(client.search_runs([experiment.experiment_id], "tags.`phasemap.kind` = 'trial'"))


def test_sweeps_of_one_name_with_other_settings_keep_what_each_has_asked_for(tmp_path, schema, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(schema, tmp_path / "mlflow.db")
    (tmp_path / "space.py").write_text(SPACE)
    assert trained(tmp_path, "--set", "trials=6") == 6
    assert trained(tmp_path, "--set", "trials=2", "--set", "width=16") == 8
    capsys.readouterr()
    assert trained(tmp_path, "--set", "trials=6") == 8
    assert trained(tmp_path, "--set", "trials=2", "--set", "width=16") == 8
    assert capsys.readouterr().out.count("recorded; nothing to do") == 2


OWN = """
import torch


class Net(torch.nn.Module):
    def __init__(self, task{more}, width: int = 8):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.head = torch.nn.Linear(task.tokens * width, task.classes)

    def forward(self, tokens):
        return self.head(self.table(tokens).flatten(1))
"""


def test_a_network_that_lost_a_parameter_since_does_not_end_a_sampled_sweep(tmp_path, schema, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(schema, tmp_path / "mlflow.db")
    text = SPACE.replace('model="mlp",\n    depth=1,', "model=Net,")
    for more, runs in ((", gate: float = 1.0", 4), ("", 8)):
        (tmp_path / "space.py").write_text(OWN.replace("{more}", more) + text)
        assert trained(tmp_path, "--set", "trials=4") == runs


def asked(folder, name, budget):
    """Runs the command in this process; the identities of the trials that MLflow holds."""
    words = ["space.py", "--local", "--no-figures", "--name", name, "--set", f"trials={budget}"]
    assert sweep.main(words) == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`phasemap.kind` = 'trial'")
    return {run.data.tags["phasemap.trial"] for run in runs}


def test_a_sweep_rebuilt_from_mlflow_alone_asks_what_it_would_have_asked(tmp_path, schema, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(schema, tmp_path / "mlflow.db")
    (tmp_path / "space.py").write_text(SPACE)
    first = asked(tmp_path, "stopped", 8)
    assert len(first) == 8
    assert "stopped: 8 of 8 trials recorded\n" in capsys.readouterr().out
    resumed = asked(tmp_path, "stopped", 20)
    assert first < resumed
    assert "stopped: 20 of 20 trials recorded\n" in capsys.readouterr().out
    assert resumed == asked(tmp_path, "whole", 20)


def test_a_sweep_that_seeks_a_critical_value_ends_when_its_intervals_are_narrow():
    record = run(Record(), trials=160, critical="weight_decay", target=0.15)
    assert 24 < len(record.asked) < 160
    late = record.asked[len(record.asked) // 2 :]
    critical = [0.05 * trial.width / 16 for trial in late]
    near = [abs(math.log(trial.weight_decay / at)) < math.log(6) for trial, at in zip(late, critical, strict=True)]
    assert sum(near) > 0.6 * len(late)  # 39 % of the axis
    assert len(run(record, trials=160, critical="weight_decay", target=0.15).asked) == len(record.asked)
