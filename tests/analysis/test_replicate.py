"""Verdicts and the report, against made-up trials whose answer is known."""

import math

import pytest
from synthetic import Store, frame

from analysis import replicate
from analysis.__main__ import main
from analysis.claims import CLAIMS
from analysis.statistics import Estimate
from phasemap.plan.outcome import DEFINITIONS, Outcome
from phasemap.plan.trial import FIELDS, Trial


def success(n, of, **fields):
    trials = [Trial(seed=s, steps=150_000, **fields) for s in range(of)]
    grown = {"phase": "grokking", "grok_step": 9_000, "final_test_accuracy": 1.0}
    lost = {"phase": "collapse", "grok_step": 9_000, "final_test_accuracy": 0.3}
    more = {"ending": "budget", "steps_run": 150_000, "oscillations": 15}
    return [(t, Outcome(**(grown if t.seed < n else lost), **more)) for t in trials]


@pytest.mark.parametrize(
    ("low", "high", "n", "expected"),
    [
        (0.4, 0.5, 9, replicate.REPLICATES),
        (0.7, 0.9, 9, replicate.DOES_NOT),
        (0.5, 0.7, 9, replicate.UNDECIDED),
        (-math.inf, math.inf, 3, replicate.UNDECIDED),
        (math.nan, math.nan, 0, replicate.NOT_MEASURED),
    ],
)
def test_the_verdict_follows_from_interval_and_range(low, high, n, expected):
    assert replicate.verdict(Estimate(0.5, low, high, n), 0.3, 0.6) == expected


def test_claims_are_named_once_and_speak_of_fields_that_exist():
    names = [c.name for c in CLAIMS]
    assert len(set(names)) == len(names)
    for claim in CLAIMS:
        assert claim.low < claim.high, claim.name
        assert set(claim.select) | set(claim.settings) <= set(FIELDS), claim.name
        assert not claim.shown or claim.shown in DEFINITIONS, claim.name


def test_a_value_beyond_the_scale_of_the_overview_has_a_mark():
    table = frame(success(20, 30) + success(20, 30, task="modular_multiplication"))
    summary = replicate.summarise({"seeds_success_rate": table.assign(grok_step=90_000.0)})
    texts = [text.get_text() for text in replicate.overview(summary).axes[0].texts]
    assert any(text.startswith("at ") for text in texts)


def test_a_claim_is_measured_on_its_trials_only():
    table = frame(success(20, 30) + success(0, 5, task="modular_multiplication"))
    found = {f.claim.name: f for f in replicate.summarise({"seeds_success_rate": table}).findings}
    addition = found["success_rate_addition"]
    assert (addition.measured.n, round(addition.measured.value, 3), addition.verdict) == (30, 0.667, "replicates")
    assert addition.other_settings == ""
    assert found["success_rate_multiplication"].measured.n == 5
    assert found["grok_step_addition"].verdict == "replicates"
    assert found["oscillations"].measured.value == 15
    assert found["collapse"].verdict == "not measured"


def test_trials_at_other_settings_are_named_as_such():
    table = frame(success(0, 12, modulus=59))
    found = {f.claim.name: f for f in replicate.summarise({"seeds_success_rate": table}).findings}
    addition = found["success_rate_addition"]
    assert addition.other_settings == "At other settings: modulus 59 instead of 97"
    page = replicate.report(replicate.summarise({"seeds_success_rate": table}))
    assert "0.00 [0.00, 0.24]<br>At other settings: modulus 59 instead of 97" in page
    assert "**undecided at this n** (at these settings)" in page


def test_the_command_writes_report_table_and_figures(tmp_path, capsys):
    store = Store(tmp_path, "seeds_success_rate", "seed")
    for pair in success(5, 6):
        store.add(*pair, lines=False)
    assert main(["replicate", "--tracking-uri", store.uri, "--out", str(tmp_path / "docs")]) == 0
    report = (tmp_path / "docs" / "replication.md").read_text()
    claims, _, left = report.partition("## What was not run as published")
    assert claims.count("\n| ") == len(CLAIMS) + 2  # head and rule
    assert "| `seeds_takeover` | not at all | 32 | 32,000,000 | " in left
    assert "0.83 [0.44, 0.97]" in report
    for name in ("overview.png", "success_rate_addition.png", "replication.csv", "trials_seeds_success_rate.csv"):
        assert (tmp_path / "docs" / "replication" / name).stat().st_size > 500
    assert "replication/success_rate_addition.png" in report
    assert str(tmp_path / "docs" / "replication.md") in capsys.readouterr().out


def test_the_report_adds_what_other_machines_left_and_counts_a_trial_once(tmp_path):
    for folder, seeds in (("one", range(4)), ("other", range(2, 6))):
        (tmp_path / folder).mkdir()
        store = Store(tmp_path / folder, "seeds_success_rate", "seed")
        for trial, outcome in success(5, 6):
            if trial.seed in seeds:
                store.add(trial, outcome, lines=False)
        replicate.write(tmp_path / "docs", store.uri)
    table = replicate.gathered(tmp_path / "docs/replication", store.uri)["seeds_success_rate"]
    assert sorted(table.seed) == [0, 1, 2, 3, 4, 5]
    whole = frame(success(5, 6))
    for name in ("final_test_accuracy", "grok_step", "width", "probes", "phase", "clone_blocks"):
        assert table.sort_values("seed")[name].tolist() == whole.sort_values("seed")[name].tolist(), name


def test_an_outcome_that_meant_something_else_then_is_absent(tmp_path):
    table = frame(success(2, 2)).assign(takeover_step=[1_000.0, 2_000.0])
    table.drop(columns="norm").to_csv(tmp_path / "old.csv", index=False)
    old = replicate.kept(tmp_path / "old.csv")
    assert old.takeover_step.isna().all()
    assert old.grok_step.tolist() == [9_000, 9_000]
    assert set(old.norm) == {"post"}  # a field that is younger than the table


def test_a_store_without_such_trials_says_so(store, tmp_path):
    paths = replicate.write(tmp_path, store.uri)
    assert [p.name for p in paths] == ["replication.md", "replication.csv", "overview.png"]
    assert f"{len(CLAIMS)} claims: 0 replicates" in paths[0].read_text()
