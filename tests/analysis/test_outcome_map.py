"""The map of any number: medians, censoring and missing numbers against small literal tables, and what it refuses."""

import math
import shutil
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import Rectangle
from synthetic import BASE, frame, made, record, result

import phasemap
from analysis import axis, grok_step_map, outcome_map, phase_diagram, style
from analysis.__main__ import figure_of, main
from phasemap.plan.outcome import Outcome
from phasemap.plan.space import Space
from phasemap.record import reader
from phasemap.tasks.task import Task

INFINITE = math.inf


def table(cells, outcome="roughness", **more):
    """A row per seed of {(weight_decay, width): values}; NaN: the trial has no such number."""
    pairs, values = [], []
    for (decay, width), cell in cells.items():
        for seed, value in enumerate(cell):
            own = Outcome(phase="memorization", ending="budget", steps_run=3000, **more)
            pairs.append((BASE.replace(weight_decay=decay, width=width, seed=seed), own))
            values.append(value)
    return frame(pairs).copy().assign(**{outcome: values})


@pytest.fixture
def numbers():
    return table(
        {
            (0.1, 64): [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
            (0.1, 128): [8.0, np.nan, 10.0],
            (1.0, 64): [np.nan] * 3,
            (1.0, 128): [5.0] * 3,
        }
    )


def drawn(summary, folder):
    figure = outcome_map.figure(summary)
    figure.savefig(folder / "map.png", dpi=50)
    return figure


def words(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_a_number_has_its_median_its_interval_and_its_quartiles(numbers):
    cells = outcome_map.summarize(numbers, "roughness", "weight_decay", "width").table.set_index(
        ["weight_decay", "width"]
    )
    first = cells.loc[(0.1, 64)]
    assert first[["median", "low", "high", "lower_quartile", "upper_quartile"]].tolist() == [4, 1, 7, 2.5, 5.5]
    assert cells.loc[(1.0, 128), ["median", "low", "high"]].tolist() == [5, -INFINITE, INFINITE]  # three trials


def test_trials_without_the_number_are_counted_and_shown(numbers, tmp_path):
    summary = outcome_map.summarize(numbers, "roughness", "weight_decay", "width")
    cells = summary.table.set_index(["weight_decay", "width"])
    assert cells.n.tolist() == [7, 3, 3, 3]
    assert cells.known.tolist() == [7, 2, 0, 3]
    assert cells.missing.tolist() == [0, 1, 3, 0]
    assert cells.loc[(0.1, 128), "median"] == 9
    assert math.isnan(cells.loc[(1.0, 64), "median"])
    assert "4 of 16 trials have no roughness and are in no median" in summary.caption
    figure = drawn(summary, tmp_path)
    assert set(words(figure)) >= {"4", "7/7", "9", "2/3", "none", "0/3", "5"}
    pieces = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_hatch() == "xxxxxx"]
    assert len(pieces) == 2  # the one trial in its strip, and the cell without any
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [outcome_map.MISSING]


def test_a_step_is_censored_where_it_did_not_happen(tmp_path):
    steps = table({(0.1, 64): [100, np.nan, np.nan], (0.1, 128): [100, 200, np.nan]}, "settled_step")
    summary = outcome_map.summarize(steps, "settled_step", "weight_decay", "width")
    assert summary.table["median"].tolist() == [INFINITE, 200]
    assert summary.table.upper_quartile.tolist() == [INFINITE, INFINITE]
    assert summary.table.censored.tolist() == [2, 1]
    assert summary.table.missing.tolist() == [0, 0]
    assert {">3k", "200"} <= set(words(drawn(summary, tmp_path)))
    plain = outcome_map.summarize(steps.assign(roughness=steps.settled_step), "roughness", "weight_decay", "width")
    assert plain.table["median"].tolist() == [100, 150]  # a number that is no step is not censored


def test_a_takeover_is_missing_where_there_is_no_inner_reading():
    steps = table({(0.1, 64): [np.nan, np.nan, 500]}, "takeover_step")
    steps["both_strides_score"] = [np.nan, 0.3, 0.9]
    cell = outcome_map.summarize(steps, "takeover_step", "weight_decay").table.iloc[0]
    assert (cell.known, cell.censored, cell.missing) == (1, 1, 1)


def test_the_grok_step_map_is_the_map_of_the_grok_step(pairs):
    trials = frame(pairs)
    own, general = (
        grok_step_map.summarize(trials, "weight_decay", "width"),
        outcome_map.summarize(trials, "grok_step", "weight_decay", "width"),
    )
    pd.testing.assert_frame_equal(own.table, general.table)
    assert own.caption == general.caption
    assert "Generalized: test accuracy ≥ 0.9" in own.caption


def test_panels_and_words(numbers, tmp_path):
    words = numbers.assign(optimizer=["adamw", "sgd"] * 8)
    three = pd.concat([words, words.assign(depth=3)])
    figure = drawn(outcome_map.summarize(three, "roughness", "optimizer", "width", "depth"), tmp_path)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["depth 2", "depth 3"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["adamw", "sgd"]


def test_along_one_axis_each_trial_stands_beside_the_median(numbers, tmp_path):
    figure = drawn(outcome_map.summarize(numbers, "roughness", "weight_decay"), tmp_path)
    assert words(figure) == ["9/10", "3/6"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["trials", "no number", "median"]


def test_a_constant_needs_no_colors(numbers, tmp_path):
    same = outcome_map.summarize(numbers.assign(roughness=2.0), "roughness", "weight_decay", "width")
    assert "It is 2 in every trial" in same.caption
    assert len(drawn(same, tmp_path).axes) == 1


@pytest.mark.parametrize("y", ["learning_rate", None])
def test_continuous_axes_have_a_point_per_trial(numbers, y, tmp_path):
    spread = numbers.assign(weight_decay=np.geomspace(0.1, 1, 16), learning_rate=np.geomspace(1e-3, 1e-2, 16))
    summary = outcome_map.summarize(spread, "roughness", "weight_decay", y)
    assert summary.continuous
    assert "4 of 16 trials have no roughness" in summary.caption
    drawn(summary, tmp_path)
    late = outcome_map.summarize(spread, "grok_step", "weight_decay", y)
    legend = drawn(late, tmp_path).legends[0]
    assert outcome_map.CENSORED in [text.get_text() for text in legend.get_texts()]


def test_colors_are_on_a_log_scale_where_medians_span_a_decade(numbers):
    def log(low, high):
        values = np.where(numbers.weight_decay == 0.1, low, high)
        return outcome_map.summarize(numbers.assign(roughness=values), "roughness", "weight_decay").log

    assert [log(1, 10), log(1, 9), log(-1, 10), log(0, 0)] == [True, False, False, False]


def test_shares_have_one_scale_from_0_to_1_and_two_decimals(numbers, tmp_path):
    values = np.where(numbers.weight_decay == 0.1, 0.69, 0.00258)
    summary = outcome_map.summarize(numbers.assign(best_test_accuracy=values), "best_test_accuracy", "width")
    assert (summary.log, summary.norm.vmin, summary.norm.vmax) == (False, 0, 1)
    both = outcome_map.summarize(numbers.assign(own_score=values), "own_score", "weight_decay", "width")
    assert {"0.69", "0.00"} <= set(words(drawn(both, tmp_path)))
    beyond = numbers.assign(own_score=100 * values)  # no share, whatever its name says
    assert not outcome_map.summarize(beyond, "own_score", "weight_decay").share


def test_colors_of_a_step_end_at_the_budget():
    steps = table({(0.1, 64): [2_900] * 3, (0.1, 128): [2_800] * 3}, "settled_step")
    norm = outcome_map.summarize(steps, "settled_step", "weight_decay", "width").norm
    assert norm.vmin is not None
    assert (norm.vmax, round(norm.vmin)) == (3_000, 2_000)


def test_no_number_runs_over_its_cell(tmp_path):
    cells = {(d, w): [0.0025812 * d * w] * 3 for d in (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0) for w in (1, 64)}
    figure = drawn(outcome_map.summarize(table(cells), "roughness", "weight_decay", "width"), tmp_path)
    figure.draw_without_rendering()
    (width,) = {round(p.get_window_extent().width) for p in figure.axes[0].patches if p.get_fill()}
    texts = [text.get_window_extent().width for text in figure.axes[0].texts]
    assert len(texts) == 16
    assert max(texts) < width


def test_a_wrong_name_is_one_message_and_a_number_nobody_has_another(numbers):
    with pytest.raises(
        ValueError, match=r"got 'roughnes' \(did you mean roughness\?\); there are roughness, steps_run$"
    ):
        outcome_map.summarize(numbers, "roughnes", "weight_decay")
    for setting in ("width", "phase"):
        with pytest.raises(ValueError, match=f"must be a recorded number, got '{setting}'"):
            outcome_map.summarize(numbers, setting, "weight_decay")
    with pytest.raises(style.Absent, match=r"no finished trial has a betti1 \(independent loops"):
        outcome_map.summarize(numbers, "betti1", "weight_decay")
    with pytest.raises(style.Absent, match="no finished trial yet"):
        outcome_map.summarize(numbers.iloc[:0], "roughness", "weight_decay")


# ------------------------------------------------------------------ from a store


class Gated(torch.nn.Module):
    """A network of the user's, with a field of its own."""

    def __init__(self, task: Task, width: int = 128, gate: Literal["relu", "none"] = "relu"):
        super().__init__()
        self.table, self.head = torch.nn.Embedding(task.vocabulary, width), torch.nn.Linear(width, task.classes)
        self.gate = torch.relu if gate == "relu" else torch.nn.Identity()

    def forward(self, inputs):
        return self.head(self.gate(self.table(inputs).sum(1)))


@pytest.fixture(scope="module")
def own(schema, tmp_path_factory) -> str:
    """The sweep "user": weight decay x gate, with a number of the user's probe."""
    uri = f"sqlite:///{shutil.copy(schema, tmp_path_factory.mktemp('own'))}"
    axes: dict[str, Any] = {"weight_decay": [0.1, 0.7], "gate": ["relu", "none"], "seed": range(2)}
    trials = Space(model=Gated, task="modular_addition", steps=3_000, **axes).trials()
    rough = [made(trial)[1].replace(roughness=trial.weight_decay + trial.seed) for trial in trials]
    record(uri, "user", *map(result, trials, rough), axes=tuple(axes))
    return uri


def test_a_field_of_the_users_network_is_an_axis_and_no_outcome(own):
    sweep = reader.read("user", own)
    assert sweep.cell_axes == ("weight_decay", "gate")
    assert reader.own_numbers(sweep.trials) == ["roughness"]
    assert "Pooled over gate" in outcome_map.summarize(sweep.finished, "roughness", "weight_decay").caption


def test_the_users_number_is_drawn_unless_another_is_named(own, tmp_path):
    where = ["--tracking-uri", own, "--out"]
    assert main(["user", "outcome_map", *where, str(tmp_path / "a")]) == 0
    cells = pd.read_csv(tmp_path / "a" / "outcome_map_roughness.csv")
    assert cells.columns[:2].tolist() == ["weight_decay", "gate"]
    assert cells["median"].tolist() == pytest.approx([0.6, 0.6, 1.2, 1.2])
    two = ["--outcome", "final_test_accuracy", "--outcome", "betti1", "--x", "gate"]
    assert main(["user", "outcome_map", *two, *where, str(tmp_path / "b")]) == 0
    assert pd.read_csv(tmp_path / "b" / "outcome_map_final_test_accuracy.csv").columns[0] == "gate"
    assert "no finished trial has a betti1" in (tmp_path / "b" / "outcome_map_betti1.svg").read_text()
    assert not (tmp_path / "b" / "outcome_map_betti1.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outcome_map", "--outcome", "roughnes"], "outcome: must be a recorded number, got 'roughnes' (did you mean"),
        (["outcome_map", "--x", "gates"], "x: must be an axis of user that varies, got 'gates' (did you mean gate?)"),
        (["--y", "width"], "y: must be an axis of user that varies, got 'width'; use weight_decay, gate, seed"),
        (["phase_diagram", "--x", "gate", "--y", "gate"], "y: must be another axis than x, got 'gate' for both"),
        (
            ["success_rate", "--x", "gate"],
            "x: is an option of phase_diagram, critical_law, grok_step_map, grok_step_law, outc",
        ),
        (["outcome_mop"], "(did you mean outcome_map?)"),
    ],
)
def test_what_a_map_cannot_show_is_one_message_before_anything_is_written(own, arguments, message, tmp_path, capsys):
    assert main(["user", *arguments, "--tracking-uri", own, "--out", str(tmp_path / "none")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_results_draw_any_number_over_any_axes(own):
    results = phasemap.api.Results("user", own)
    figure = results.figure("outcome_map", outcome="roughness", x="seed", y="gate")
    assert figure.axes[0].get_xlabel() == "seed"
    assert [ax.get_title() for ax in figure.axes[:2]] == ["weight decay 0.1", "weight decay 0.7"]
    assert words(figure) == ["0.1", "0.1", "1.1", "1.1", "0.7", "0.7", "1.7", "1.7"]
    with pytest.raises(ValueError, match="outcome: must be a recorded number"):
        results.figure("outcome_map", outcome="gate")
    with pytest.raises(ValueError, match="outcome: is an option of outcome_map, got phase_diagram; leave it out"):
        results.figure(outcome="roughness")
    assert results.figure(x="gate").axes[0].get_xlabel() == "gate"


def test_axes_named_come_first_and_the_next_one_is_the_panels(own):
    sweep = reader.read("user", own)
    assert (summary := phase_diagram.of_sweep(sweep, y="weight_decay")).x.name == "gate"
    assert summary.facet is None
    assert outcome_map.of_sweep(sweep, "roughness", "seed").facet == "gate"


def ratios():
    pairs = [
        made(BASE.replace(width=width, modulus=modulus, seed=seed))
        for width in (32, 64)
        for modulus in (16, 32)
        for seed in range(2)
    ]
    return reader.Sweep("ratios", ("width", "modulus", "seed"), frame(pairs))


def test_a_ratio_of_two_columns_is_an_axis_and_cells_do_not_mix_its_denominators():
    sweep = axis.with_ratios(ratios(), "width/modulus", None)
    assert sweep.axes == ("width/modulus", "modulus", "seed")
    summary = outcome_map.of_sweep(sweep, "steps_run", "width/modulus")
    assert summary.y is not None
    assert (summary.x.values, summary.y.name) == ((1.0, 2.0, 4.0), "modulus")
    cells = summary.table.set_index(["width/modulus", "modulus"]).n
    assert cells.to_dict() == {(1.0, 32): 2, (2.0, 16): 2, (2.0, 32): 2, (4.0, 16): 2}
    assert ratios().axes == ("width", "modulus", "seed")
    sheet = figure_of(ratios(), "outcome_map", outcome="steps_run", x="width/modulus", y=None)
    assert sheet.axes[0].get_xlabel() == "width/modulus"


def test_a_ratio_of_fixed_columns_or_of_words_is_refused():
    with pytest.raises(
        ValueError, match=r"width/moduls: must be a ratio of two columns of positive numbers, got 'moduls' "
    ):
        axis.with_ratios(ratios(), "width/moduls")
    with pytest.raises(
        ValueError, match=r"task/modulus: must be a ratio of two columns of positive numbers, got 'task'"
    ):
        axis.with_ratios(ratios(), "task/modulus")
    with pytest.raises(ValueError, match=r"x: must be an axis of ratios that varies, got 'depth/heads'"):
        figure_of(ratios(), "phase_diagram", x="depth/heads")
