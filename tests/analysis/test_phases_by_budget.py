"""Phases at shorter budgets: those that trials of these budgets have, read again from the curves of longer ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from synthetic import BASE, curves, frame, made, record, result

from analysis import phases_by_budget, style
from analysis.__main__ import draw_named, figure_of
from phasemap.plan.outcome import Outcome
from phasemap.record.reader import read
from phasemap.training.events import events


def pairs():
    return [made(BASE.replace(weight_decay=d, width=64, seed=s)) for d in (0.1, 0.7, 1.5) for s in range(4)]


def tidy(pairs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table, and the curves of its runs."""
    table = frame(pairs)
    lines = [
        (run, key, step, value)
        for run, (trial, outcome) in zip(table.run_id, pairs, strict=True)
        for key, line in curves(trial, outcome).items()
        for step, value in line
    ]
    return table, pd.DataFrame(lines, columns=["run_id", "key", "step", "value"])


def test_each_share_is_that_of_trials_whose_training_had_ended_there():
    some = pairs()
    table = phases_by_budget.summarize(*tidy(some), "weight_decay").table
    assert table.budget.nunique() > 5
    assert table.budget.max() == BASE.steps
    for row in table.itertuples():
        phases = []
        for trial, outcome in some:
            if trial.weight_decay == row.panel:
                cut = {
                    key: [one for one in line if one[0] <= row.budget] for key, line in curves(trial, outcome).items()
                }
                short = {key: (tuple(x for x, _ in line), tuple(y for _, y in line)) for key, line in cut.items()}
                phases.append(events(trial.replace(steps=row.budget), short, False)["phase"])
        assert (row.trials, row.n) == (phases.count(row.phase), 4)
        low, high = binomtest(row.trials, row.n).proportion_ci(method="wilson")
        assert (row.share, row.low, row.high) == pytest.approx((row.trials / row.n, low, high), abs=1e-12)
    assert table.groupby(["panel", "budget"]).share.sum().tolist() == pytest.approx([1.0] * table.budget.nunique() * 3)


def test_a_trial_that_diverged_or_settled_had_not_before():
    trial = BASE.replace(stop_when_settled=True)
    settled = Outcome(
        phase="grokking", ending="settled", steps_run=2_000, grok_step=1_600, memorization_step=300, settled_step=1_600
    )
    burst = Outcome(phase="diverged", ending="diverged", steps_run=1_000, memorization_step=300)
    some = [(trial, settled), (trial.replace(seed=1), burst)]
    table, lines = tidy(some)
    ends = dict(zip(table.run_id, table.steps_run, strict=True))
    lines = lines[lines.step <= lines.run_id.map(ends)]
    shares = phases_by_budget.summarize(table, lines).table.set_index(["budget", "phase"]).trials
    assert shares[100, "confusion"] == 2
    early, late = (budget for budget in (min(b for b, _ in shares.index if b > 400), BASE.steps))
    assert shares[early, "memorization"] == 2
    assert (shares[late, "grokking"], shares[late, "diverged"], shares[late, "memorization"]) == (1, 1, 0)


def test_of_trials_that_differ_in_their_budget_alone_the_longest_counts():
    long = pairs()[:4]
    short = [
        (trial.replace(steps=500), Outcome(phase="diverged", ending="diverged", steps_run=500)) for trial, _ in long
    ]
    both = phases_by_budget.summarize(*tidy([*short, *long]))
    pd.testing.assert_frame_equal(both.table, phases_by_budget.summarize(*tidy(long)).table)


def test_shorter_budgets_than_one_value_has_leave_its_trials_out_beyond_it():
    some = [pair for pair in pairs() if pair[0].weight_decay == 0.7]
    some = [(trial.replace(steps=1_500), outcome) if trial.seed < 2 else (trial, outcome) for trial, outcome in some]
    table = phases_by_budget.summarize(*tidy(some)).table
    assert set(table.n[table.budget <= 1_500]) == {4}
    assert set(table.n[table.budget > 1_500]) == {2}


def test_phases_of_a_rule_of_ones_own_are_compared_as_recorded():
    table = frame(
        (BASE.replace(steps=steps, seed=seed), Outcome(phase=phase, ending="budget", steps_run=steps))
        for steps, found in ((500, ("late", "late")), (3_000, ("late", "early")))
        for seed, phase in enumerate(found)
    )
    table.attrs["phases"] = ("early", "late", "diverged")
    shares = phases_by_budget.recorded(table).table.set_index(["budget", "phase"]).trials
    assert shares.to_dict() == {(500, "early"): 0, (500, "late"): 2, (3_000, "early"): 1, (3_000, "late"): 1}
    with pytest.raises(style.Absent, match="needs trials of several budgets"):
        phases_by_budget.recorded(table[table.steps == 500])


def test_it_is_drawn_by_the_command_and_from_python(recorded, tmp_path):
    paths = draw_named("sweep", ["phases_by_budget"], recorded, tmp_path, x="width").paths
    names = {path.name for path in paths if path.stem == "phases_by_budget"}
    assert names == {"phases_by_budget.png", "phases_by_budget.svg", "phases_by_budget.csv"}
    assert set(pd.read_csv(tmp_path / "phases_by_budget.csv").panel) == {64, 128}
    sheet = figure_of(read("sweep", recorded), "phases_by_budget")
    titles = [ax.get_title().replace("\n", ", ") for ax in sheet.axes]
    assert titles == ["weight decay 0.1, n = 4", "weight decay 0.7, n = 4"]


def test_lines_of_equal_shares_stand_beside_each_other():
    """Before any trial learns, the shares of three phases are 0."""
    figure = phases_by_budget.figure(phases_by_budget.summarize(*tidy(pairs())))
    firsts = [float(np.asarray(line.get_ydata())[0]) for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert len(firsts) == len(set(firsts)) == 4


def test_the_first_steps_of_a_longer_trial_with_annealing_are_not_those_of_a_shorter_one(recorded):
    sweep = read("sweep", recorded)
    annealed = dataclasses.replace(sweep, trials=sweep.trials.assign(annealing="cosine"))
    with pytest.raises(style.Absent, match="trials with annealing, are not read again"):
        phases_by_budget.of_sweep(annealed)


def test_without_curves_there_is_no_figure(uri):
    record(uri, "sweep", result(*made(BASE)))
    with pytest.raises(style.Absent, match="no curves were recorded"):
        phases_by_budget.of_sweep(read("sweep", uri))
