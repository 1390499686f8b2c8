"""Bottleneck, data fraction, learnability, precision: known answers; and thresholds read again."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from synthetic import BASE, frame

from analysis import (
    bottleneck,
    caption,
    data_fraction,
    hidden_picture,
    learnability,
    phase_diagram,
    precision,
    probability_map,
    reverse_scaling,
    style,
    success_rate,
)
from analysis.__main__ import main
from analysis.resummarize import recomputed, resummarize
from analysis.statistics import decided, median
from phasemap.plan.outcome import Outcome
from phasemap.record import reader


def trial(seed, **fields):
    return BASE.replace(seed=seed, **fields)


def outcome(grok=None, memorized=None, accuracy=0.5, **more):
    phase = "grokking" if grok else "memorization" if memorized else "confusion"
    told = {"ending": "budget", "steps_run": 3000, "grok_step": grok, "memorization_step": memorized}
    return Outcome(phase=phase, final_test_accuracy=accuracy, **(told | more))


def saved(figure, tmp_path):
    figure.savefig(tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_the_median_of_values_has_the_interval_of_its_order_statistics():
    found = median(range(1, 11))  # n = 10: the 2nd and the 9th, coverage 97.9 %
    assert (found.value, found.low, found.high, found.n) == (5.5, 2, 9, 10)
    few = median([1, 2, 3])
    assert (few.value, few.low, few.high) == (2, -np.inf, np.inf)
    assert median([]).n == 0


def test_the_floor_is_the_fewest_units_with_half_of_the_trials(tmp_path):
    groks: dict[int, list[int | None]] = {4: [None] * 4, 16: [2000, 1500, None, None], 0: [500, 600, 700, 800]}
    pairs = [(trial(s, bottleneck=r), outcome(g)) for r, cell in groks.items() for s, g in enumerate(cell)]
    summary = bottleneck.summarize(frame(pairs))
    assert summary.table.bottleneck.tolist() == [4, 16, "none"]
    assert summary.table.rate.tolist() == [0, 0.5, 1]
    assert summary.table.step.tolist() == [np.inf, 2000, 600]
    assert summary.floors == {"all trials": 16}
    assert "the units of a bottleneck (a layer with a ReLU) before the readout" in summary.caption
    saved(bottleneck.figure(summary), tmp_path)
    none = bottleneck.summarize(frame(pairs[:4]))
    assert none.floors == {"all trials": None}


def test_the_delay_starts_at_memorization_and_is_censored_at_the_end(tmp_path):
    cells: dict[float, list[tuple[int | None, int | None]]] = {
        0.2: [(None, 1000)] * 3,
        0.4: [(1500, 500), (2500, 500), (None, 500)],
        0.8: [(600, 600), (700, 600), (None, None)],
    }
    pairs = [(trial(s, data_fraction=f), outcome(*p)) for f, cell in cells.items() for s, p in enumerate(cell)]
    summary = data_fraction.summarize(frame(pairs))
    assert summary.table.step.tolist() == [np.inf, 2000, 0]
    assert summary.table.successes.tolist() == [0, 2, 2]
    saved(data_fraction.figure(summary), tmp_path)


def test_lines_have_no_mark_that_could_mean_not_reached(tmp_path):
    """Four lines; with pandas' own columns as lengths of bars, the second one warned."""
    cells = [(f, d, s) for f in (0.4, 0.8) for d in (0.1, 0.2, 0.4, 0.8) for s in range(6)]
    pairs = [(trial(s, data_fraction=f, weight_decay=d), outcome(600 if f > d else None, 500)) for f, d, s in cells]
    figure = data_fraction.figure(data_fraction.summarize(frame(pairs), "weight_decay"))
    filled = {line.get_marker() for ax in figure.axes for line in ax.lines if line.get_fillstyle() == "full"}
    assert {"o", "s", "D", "P"} <= filled
    assert "^" not in filled
    assert "^" in {line.get_marker() for line in figure.axes[1].lines}


def test_a_median_far_below_the_budget_is_inside_its_panel():
    cells = {0.4: (2100, 100), 0.8: (200, 100)}  # fewer than six trials: the interval is open and draws no bar
    pairs = [(trial(s, data_fraction=f), outcome(*steps)) for f, steps in cells.items() for s in range(4)]
    summary = data_fraction.summarize(frame(pairs))
    assert summary.table.step.tolist() == [2000, 100]
    assert data_fraction.figure(summary).axes[1].get_ylim()[0] < 100


def test_the_ladder_puts_accuracy_beside_ceiling_and_overlap(tmp_path):
    told = {"csprng": (0.003, 0.004, 0.0), "lfsr_31": (0.5, 0.5, 0.003), "periodic": (1.0, 1.0, 1.0)}
    pairs = [
        (trial(s, task=t, model="transformer"), outcome(accuracy=a, ceiling=c, overlap=o))
        for t, (a, c, o) in told.items()
        for s in range(6)
    ]
    summary = learnability.summarize(frame(pairs))
    assert summary.table.name.tolist() == ["periodic", "lfsr 31", "csprng"]
    assert summary.table[["n", "accuracy", "low", "high", "ceiling", "overlap"]].to_numpy().tolist() == [
        [6, 1, 1, 1, 1, 1],
        [6, 0.5, 0.5, 0.5, 0.5, pytest.approx(0.003)],
        [6, 0.003, 0.003, 0.003, pytest.approx(0.004), 0],
    ]
    saved(learnability.figure(summary), tmp_path)
    with pytest.raises(style.Absent, match="states its ceiling"):
        learnability.summarize(frame([(BASE, outcome())]))


def test_precisions_differ_by_an_interval(tmp_path):
    groks = {"fp32": [500] * 8 + [None] * 2, "bf16": [600] * 4 + [None] * 6}
    pairs = [(trial(s, precision=p), outcome(g)) for p, cell in groks.items() for s, g in enumerate(cell)]
    summary = precision.summarize(frame(pairs))
    row = summary.table.iloc[0]
    assert (row.precision, row.successes, row.n, round(row.difference, 3)) == ("bf16", 4, 10, -0.4)
    assert (round(row.low, 2), round(row.high, 2)) == (-0.67, 0.02)
    saved(precision.figure(summary), tmp_path)
    with pytest.raises(style.Absent, match="another format"):
        precision.summarize(frame(pairs[:10]))


def test_another_threshold_is_read_off_the_curves():
    trials = frame([(BASE, outcome(200, 100, 0.93, settled_step=None))])
    steps = [100, 200, 300, 400]
    lines = pd.concat(
        pd.DataFrame({"run_id": "run0000", "key": key, "step": steps, "value": values})
        for key, values in {
            "train_accuracy": [0.95, 1, 1, 1],
            "test_accuracy": [0.1, 0.92, 0.96, 0.93],
            "intrinsic_dimension": [9, 5, 3, 2],
        }.items()
    )
    again = recomputed(trials.assign(grok_threshold=0.95, delay_limit=100), lines).iloc[0]
    assert (again.phase, again.memorization_step, again.grok_step) == ("grokking", 100, 300)
    assert (again.minimum_intrinsic_dimension, again.minimum_intrinsic_dimension_step) == (3, 300)
    assert (again.grok_intrinsic_dimension, again.late_high_share) == (3, 0)
    higher = recomputed(trials.assign(grok_threshold=0.99), lines).iloc[0]
    assert higher.phase == "memorization"
    assert np.isnan(higher.grok_step)


def test_a_trial_that_stopped_early_is_not_read_at_a_higher_threshold():
    """Settled at 0.92 and stopped there: whether it would have reached 0.99 nobody knows."""
    trials = frame([(BASE, outcome(200, 100, 0.92, ending="settled", steps_run=200)), (BASE, outcome(None))]).assign(
        grok_threshold=0.99, settle_evaluations=1
    )
    lines = pd.concat(
        pd.DataFrame({"run_id": run, "key": key, "step": [100, 200], "value": [0.1, value]})
        for run, key, value in (
            ("run0000", "train_accuracy", 1.0),
            ("run0000", "test_accuracy", 0.92),
            ("run0001", "train_accuracy", 1.0),
            ("run0001", "test_accuracy", 0.2),
        )
    )
    again = recomputed(trials, lines)
    assert again.phase.isna().tolist() == [True, False]
    assert again.phase.iloc[1] == "memorization"
    assert decided(again).index.tolist() == [1]
    assert "1 trial stopped before" in caption.grokked(again)
    assert recomputed(trials.assign(grok_threshold=0.9), lines).phase.notna().all()


def test_where_no_trial_has_a_phase_at_a_threshold_the_figures_say_so():
    trials = frame([(trial(s, width=w), outcome(200, 100, 0.92)) for s in range(2) for w in (16, 32)])
    trials = trials.assign(phase=None, parameters=trials.width * 10.0)
    for drawn in (phase_diagram, success_rate):
        with pytest.raises(style.Absent, match="no trial has a phase"):
            drawn.summarize(trials, "width")
    with pytest.raises(style.Absent, match="no trial has a phase"):
        probability_map.fit(trials, ["width"])
    with pytest.raises(style.Absent, match="no trial has a phase"):
        reverse_scaling.summarize(trials)


def test_the_phases_of_a_rule_of_ones_own_are_not_read_at_another_threshold(recorded):
    sweep = dataclasses.replace(reader.read("sweep", recorded), phases=("early", "never", "diverged"))
    with pytest.raises(ValueError, match="grok_threshold: needs the phases of liu, got a rule of your own"):
        resummarize(sweep, grok_threshold=0.8)


def test_the_old_threshold_gives_the_recorded_events_again(recorded, tmp_path, capsys):
    sweep = reader.read("sweep", recorded)
    same = resummarize(sweep, grok_threshold=0.9)
    before = sweep.finished.grok_step.notna()
    assert (same.finished.grok_step.notna() == before).all()
    assert (same.finished.grok_step - sweep.finished.grok_step).abs().max() <= 200  # the made-up curves are noisy
    command = ["sweep", "success_rate", "--tracking-uri", recorded, "--out", str(tmp_path)]
    assert main([*command, "--grok-threshold", "0.95"]) == 0
    assert "≥ 0.95" in (tmp_path / "success_rate.svg").read_text()
    assert main([*command, "--grok-threshold", "1.5"]) == 2
    assert "grok_threshold: must lie in (0, 1]" in capsys.readouterr().err


def test_a_cells_pictures_stand_side_by_side_by_seed(tmp_path):
    cell = frame([(trial(s), outcome(1000)) for s in range(6)])
    points = pd.DataFrame(
        [(run, x, -x, x) for run in cell.run_id for x in range(3)], columns=["run_id", "x", "y", "class"]
    )
    summary = hidden_picture.summarize(cell, points)
    assert summary.table.seed.unique().tolist() == [0, 1, 2, 3]
    assert len(summary.table) == 12
    saved(hidden_picture.figure(summary), tmp_path)
    with pytest.raises(style.Absent, match="no trial laid out its hidden vectors"):
        hidden_picture.summarize(cell, points.iloc[:0])
