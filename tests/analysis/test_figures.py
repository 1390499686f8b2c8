"""Each summary against a small literal table; each drawing only has to save."""

import itertools

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from synthetic import BASE, curves, frame, made

from analysis import (
    caption,
    dimension_collapse,
    grok_step_map,
    learning_curves,
    phase_diagram,
    reverse_scaling,
    stride_spectrum,
    style,
    success_rate,
    takeover,
    time_to_grok,
)
from phasemap.plan.outcome import Outcome
from phasemap.plan.phases import PHASES


def outcome(phase, grok=None, accuracy=0.5, **more):
    return Outcome(phase=phase, ending="budget", steps_run=3000, grok_step=grok, final_test_accuracy=accuracy, **more)


def saved(figure, tmp_path):
    for kind in ("png", "svg"):
        path = tmp_path / f"figure.{kind}"
        figure.savefig(path, dpi=50)
        assert path.stat().st_size > 1000


@pytest.fixture
def small():
    """2 weight decays x 2 widths, 3 seeds in each cell."""
    told = {
        (0.1, 64): [outcome("memorization", parameters=10)] * 3,
        (0.1, 128): [outcome("memorization", parameters=20)] * 2 + [outcome("grokking", 2000, 1.0, parameters=20)],
        (1.0, 64): [outcome("grokking", s, 1.0, parameters=10) for s in (1000, 1500, 2500)],
        (1.0, 128): [outcome("grokking", 500, 0.9, parameters=20), outcome("confusion", parameters=20)] * 1
        + [outcome("comprehension", 600, 1.0, parameters=20)],
    }

    return frame(
        (BASE.replace(weight_decay=d, width=w, seed=s), o) for (d, w), cell in told.items() for s, o in enumerate(cell)
    )


def test_phase_of_most_seeds_with_agreement_and_ties_by_the_order_of_phases(small):
    cells = phase_diagram.summarize(small, "weight_decay", "width").table
    assert cells.phase.tolist() == ["memorization", "memorization", "grokking", "comprehension"]
    assert cells.agreement.round(2).tolist() == [1, 0.67, 1, 0.33]
    assert cells.n.tolist() == [3] * 4
    assert cells[list(PHASES)].to_numpy().sum() == 12


def test_tied_phases_stand_side_by_side_and_the_caption_says_so(small):
    tied = small[(small.weight_decay == 1.0) & (small.width == 128)]  # grokking, confusion, comprehension
    summary = phase_diagram.summarize(pd.concat([tied, small[small.width == 64]]), "weight_decay", "width")
    assert "side by side where they are tied" in summary.caption
    drawn = {to_hex(p.get_facecolor()) for p in phase_diagram.figure(summary).axes[0].patches if p.get_fill()}
    assert {style.PHASE_COLORS[phase] for phase in ("comprehension", "grokking", "confusion")} <= drawn
    assert "tied" not in phase_diagram.summarize(small[small.width == 64], "weight_decay", "width").caption


def test_cells_have_one_size_whatever_lies_between_their_values(small):
    table = small.assign(width=small.width.map({64: 16, 128: 96}))
    for summary in (
        phase_diagram.summarize(table, "weight_decay", "width"),
        grok_step_map.summarize(table, "weight_decay", "width"),
    ):
        assert summary.y is not None
        assert summary.y.edges.tolist() == [-0.5, 0.5, 1.5]


def test_words_have_no_shades_and_stand_in_the_order_of_their_field(small):
    table = small.assign(precision=["bf16", "fp32", "tf32"] * 4)
    assert time_to_grok.summarize(table, "precision").groups.group.tolist() == ["fp32", "tf32", "bf16"]
    assert success_rate.summarize(table, "weight_decay", "precision").lines()[0][0] == "precision fp32"
    assert style.colors(["a", "b"]) == [style.BLUE, style.ORANGE]
    assert style.colors([1, 2]) == style.shades(2)


def test_no_line_of_a_caption_parts_a_sign_from_its_number():
    for width in range(40, 90):  # mm: some of these would break there
        figure, _ = style.sheet(
            width=width * style.MM, caption="Test accuracy ≥ 0.9 at every step. n = 200 trials, p < 0.05."
        )
        lines = figure.texts[0].get_text().split("\n")
        assert not [line for line in lines if line[-1] in "=≥<" or line[0] in "=≥<"]
        assert "n = 200" in figure.texts[0].get_text()


@pytest.mark.parametrize("module", [phase_diagram, success_rate, time_to_grok])
def test_where_a_sampler_chose_the_points_a_pooled_figure_says_so(small, module):
    """A sampler gives each trial a seed of its own; a grid gives every cell the same ones."""
    sampled = small.assign(seed=range(len(small)))
    assert "Pooled over width. The sampler chose the points: " in module.summarize(sampled, "weight_decay").caption
    assert "sampler" not in module.summarize(sampled, "weight_decay", "width").caption
    assert "sampler" not in module.summarize(small, "weight_decay").caption


def test_a_value_of_its_own_for_each_trial_is_a_samplers_too(small):
    drawn = pd.concat([small, small]).assign(learning_rate=[1e-3 * 1.1**i for i in range(2 * len(small))])
    assert caption.SAMPLED in time_to_grok.summarize(drawn).caption
    assert caption.SAMPLED not in time_to_grok.summarize(small).caption


def test_one_seed_and_two_are_not_counted_as_many(small):
    assert [caption.every(n, "seed") for n in (1, 2, 5)] == ["The one seed", "Both seeds", "All 5 seeds"]


def test_captions_can_be_left_out_and_define_only_what_is_there(small):
    summary = phase_diagram.summarize(small, "weight_decay", "width")
    assert "collapse" not in summary.caption
    assert "grokking: test follows by 1000 steps or more" in summary.caption
    assert any("Phases of" in text.get_text() for text in phase_diagram.figure(summary).texts)
    with style.captions(False):
        bare = phase_diagram.figure(summary)
    assert not any(text.get_text() for text in bare.texts)
    assert bare.get_figheight() < phase_diagram.figure(summary).get_figheight()


CPUS = " and ".join(f"cpu AVX512 GenuineIntel 6 {model} SkylakeX OPENBLAS_L2_SIZE=512" for model in (85, 106, 143))


@pytest.mark.parametrize("said", ["unfinished sweep: 3 of 4 trials", f"more than one device: {CPUS}"])
def test_what_a_sweep_lacks_stands_where_nothing_else_does(said):
    """Legends lie above the panels, the caption at the bottom."""
    figure, axes = style.sheet(caption="n = 3 trials of modular addition (mod 97). " * 4)
    axes[0, 0].plot([0, 1], label="law")
    axes[0, 0].set_xlabel("width")
    figure.legend(loc="outside upper left")
    style.mark_unfinished(figure, said)
    figure.draw_without_rendering()
    caption, note = (words.get_window_extent() for words in figure.texts)
    others = [caption, figure.legends[0].get_window_extent(), axes[0, 0].get_tightbbox()]
    assert not any(note.overlaps(other) for other in others)
    assert not others[1].overlaps(others[2])
    assert caption.y0 >= 0
    assert note.x1 <= figure.bbox.x1


def test_reverse_scaling_says_whether_it_is_reversed():
    def size(width, groks):
        return [
            (
                BASE.replace(width=width, seed=s),
                outcome("grokking", 900, parameters=width) if s < groks else outcome("memorization", parameters=width),
            )
            for s in range(10)
        ]

    words = [
        reverse_scaling.summarize(frame(size(64, a) + size(128, b))).verdicts()[""]
        for a, b in ((10, 1), (1, 10), (5, 5))
    ]
    assert [word.partition(" (")[0] for word in words] == ["reversed", "not reversed", "undecided"]
    assert words[0].startswith("reversed (-0.90 [")
    assert "reversed: negative. 10 seeds per point" in reverse_scaling.summarize(frame(size(64, 10))).caption


def test_curves_at_zero_are_one_gray_line_and_all_others_differ(small):
    table = pd.concat(
        [small.assign(depth=d, grok_step=small.grok_step if d > 2 else float("nan")) for d in range(1, 9)]
    )
    (ax,) = time_to_grok.figure(time_to_grok.summarize(table, "depth")).axes
    lines = {str(line.get_label()): line for line in ax.lines if "/" in str(line.get_label())}
    assert {lines[name].get_color() for name in ("1 (0/12)", "2 (0/12)")} == {style.GRAY}
    assert len({str(vars(line)["_dash_pattern"]) for name, line in lines.items() if "(6/" in name}) == 6


def test_the_legend_shows_a_curve_as_it_looks_where_a_trial_generalized(small):
    nowhere = small.assign(depth=1, grok_step=float("nan"))
    table = pd.concat([nowhere, small.assign(depth=2)])
    sheet = time_to_grok.figure(time_to_grok.summarize(table, "weight_decay", "depth"))
    drawn = {line.get_label(): line for ax in sheet.axes for line in ax.lines if line.get_color() != style.GRAY}
    (legend,) = sheet.legends
    for line, text in zip(legend.get_lines(), legend.get_texts(), strict=True):
        shown = drawn.get(text.get_text())
        assert line.get_color() == (shown.get_color() if shown else style.GRAY)
    assert {line.get_color() for line in legend.get_lines()} != {style.GRAY}


def test_a_rule_of_ones_own_is_named_and_its_phases_differ_from_ours(small):
    table = small.assign(phase=small.phase.replace("grokking", "early"), phases="pace")
    table.attrs["phases"] = ("early", "late", "comprehension", "diverged")
    words = phase_diagram.summarize(table, "weight_decay", "width").caption
    assert "Phases of the rule pace: early, late" in words
    assert "Liu" not in words
    assert "of modular addition (mod 59), mlp" in words
    assert "of squares, mlp" in phase_diagram.summarize(table.assign(task="squares"), "weight_decay").caption
    looks = style.looks(table.attrs["phases"])
    assert len({color for color, _ in looks.values()}) == len({marker for _, marker in looks.values()}) == 4
    assert [style.ink(color) for color in ("#161616", "#5a67b8", "#f7e58b")] == ["white", "white", "#222222"]


def test_every_phase_diagram_draws(small, pairs, tmp_path):
    saved(phase_diagram.figure(phase_diagram.summarize(small, "weight_decay", "width")), tmp_path)
    saved(phase_diagram.figure(phase_diagram.summarize(small.iloc[1:], "weight_decay", "width")), tmp_path)  # uneven n
    saved(phase_diagram.figure(phase_diagram.summarize(small, "weight_decay")), tmp_path)
    three = pd.concat([small, small.assign(data_fraction=0.6)])
    saved(phase_diagram.figure(phase_diagram.summarize(three, "weight_decay", "width", "data_fraction")), tmp_path)
    words = small.assign(optimizer=["adamw", "sgd"] * 6)
    saved(phase_diagram.figure(phase_diagram.summarize(words, "weight_decay", "optimizer")), tmp_path)


def test_continuous_axes_are_points(pairs, tmp_path):
    table = frame(pairs[:60])
    table = table.assign(
        weight_decay=[0.01 * 1.1**i for i in range(60)], learning_rate=[1e-4 * 1.07**i for i in range(60)]
    )
    summary = phase_diagram.summarize(table, "weight_decay", "learning_rate")
    assert summary.continuous
    assert summary.x.scale == "log"
    saved(phase_diagram.figure(summary), tmp_path)
    saved(phase_diagram.figure(phase_diagram.summarize(table, "weight_decay")), tmp_path)


def test_phase_colors_differ_in_gray():
    def lightness(color):
        r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
        y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        return 116 * y ** (1 / 3) - 16

    steps = [lightness(c) for c in style.PHASE_COLORS.values()]
    assert tuple(style.PHASE_COLORS) == PHASES
    assert all(a - b > 11 for a, b in itertools.pairwise(steps)), steps


def test_median_grok_step_is_censored_not_averaged(small, tmp_path):
    summary = grok_step_map.summarize(small, "weight_decay", "width")
    assert summary.table["median"].tolist() == [float("inf"), float("inf"), 1500, 600]
    assert summary.table.known.tolist() == [0, 1, 3, 2]
    saved(grok_step_map.figure(summary), tmp_path)
    saved(grok_step_map.figure(grok_step_map.summarize(small, "weight_decay")), tmp_path)
    saved(
        grok_step_map.figure(grok_step_map.summarize(small[small.grok_step.isna()], "weight_decay", "width")), tmp_path
    )


def test_success_rates_with_wilson(small, tmp_path):
    summary = success_rate.summarize(small, "weight_decay", "width")
    assert summary.table.successes.tolist() == [0, 1, 3, 2]
    last = summary.table.iloc[3]
    assert (round(last.low, 3), round(last.high, 3), last.n) == (0.208, 0.939, 3)
    assert "n = 3 per point" in summary.caption
    assert "≥ 0.9" in summary.caption
    saved(success_rate.figure(summary), tmp_path)
    many = success_rate.summarize(small.assign(depth=list(range(1, 13))), "weight_decay", "depth")
    saved(success_rate.figure(many), tmp_path)


def test_reverse_scaling_is_not_pooled_over_its_control(small, tmp_path):
    summary = reverse_scaling.summarize(small, "weight_decay")
    assert summary.table[["weight_decay", "parameters", "successes"]].to_numpy().tolist() == [
        [0.1, 10, 0],
        [0.1, 20, 1],
        [1.0, 10, 3],
        [1.0, 20, 2],
    ]
    assert summary.table.final_median.tolist() == [0.5, 0.5, 1.0, 0.9]
    saved(reverse_scaling.figure(summary), tmp_path)
    assert "Pooled over weight decay" in reverse_scaling.summarize(small).caption


def test_time_to_grok_keeps_those_that_never_did(small, tmp_path):
    summary = time_to_grok.summarize(small, "weight_decay")
    assert summary.groups[["group", "grokked", "n"]].to_numpy().tolist() == [[0.1, 1, 6], [1.0, 5, 6]]
    ends = summary.table.groupby("group").grokked.max().round(3).tolist()
    assert ends == [0.167, 0.833]
    saved(time_to_grok.figure(summary), tmp_path)
    saved(time_to_grok.figure(time_to_grok.summarize(small, "weight_decay", "width")), tmp_path)
    saved(time_to_grok.figure(time_to_grok.summarize(small)), tmp_path)


def _with_curves(pairs):
    table = frame(pairs)
    rows = [
        (run, key, step, value)
        for run, pair in zip(table.run_id, pairs, strict=True)
        for key, line in curves(*pair).items()
        for step, value in line
    ]
    return table, pd.DataFrame(rows, columns=["run_id", "key", "step", "value"])


def test_the_cell_with_most_grokking_is_named_and_its_middle_seed_strong(small, tmp_path):
    cell = learning_curves.telling_cell(small, ("weight_decay", "width"))
    assert cell[["weight_decay", "width"]].drop_duplicates().to_numpy().tolist() == [[1.0, 64]]
    assert cell.loc[cell.run_id == learning_curves.middle_seed(cell), "grok_step"].iloc[0] == 1500
    pairs = [made(BASE.replace(weight_decay=0.7, seed=s)) for s in range(3)]
    table, lines = _with_curves(pairs)
    summary = learning_curves.summarize(table, lines)
    assert set(summary.table.key) == set(learning_curves.KEYS)
    saved(learning_curves.figure(summary), tmp_path)


def test_dimension_is_read_off_at_the_grok_step(tmp_path):
    cell = frame([(BASE, outcome("grokking", 150, 1.0))])
    lines = pd.DataFrame({"run_id": "run0000", "key": "intrinsic_dimension", "step": [100, 200], "value": [50.0, 10.0]})
    summary = dimension_collapse.summarize(cell, lines)
    assert summary.groks.value.tolist() == [30]
    saved(dimension_collapse.figure(summary), tmp_path)
    with pytest.raises(style.Absent, match="no intrinsic dimension"):
        dimension_collapse.summarize(cell, lines.assign(key="test_loss"))


def test_takeover_needs_inner_scores(tmp_path):
    trial = frame(
        [
            (
                BASE.replace(task="modular_multiplication", probes="dimension+stride"),
                outcome("grokking", 500, takeover_step=2000),
            )
        ]
    )
    steps = [0, 1000, 2000, 3000]
    lines = pd.concat(
        pd.DataFrame({"run_id": "run0000", "key": key, "step": steps, "value": values})
        for key, values in {
            "test_accuracy": [0, 1, 1, 1],
            "winning_stride_score": [0, 1, 0.2, 0.1],
            "inner_winning_stride_score": [0, 0.2, 0.9, 1],
            "intrinsic_dimension": [60, 10, 12, 9],
        }.items()
    )
    summary = takeover.summarize(trial, lines)
    assert summary.takeover_step == 2000
    assert "dimension+stride" not in summary.caption  # what is measured changes no trial's course
    assert "the inner one ≥ 0.5): at step 2,000" in summary.caption
    assert "at step 2,000" in summary.caption
    saved(takeover.figure(summary), tmp_path)
    with pytest.raises(style.Absent, match="multiplication or division"):
        takeover.summarize(trial, lines[lines.key == "test_accuracy"])


@pytest.mark.parametrize("module", [phase_diagram, grok_step_map, success_rate, time_to_grok])
def test_no_trials_are_reported_in_words(small, module):
    with pytest.raises(style.Absent, match="no finished trial yet"):
        module.summarize(small.iloc[:0], "weight_decay")


def _strides(**columns):
    """Three seeds of a multiplication cell; the columns that records may lack are given."""
    told = [
        outcome("grokking", 500, winning_stride=s, winning_stride_score=0.9, winning_stride_p_value=p)
        for s, p in ((4, 0.001), (7, 0.001), (9, 0.6))
    ]
    pairs = [(BASE.replace(task="modular_multiplication", seed=i), one) for i, one in enumerate(told)]
    return frame(pairs).assign(**columns)


def test_predicted_strides_are_counted_where_chance_does_not_explain_the_winner(tmp_path):
    cell = _strides(predicted_stride=[4.0, 6.0, 9.0], dominant_frequency=[11.0, 2.0, 3.0])
    lines = pd.concat(
        pd.DataFrame({"run_id": run, "key": key, "step": [100, 200], "value": [9.0, 2.0]})
        for run in cell.run_id
        for key in ("spectrum_frequencies", "winning_stride_score")
    )
    summary = stride_spectrum.summarize(cell, lines)
    assert summary.table.reading.tolist() == ["outer"] * 3
    assert summary.table.predicted.tolist() == [4, 6, 9]
    assert "Of the 2 strides better than chance, 50%" in summary.caption
    figure = stride_spectrum.figure(summary)
    assert not [text for ax in figure.axes for text in ax.texts]
    saved(figure, tmp_path)


def test_records_older_than_the_spectrum_say_what_they_lack(tmp_path):
    cell = _strides().drop(columns=["predicted_stride", "dominant_frequency"], errors="ignore")
    lines = pd.DataFrame({"run_id": "run0000", "key": "winning_stride_score", "step": [100], "value": [0.9]})
    summary = stride_spectrum.summarize(cell, lines)
    assert summary.table.predicted.isna().all()
    assert "Of the" not in summary.caption
    figure = stride_spectrum.figure(summary)
    told = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert "spectrum_frequencies\nnot recorded" in told
    assert "predicted_stride\nnot recorded" in told
    saved(figure, tmp_path)
    with pytest.raises(style.Absent, match="cyclic group"):
        stride_spectrum.summarize(cell.assign(winning_stride=float("nan")), lines)
