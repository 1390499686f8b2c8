"""Verdicts and the report, against made-up trials whose answer is known."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic import frame, record, result

from analysis import replicate
from analysis.__main__ import main
from analysis.claims import CLAIMS
from analysis.statistics import Estimate
from phasemap.plan.outcome import DEFINITIONS, Outcome
from phasemap.plan.trial import FIELDS, Trial

PUBLISHED = {"width": 128, "depth": 2, "heads": 4, "model": "transformer", "learning_rate": 1e-3, "weight_decay": 1.0}


def success(n, of, **fields):
    """The published network over seeds: the first n end high, the others in a dip."""
    trials = [Trial(seed=s, **{"steps": 150_000} | PUBLISHED | fields) for s in range(of)]
    grown = {"phase": "grokking", "grok_step": 9_000, "final_test_accuracy": 1.0}
    lost = {"phase": "collapse", "grok_step": 9_000, "final_test_accuracy": 0.3}
    more = {"ending": "budget", "steps_run": fields.get("steps", 150_000), "oscillations": 15}
    return [(t, Outcome(**(grown if t.seed < n else lost), **more)) for t in trials]


def found(**tables):
    return {f.claim.name: f for f in replicate.summarize(tables).findings}


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


def test_claims_are_named_once_and_speak_of_fields_and_spaces_that_exist():
    names = [c.name for c in CLAIMS]
    assert len(set(names)) == len(names)
    for claim in CLAIMS:
        assert claim.low < claim.high, claim.name
        assert bool(claim.fact) != bool(claim.measure), claim.name
        assert set(claim.select) | set(claim.settings) <= {*FIELDS, "ending"}, claim.name
        assert not claim.shown or claim.shown in DEFINITIONS, claim.name
        assert claim.fact or replicate._files(claim.spaces), claim.name


def test_chapters_are_not_scattered():
    chapters = [claim.chapter for claim in sorted(CLAIMS, key=lambda claim: claim.chapter)]
    assert len(set(chapters)) == 7


def test_a_value_beyond_the_scale_of_the_overview_has_a_mark():
    table = frame(success(20, 30) + success(20, 30, task="modular_multiplication"))
    summary = replicate.summarize({"seeds_success_rate": table.assign(grok_step=90_000.0)})
    texts = [text.get_text() for text in replicate.overview(summary).axes[0].texts]
    assert any(text.startswith("at ") for text in texts)


def test_a_claim_is_measured_on_its_trials_only():
    seen = found(seeds_success_rate=frame(success(20, 30) + success(0, 5, task="modular_multiplication")))
    addition = seen["ends_high_addition"]
    assert (addition.measured.n, round(addition.measured.value, 3)) == (30, 0.667)
    assert (addition.other_settings, addition.kind) == ("", "published settings")
    assert seen["ends_high_multiplication"].measured.n == 5
    assert seen["grok_step_addition"].verdict == "replicates"
    assert seen["oscillations"].measured.value == 15
    assert seen["collapse"].verdict == "not measured"


def test_trials_of_several_sweeps_count_once_each():
    both = success(5, 6)
    seen = found(seeds_success_rate=frame(both[:4]), seeds_addition=frame(both[2:]))
    assert seen["grok_step_addition"].measured.n == 6


def test_a_trial_that_ended_before_the_step_without_the_event_says_nothing():
    early, late = success(1, 1, steps=12_000), success(1, 2)[1:]
    early = [(t, o.replace(grok_step=None, steps_run=12_000)) for t, o in early]
    late = [(t, o.replace(grok_step=None)) for t, o in late]
    stuck = found(seeds_success_rate=frame(early + late))["stuck_addition"].measured
    assert (stuck.value, stuck.n) == (1.0, 1)


def test_trials_at_other_settings_are_named_and_counted_as_such():
    table = frame(success(0, 12, modulus=59))
    addition = found(seeds_success_rate=table)["ends_high_addition"]
    assert addition.other_settings == "At other settings: modulus 59 instead of 97"
    assert addition.kind == "other settings"
    page = replicate.report(replicate.summarize({"seeds_success_rate": table}))
    assert "0.00 [0.00, 0.24]<br>At other settings: modulus 59 instead of 97" in page
    assert "**does not**<br>other settings" in page


def test_what_a_claim_does_not_name_is_compared_with_its_search_spaces():
    """A table of other trainings under the same name is no replication at the published settings."""
    other = {
        "optimizer": "sgd",
        "loss": "stablemax",
        "norm": "pre",
        "precision": "bf16",
        "batch_size": 64,
        "grok_threshold": 0.5,
    }
    for name, value in other.items():
        seen = found(seeds_success_rate=frame(success(20, 30, **{name: value})))["ends_high_addition"]
        assert seen.kind == "other settings"
        assert f"{name.replace('_', ' ')} {str(value).replace('_', ' ')} instead of" in seen.other_settings


def test_the_page_says_how_many_verdicts_chance_may_turn():
    summary = replicate.summarize({"seeds_success_rate": frame(success(29, 30))})
    decided = sum(f.verdict in ("replicates", "does not") and not f.claim.fact for f in summary.findings)
    assert decided > 0
    assert f"Of {decided} verdicts by 95 % intervals up to {decided / 20:.1f} are" in replicate.report(summary)


def test_the_rule_of_the_strides_follows_the_modulus():
    """gcd and half agree at 97 and differ at 73: 1 and 4."""
    shape = {"task": "modular_multiplication", "model": "mlp", "steps": 60_000}
    trials = [Trial(seed=s, modulus=p, **shape) for p in (73, 97) for s in range(6)]
    seen = found(strides_by_modulus=frame([(t, Outcome(inner_winning_stride=4.0, phase="grokking")) for t in trials]))
    assert seen["inner_stride_4"].measured.value == 1
    assert seen["inner_stride_gcd"].measured.value == 0
    assert seen["inner_stride_half"].measured.value == 1
    assert seen["inner_stride_half"].measured.n == 6


def test_a_fact_is_checked_without_a_trial():
    seen = found()
    for name, value in (("overlap_lfsr_5", 1.0), ("ceiling_16", 0.5), ("ceiling_24", 1.0)):
        assert (seen[name].measured.value, seen[name].verdict, seen[name].kind) == (value, "replicates", "computed")


def test_the_report_opens_with_what_holds_and_what_does_not_and_what_nobody_knows():
    page = replicate.report(replicate.summarize({"seeds_success_rate": frame(success(29, 30, width=128))}))
    opening = page.split("![")[0]
    assert "**Holds.** Addition: median step at which test accuracy reaches 0.9 (published: 8,000 to 10,000" in opening
    assert "**Does not hold.** Addition: two thirds of the seeds" in opening
    assert "**Nobody knows yet** (" in opening
    assert len(opening.strip().splitlines()) <= 4 + 10


def test_published_values_stand_in_the_figures():
    finding = found(seeds_success_rate=frame(success(20, 30)))["grok_step_addition"]
    drawn = [line for line in replicate.figure(finding).axes[0].lines if line.get_marker() == "D"]
    assert sorted(np.asarray(drawn[0].get_xdata())) == [9_000, 9_000, 9_000, 10_000]


def test_the_command_writes_report_table_and_figures(uri, tmp_path, capsys):
    record(uri, "seeds_success_rate", *(result(*pair) for pair in success(5, 6)))
    assert main(["replicate", "--tracking-uri", uri, "--out", str(tmp_path / "docs")]) == 0
    report = (tmp_path / "docs" / "replication.md").read_text()
    claims, _, left = report.partition("## What is not measured yet")
    assert all(claims.count(f"\n| {claim.claim} |") == 1 for claim in CLAIMS)
    assert "| `python -m phasemap.sweep search_spaces/seeds_takeover.py` | 32 of 32 | 32,000,000 | " in left
    assert "0.83 [0.44, 0.97]" in report
    for name in ("overview.png", "ends_high_addition.png", "replication.csv", "trials_seeds_success_rate.csv"):
        assert (tmp_path / "docs" / "replication" / name).stat().st_size > 500
    assert "replication/ends_high_addition.png" in report
    assert str(tmp_path / "docs" / "replication.md") in capsys.readouterr().out


def test_the_report_adds_what_other_machines_left_and_counts_a_trial_once(schema, tmp_path):
    for machine, seeds in (("one", range(4)), ("other", range(2, 6))):
        uri = f"sqlite:///{shutil.copy(schema, tmp_path / f'{machine}.db')}"
        there = [result(trial, outcome) for trial, outcome in success(5, 6) if trial.seed in seeds]
        record(uri, "seeds_success_rate", *there)
        replicate.write(tmp_path / "docs", uri)
    table = replicate.gathered(tmp_path / "docs/replication", replicate.in_store(uri))["seeds_success_rate"]
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
        assert replicate.kept(file).redefined.str.contains("takeover_step").tolist()[1:] == [True] * 5
        assert replicate.kept(file).takeover_step.isna().all()


def test_a_row_from_before_a_field_existed_has_its_default_beside_rows_that_have_it(tmp_path):
    file = tmp_path / "trials_seeds_success_rate.csv"
    table = frame(success(5, 6)).drop(columns="redefined")
    table.loc[2:, ["annealing", "subnormals", "probes"]] = None
    table.to_csv(file, index=False)
    kept = replicate.kept(file)
    assert kept.annealing.tolist() == ["none"] * 6
    assert kept.subnormals.tolist() == ["kept"] * 6
    assert kept.probes.tolist()[2:] == [""] * 4  # no probe is a choice
    assert found(seeds_success_rate=kept)["ends_high_addition"].other_settings == ""


def test_a_seed_that_ran_for_several_budgets_counts_once_by_its_longest():
    short = [(trial.replace(steps=9_000), outcome) for trial, outcome in success(2, 2)]
    findings = found(seeds_success_rate=frame(success(5, 6)), seeds_addition=frame(short))
    assert findings["grok_step_addition"].measured.n == 6
    assert set(findings["grok_step_addition"].trials.steps) == {150_000}


def test_a_store_that_does_not_answer_is_no_empty_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert replicate.in_store() == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(ValueError, match="must exist"):
        replicate.in_store()


def test_a_space_whose_library_is_missing_costs_the_report_nothing_but_a_line(tmp_path, capsys):
    (tmp_path / "needs.py").write_text("import no_such_library\n")
    assert replicate._trials(tmp_path / "needs.py") == []
    assert "needs.py: left out: line 1: must run to its end, raised ModuleNotFoundError" in capsys.readouterr().err


def test_the_report_takes_no_figure_and_no_threshold(uri, tmp_path, capsys):
    words = ["replicate", "phase_diagram", "--grok-threshold", "0.95", "--x", "width", "--tracking-uri", uri]
    assert main([*words, "--out", str(tmp_path)]) == 2
    assert "got phase_diagram, --grok-threshold, --x; leave it out" in capsys.readouterr().err


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
    old = replicate.kept(tmp_path / "old.csv")
    assert old.takeover_step.isna().all()
    assert old.grok_step.tolist() == [9_000, 9_000]
    assert set(old.norm) == {"post"}  # a field that is younger than the table


def test_a_store_without_such_trials_says_so(recorded, tmp_path):
    paths = replicate.write(tmp_path, recorded)
    assert [p.name for p in paths] == ["replication.md", "replication.csv", "overview.png"]
    assert "| At the published settings | 0 | 0 | 0 | " in paths[0].read_text()
