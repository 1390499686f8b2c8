"""The table against a real MLflow database that the recorder wrote."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from synthetic import AXES, BASE, frame, made, record, result

from phasemap.plan.asked import asked
from phasemap.plan.outcome import Outcome
from phasemap.plan.space import Space
from phasemap.plan.trial import FIELDS
from phasemap.record import client, reader
from phasemap.record.writer import Recorder


def test_a_row_per_ended_trial_with_typed_columns(recorded):
    sweep = reader.read("sweep", recorded)
    assert list(sweep.trials.columns) == list(reader.COLUMNS)
    assert len(sweep.trials) == 9
    assert len(sweep.finished) == 8
    assert sweep.running == 1
    assert sweep.axes == ("weight_decay", "width", "seed")
    assert sweep.cell_axes == ("weight_decay", "width")
    assert "8 trials done, 1 running" in sweep.progress
    assert "1 failed" in sweep.progress
    assert sweep.trials.width.dtype == "int64"
    assert sweep.trials.clone_blocks.dtype == bool
    assert set(sweep.trials.failure.dropna()) == {"out of memory"}


def test_values_come_back_as_written(recorded):
    trial, outcome = made(BASE.replace(weight_decay=0.7, width=128, seed=1))
    row = reader.load_table("sweep", recorded).set_index("trial").loc[trial.id]
    assert {name: row[name] for name in FIELDS} == {name: getattr(trial, name) for name in FIELDS}
    assert (row.phase, row.grok_step) == (outcome.phase, outcome.grok_step)
    assert np.isnan(row.takeover_step)


def test_what_a_users_probe_found_is_a_column(uri):
    (first, outcome), (second, other) = made(BASE), made(BASE.replace(seed=1))
    record(uri, "own", result(first, outcome.replace(roughness=2.5)), result(second, other))
    trials = reader.load_table("own", uri)
    assert list(trials.columns) == [*reader.COLUMNS, "roughness"]
    found = trials.set_index("trial").roughness
    assert found[first.id] == 2.5
    assert np.isnan(found[second.id])


def test_a_diverged_trial_has_no_value_of_a_curve_that_ended_before_it(uri):
    trial, outcome = made(BASE)
    gone = Outcome(phase="diverged", ending="diverged", steps_run=outcome.steps_run)
    curves = {"weight_norm": ((100, outcome.steps_run), (5.0, math.nan)), "winning_stride_score": ((100,), (0.8,))}
    record(uri, "sweep", dataclasses.replace(result(trial, gone), curves=curves))
    row = reader.read("sweep", uri).trials.iloc[0]
    assert math.isnan(row.weight_norm)
    assert math.isnan(row.winning_stride_score)


def test_a_value_at_which_all_trials_failed_is_no_axis():
    table = frame([made(BASE), made(BASE.replace(weight_decay=0.7))])
    assert reader.Sweep("some", ("weight_decay", "seed"), table).cell_axes == ("weight_decay",)
    failed = table.assign(status=["FINISHED", "FAILED"])
    assert reader.Sweep("some", ("weight_decay", "seed"), failed).cell_axes == ()


def test_what_the_last_bits_hang_on_is_in_the_table_and_a_mixture_is_named(uri):
    notes: dict[str, Any] = {"engine": "eager", "device": "cpu", "torch": "2.13.0"}
    results = [
        result(*made(BASE.replace(seed=seed)), **notes, product=product)
        for seed, product in enumerate(("openblas", "bmm", "openblas"))
    ]
    record(uri, "mixed", *results, result(*made(BASE.replace(seed=3))))  # the last as before there were such tags
    sweep = reader.read("mixed", uri)
    assert sorted(sweep.trials["product"].dropna()) == ["bmm", "openblas", "openblas"]
    assert set(sweep.trials.engine.dropna()) == {"eager"}
    assert sweep.progress == "more than one product: bmm and openblas"


def test_trials_of_another_budget_are_left_out_and_counted(uri):
    """They are no further seeds: n, and every interval, would be wrong."""
    trials = (BASE, BASE.replace(seed=1), BASE.replace(steps=2 * BASE.steps), BASE.replace(seed=1, width=512))
    record(uri, "budgets", *(result(*made(trial)) for trial in trials))
    assert len(reader.read("budgets", uri).trials) == 4  # recorded before a sweep kept what it asks for
    space = Space(**{**BASE.values, "seed": range(5)})
    record(uri, "budgets", asks={"small.py": asked(space)})
    sweep = reader.read("budgets", uri)
    assert sorted(sweep.trials.seed) == [0, 1]
    assert sweep.progress == "2 recorded with other steps, width and left out"
    assert len(reader.read("budgets", uri, everything=True).trials) == 4
    record(uri, "budgets", asks={"large.py": asked(space.override(["width=512"]))})  # two files under one name
    assert len(reader.read("budgets", uri).trials) == 3


def test_curves_of_many_runs_come_in_one_frame_and_end_in_the_outcome(recorded):
    trials = reader.read("sweep", recorded).finished
    curves = reader.load_curves(trials.run_id, recorded)
    assert set(curves.run_id) == set(trials.run_id)
    dimension = curves[curves.key == "intrinsic_dimension"]
    assert (dimension.groupby("run_id").step.size() == 30).all()  # the outcome replaces the last point
    last = dimension.groupby("run_id").value.last()
    assert (last.loc[trials.run_id].to_numpy() == trials.intrinsic_dimension.to_numpy()).all()
    served = reader._served_points(recorded, list(trials.run_id[:2]), ["test_accuracy"])
    both = curves[curves.run_id.isin(trials.run_id[:2]) & (curves.key == "test_accuracy")]
    served = served.sort_values(["run_id", "step"])
    assert served.value.tolist() == both.value.tolist()


def test_more_runs_than_a_page(recorded, monkeypatch):
    monkeypatch.setattr(client, "PAGE", 3)
    assert len(reader.load_table("sweep", recorded)) == 9


def copied(uri: str, run: str) -> str:
    """A second run like this one, as merging two databases leaves it; the recorder writes none."""
    client = MlflowClient(uri)
    one = client.get_run(run)
    again: str = client.create_run(one.info.experiment_id, tags=one.data.tags).info.run_id
    metrics = [Metric(name, value, 0, BASE.steps) for name, value in one.data.metrics.items()]
    client.log_batch(again, metrics, [Param(name, text) for name, text in one.data.params.items()])
    client.set_terminated(again, "FINISHED")
    return again


def test_doubled_trials_are_refused_by_name_and_failed_ones_replaced(uri):
    trial, outcome = made(BASE)
    with Recorder("double", uri, AXES, "space = Space()") as recorder:
        recorder.failure(trial, "killed")
    record(uri, "double", result(trial, outcome))
    table = reader.load_table("double", uri)
    assert table.status.tolist() == ["FINISHED"]
    again = copied(uri, table.run_id[0])
    with pytest.raises(ValueError, match=rf"trial {trial.id}: runs .*{again}.*delete all but one"):
        reader.read("double", uri)


def test_an_unknown_experiment_lists_those_there_are(recorded, tmp_path):
    with pytest.raises(ValueError, match=r"got 'sweeep' \(did you mean sweep\?\); there are Default, sweep"):
        reader.read("sweeep", recorded)
    missing = tmp_path / "none.db"
    with pytest.raises(ValueError, match="tracking database: must exist"):
        reader.read("sweep", f"sqlite:///{missing}")
    assert not missing.exists()


def test_written_tables_read_back(recorded, tmp_path):
    trials = reader.load_table("sweep", recorded)
    csv, parquet = reader.write(trials, tmp_path / "new")
    assert len(pd.read_csv(csv)) == len(trials)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), trials, check_dtype=False)


def test_a_run_that_stands_on_two_pages_of_a_sweep_being_written_counts_once(recorded, monkeypatch):
    """Pages are cut by number, newest first: a run that is added between two moves the rest on by one."""
    real: Callable[..., Any] = MlflowClient.search_runs

    def shifted(client, *arguments, max_results, page_token, **more):
        page = real(client, *arguments, max_results=4, page_token=page_token, **more)
        if page_token is None and page.token:
            page.token = real(client, *arguments, max_results=3, page_token=None, **more).token
        return page

    expected = reader.read("sweep", recorded).trials
    monkeypatch.setattr(MlflowClient, "search_runs", shifted)
    assert sorted(reader.read("sweep", recorded).trials.trial) == sorted(expected.trial)
