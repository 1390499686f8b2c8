"""What several machines recorded, merged by trial."""

import shutil

import pandas as pd
import pytest
from synthetic import frame, record, result, success

from analysis import findings, replicate, trial_tables


def test_the_report_adds_what_other_machines_left_and_counts_a_trial_once(schema, tmp_path):
    for machine, seeds in (("one", range(4)), ("other", range(2, 6))):
        uri = f"sqlite:///{shutil.copy(schema, tmp_path / f'{machine}.db')}"
        there = [result(trial, outcome) for trial, outcome in success(5, 6) if trial.seed in seeds]
        record(uri, "seeds_success_rate", *there)
        replicate.write(tmp_path / "docs", uri)
    table = trial_tables.gathered(tmp_path / "docs/replication", trial_tables.in_store(uri))["seeds_success_rate"]
    assert sorted(table.seed) == [0, 1, 2, 3, 4, 5]
    whole = frame(success(5, 6))
    for name in ("final_test_accuracy", "grok_step", "width", "probes", "phase", "clone_blocks"):
        assert table.sort_values("seed")[name].tolist() == whole.sort_values("seed")[name].tolist(), name


def test_trials_added_to_a_table_leave_the_values_of_older_definitions_in_it(uri, tmp_path):
    file = tmp_path / "replication/trials_seeds_success_rate.csv"
    file.parent.mkdir()
    old = frame(success(5, 6)).drop(columns="redefined")
    old = old.assign(takeover_step=1_000.0, definitions='{"takeover_step": 2}')
    old.iloc[1:].to_csv(file, index=False)
    record(uri, "seeds_success_rate", result(*success(5, 6)[0]))
    for _ in range(2):
        replicate.write(tmp_path, uri)
        table = pd.read_csv(file)
        assert table.takeover_step.tolist()[1:] == [1_000.0] * 5
        assert table.definitions.tolist()[1:] == ['{"takeover_step": 2}'] * 5
        assert trial_tables.kept(file).redefined.str.contains("takeover_step").tolist()[1:] == [True] * 5
        assert trial_tables.kept(file).takeover_step.isna().all()


def test_a_row_from_before_a_field_existed_has_its_default_beside_rows_that_have_it(tmp_path):
    file = tmp_path / "trials_seeds_success_rate.csv"
    table = frame(success(5, 6)).drop(columns="redefined")
    table.loc[2:, ["annealing", "subnormals", "probes"]] = None
    table.to_csv(file, index=False)
    kept = trial_tables.kept(file)
    assert kept.annealing.tolist() == ["none"] * 6
    assert kept.subnormals.tolist() == ["kept"] * 6
    assert kept.probes.tolist()[2:] == [""] * 4  # no probe is a choice
    seen = findings.summarize({"seeds_success_rate": kept}).findings
    ends_high = next(f for f in seen if f.claim.name == "ends_high_addition")
    assert ends_high.other_settings == ""


def test_a_store_that_does_not_answer_is_no_empty_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert trial_tables.in_store() == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(ValueError, match="must exist"):
        trial_tables.in_store()


def test_a_machine_without_a_sweep_leaves_its_table_as_it_is(recorded, tmp_path):
    file = tmp_path / "docs/replication/trials_seeds_success_rate.csv"
    file.parent.mkdir(parents=True)
    table = frame(success(5, 6)).assign(takeover_step=1_000.0)  # by a definition that is another one today
    table.to_csv(file, index=False)
    before = file.read_bytes()
    replicate.write(tmp_path / "docs", recorded)
    assert file.read_bytes() == before


def test_a_sweep_without_a_finished_trial_leaves_no_table(uri, tmp_path):
    record(uri, "takeover_small")
    paths = replicate.write(tmp_path, uri)
    assert [path.name for path in paths] == ["replication.md", "replication.csv", "overview.png"]


def test_an_outcome_that_meant_something_else_then_is_absent(tmp_path):
    table = frame(success(2, 2)).assign(takeover_step=[1_000.0, 2_000.0])
    table.drop(columns="norm").to_csv(tmp_path / "old.csv", index=False)
    old = trial_tables.kept(tmp_path / "old.csv")
    assert old.takeover_step.isna().all()
    assert old.grok_step.tolist() == [9_000, 9_000]
    assert set(old.norm) == {"post"}  # a field that is younger than the table
