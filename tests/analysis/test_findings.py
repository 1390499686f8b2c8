"""Claims as measured, against made-up trials whose answer is known."""

import math

import pytest
from synthetic import frame, success

from analysis import findings, replicate
from analysis.claims import CLAIMS
from analysis.statistics import Estimate
from phasemap.plan.outcome import DEFINITIONS, Outcome
from phasemap.plan.trial import FIELDS, Trial


def found(**tables):
    return {f.claim.name: f for f in findings.summarize(tables).findings}


@pytest.mark.parametrize(
    ("low", "high", "n", "expected"),
    [
        (0.4, 0.5, 9, findings.REPLICATES),
        (0.7, 0.9, 9, findings.DOES_NOT),
        (0.5, 0.7, 9, findings.UNDECIDED),
        (-math.inf, math.inf, 3, findings.UNDECIDED),
        (math.nan, math.nan, 0, findings.NOT_MEASURED),
    ],
)
def test_the_verdict_follows_from_interval_and_range(low, high, n, expected):
    assert findings.verdict(Estimate(0.5, low, high, n), 0.3, 0.6) == expected


def test_claims_are_named_once_and_speak_of_fields_and_spaces_that_exist():
    names = [c.name for c in CLAIMS]
    assert len(set(names)) == len(names)
    for claim in CLAIMS:
        assert claim.low < claim.high, claim.name
        assert bool(claim.fact) != bool(claim.measure), claim.name
        assert set(claim.select) | set(claim.settings) <= {*FIELDS, "ending"}, claim.name
        assert not claim.shown or claim.shown in DEFINITIONS, claim.name
        assert claim.fact or findings.files(claim.spaces), claim.name


def test_chapters_are_not_scattered():
    chapters = [claim.chapter for claim in sorted(CLAIMS, key=lambda claim: claim.chapter)]
    assert len(set(chapters)) == 7


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
    page = replicate.report(findings.summarize({"seeds_success_rate": table}))
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


def test_the_rule_of_the_strides_follows_the_modulus():
    """gcd and half agree at 97 and differ at 73: 1 and 4."""
    shape = {"task": "modular_multiplication", "model": "mlp", "steps": 60_000}
    trials = [Trial(seed=s, modulus=p, **shape) for p in (73, 97) for s in range(6)]
    seen = found(strides_by_modulus=frame([(t, Outcome(inner_winning_stride=4.0, phase="grokking")) for t in trials]))
    assert seen["inner_stride_4_mlp"].measured.value == 1
    assert seen["inner_stride_gcd"].measured.value == 0
    assert seen["inner_stride_half"].measured.value == 1
    assert seen["inner_stride_half"].measured.n == 6


def test_a_fact_is_checked_without_a_trial():
    seen = found()
    for name, value in (("overlap_lfsr_5", 1.0), ("ceiling_16", 0.5), ("ceiling_24", 1.0), ("random_labels", 1 / 97)):
        assert seen[name].measured.value == pytest.approx(value)
        assert (seen[name].verdict, seen[name].kind) == ("checked", "computed")


def test_a_seed_that_ran_for_several_budgets_counts_once_by_its_longest():
    short = [(trial.replace(steps=9_000), outcome) for trial, outcome in success(2, 2)]
    seen = found(seeds_success_rate=frame(success(5, 6)), seeds_addition=frame(short))
    assert seen["grok_step_addition"].measured.n == 6
    assert set(seen["grok_step_addition"].trials.steps) == {150_000}


def test_a_space_whose_library_is_missing_costs_the_report_nothing_but_a_line(tmp_path, capsys):
    (tmp_path / "needs.py").write_text("import no_such_library\n")
    assert findings.trials_of(tmp_path / "needs.py") == []
    assert "needs.py: left out: line 1: must run to its end, raised ModuleNotFoundError" in capsys.readouterr().err
