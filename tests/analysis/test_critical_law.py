"""The law of critical values: known exponents and edges, a logistic regression, and how often it is right."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from scipy.optimize import check_grad
from scipy.special import expit
from synthetic import BASE, frame

from analysis import critical_law, style
from analysis.__main__ import figure_of
from analysis.edge import Problem, Trials
from phasemap.plan.outcome import Outcome
from phasemap.record.reader import Sweep

DECAYS = tuple(float(d) for d in np.geomspace(0.05, 5, 14).round(4))
WIDTHS = (24, 32, 48, 64, 96, 128)
START, END = -0.5, 0.4  # exponents
OUTSIDE, INSIDE, STEEPNESS = 0.03, 0.05, 0.12


def start(width):
    return 0.4 * (width / 64) ** START


def end(width):
    return 2.0 * (width / 64) ** END


def made(chance, widths=WIDTHS, seeds=4):
    """Trials that generalize with the probability ``chance(decay, width)``."""
    pairs = []
    for width in widths:
        for i, decay in enumerate(DECAYS):
            draws = np.random.default_rng([width, i, 2]).random(seeds)
            for seed, won in enumerate(draws < chance(decay, width)):
                outcome = {"phase": "grokking", "grok_step": 1_500} if won else {"phase": "memorization"}
                trial = BASE.replace(weight_decay=decay, width=width, seed=seed)
                pairs.append((trial, Outcome(ending="budget", steps_run=3_000, **outcome)))
    return frame(pairs)


def edge(decay, place, sign):
    """Rises at a place (sign 1) or falls there (-1), one half at it whatever the lapse rates."""
    shift = math.log((0.5 - OUTSIDE) / (0.5 - INSIDE))
    return expit(sign * np.log(decay / place) / STEEPNESS + shift)


def lapsing(product):
    return OUTSIDE + (1 - OUTSIDE - INSIDE) * product


def both(decay, width):
    return lapsing(edge(decay, start(width), 1) * edge(decay, end(width), -1))


@pytest.fixture(scope="module")
def table():
    return made(both)


@pytest.fixture(scope="module")
def summary(table):
    return critical_law.summarize(table, "weight_decay", "width")


def test_both_edges_have_their_exponents_and_critical_values(summary):
    laws = summary.laws.set_index("boundary")
    for side, wanted, place in (("start", START, start), ("end", END, end)):
        law = laws.loc[side]
        assert law.exponent_low <= wanted <= law.exponent_high
        assert law.exponent_high - law.exponent_low < 0.5
        rows = summary.table[summary.table.boundary == side]
        truth = np.array([place(w) for w in rows.width])
        assert rows.width.tolist() == list(WIDTHS)
        assert ((rows.low <= truth) & (truth <= rows.high)).mean() > 0.8
        assert rows.position.to_numpy() == pytest.approx(truth, rel=0.2)
    assert summary.table.inside.all()


def test_the_positions_fitted_without_the_law_stand_beside_it(summary):
    alone = summary.table.dropna(subset="alone")
    assert len(alone) > 8
    assert (np.abs(np.log(alone.alone / alone.position)) < 0.4).all()
    assert set(summary.lines.columns) >= {"boundary", "width", "position", "low", "high"}


def test_the_caption_says_which_line_is_refused(summary):
    assert "A straight line against log width: start not refused (p = " in summary.caption
    assert "fitted to the trials as logistic edges (lapse rates 0.0" in summary.caption
    bent = made(lambda d, w: lapsing(edge(d, 0.4 * math.exp(2 * math.log(w / 64) ** 2), 1)))
    curved = critical_law.summarize(bent, "weight_decay", "width")
    assert curved.laws.straight.tolist() == pytest.approx([0.0], abs=1e-4)
    assert "start refused by the data (p < 0.001)" in curved.caption
    (ax,) = critical_law.figure(curved).axes
    labels = [text.get_text() for text in ax.figure.legends[0].texts]
    assert labels[0].endswith("], refused")


def test_lines_on_which_nothing_generalizes_tell_where_the_edges_meet():
    """Start and end meet at width 20: below it nothing generalizes, and that narrows both exponents."""

    def meeting(decay, width):
        middle = 0.9
        reach = (width / 20) ** 0.8
        return expit(np.log(decay * reach / middle) / STEEPNESS) * expit(np.log(middle * reach / decay) / STEEPNESS)

    wide, narrow = (made(meeting, widths, seeds=8) for widths in ((10, 14, 17, 28, 40), (28, 40)))
    summary, less = (critical_law.summarize(t, "weight_decay", "width") for t in (wide, narrow))
    whole, part = (one.laws.set_index("boundary") for one in (summary, less))
    for side, wanted in (("start", -0.8), ("end", 0.8)):
        assert whole.exponent_low[side] <= wanted <= whole.exponent_high[side]
        spans = [law.exponent_high[side] - law.exponent_low[side] for law in (whole, part)]
        assert spans[0] < 0.7 * spans[1]
    closed = summary.table[summary.table.width < 20]
    assert not closed.inside.any()
    assert (summary.lines[summary.lines.width < 20].boundary == "none: P < 0.5").all()


def test_one_edge_is_one_law():
    for side, sign in (("start", 1), ("end", -1)):
        summary = critical_law.summarize(
            made(lambda d, w, s=sign: lapsing(edge(d, start(w), s))), "weight_decay", "width"
        )
        assert summary.laws.boundary.tolist() == [side]
        law = summary.laws.iloc[0]
        assert law.exponent_low <= START <= law.exponent_high


@pytest.mark.parametrize("seeds", [3, 30])
def test_an_edge_without_width_stands_anywhere_between_the_values_tried_and_nowhere_else(seeds):
    """However many trials agree on either side: none says where between, and all say that it is there."""
    below, above = DECAYS[5], DECAYS[6]
    found = critical_law.summarize(made(lambda decay, width: decay > below, (48, 96), seeds), "weight_decay", "width")
    between = (math.log(below) + math.log(above)) / 2
    for row in found.table.to_dict("records"):
        assert row["low"] < 1.05 * below
        assert row["high"] > above / 1.05
        assert abs(math.log(row["high"]) - between) < 1.5 * math.log(above / below)
        assert abs(math.log(row["low"]) - between) < 1.5 * math.log(above / below)


def test_the_band_of_an_open_interval_reaches_the_end_of_the_axis(summary):
    table = summary.table.assign(high=math.inf, low=0.0)
    ax = plt.figure().add_subplot()
    critical_law.draw(ax, replace(summary, table=table))
    drawn = [band.get_paths()[0].get_extents() for band in ax.collections if isinstance(band, PolyCollection)]
    assert len(drawn) == 2
    assert all(box.ymin < min(DECAYS) and box.ymax > max(DECAYS) for box in drawn)


def test_without_an_edge_the_reason_is_reported(table):
    cases = [
        (made(lambda d, w: 0.4), "a constant rate explains the trials as well"),
        (table.assign(grok_step=np.nan), "no trial generalized: there is no edge"),
        (table.assign(grok_step=100.0), "every trial generalized: there is no edge"),
        (made(lambda d, w: float(w > 50)), "no edge"),
        (table[table.width == 64], "needs two values of width"),
        (table[table.weight_decay == DECAYS[0]], "no edge|needs two values"),
    ]
    for trials, reason in cases:
        with pytest.raises(style.Absent, match=reason):
            critical_law.summarize(trials, "weight_decay", "width")


def test_an_axis_without_logarithms_is_refused(table):
    zero = table.assign(weight_decay=table.weight_decay.where(table.weight_decay > 0.06, 0.0))
    with pytest.raises(style.Absent, match="weight_decay has values of 0 or less"):
        critical_law.summarize(zero, "weight_decay", "width")
    words = table.assign(optimizer=np.where(table.seed % 2, "sgd", "adamw"))
    sweep = Sweep("words", ("weight_decay", "optimizer", "seed"), words[words.width == 64])
    with pytest.raises(style.Absent, match="needs two axes of numbers above 0; optimizer has words"):
        critical_law.of_sweep(sweep)


def test_the_sides_are_those_of_the_figure(table):
    sweep = Sweep("made", ("weight_decay", "width", "seed"), table)
    for named in ({}, {"y": "weight_decay"}):
        (ax,) = figure_of(sweep, "critical_law", **named).axes
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("width (units)", "critical weight decay")
    summary = critical_law.of_sweep(sweep, x="weight_decay")
    assert (summary.along.name, summary.other.name) == ("width", "weight_decay")
    with pytest.raises(ValueError, match="x: must be an axis of made that varies, got 'depth'"):
        figure_of(sweep, "critical_law", x="depth")


def test_a_continuous_axis_has_a_law_too():
    draw = np.random.default_rng(0)
    spots = zip(draw.uniform(-3, 1.6, 160), draw.uniform(3.2, 4.8, 160), strict=True)
    pairs = []
    for seed, (decay, width) in enumerate((float(np.exp(d)), round(float(np.exp(w)))) for d, w in spots):
        won = draw.random() < lapsing(edge(decay, start(width), 1))
        outcome = {"phase": "grokking", "grok_step": 1_500} if won else {"phase": "memorization"}
        trial = BASE.replace(weight_decay=decay, width=width, seed=seed)
        pairs.append((trial, Outcome(ending="budget", steps_run=3_000, **outcome)))
    summary = critical_law.summarize(frame(pairs), "weight_decay", "width")
    law = summary.laws.iloc[0]
    assert law.exponent_low <= START <= law.exponent_high
    assert summary.table.width.nunique() >= critical_law.PLACES
    critical_law.figure(summary).draw_without_rendering()


def pooled(seeds, sweep, sides=("start",)):
    draw = np.random.default_rng([seeds, sweep])
    along, across = (axis.ravel() for axis in np.meshgrid(np.linspace(-2.5, 2.5, 16), np.linspace(-1, 1, 6)))
    chance = expit((along + 0.8 + 0.5 * across) / 0.15)
    if "end" in sides:
        chance = chance * expit((1 + 0.4 * across - along) / 0.15)
    hits = draw.binomial(seeds, chance).astype(float)
    return Problem(Trials(along, across, hits, np.full(len(along), float(seeds))), sides)


def test_the_slope_of_the_likelihood_is_its_derivative():
    for sides, bent in ((("start",), False), (("end",), True), (("start", "end"), True)):
        problem = Problem(pooled(3, 0, ("start", "end")).trials, sides, bent)
        edges = {"start": [-0.7, -0.4, -1.5], "end": [0.9, 0.3, -1.7]}
        point = np.array([*(v for s in sides for v in edges[s]), 0.03, 0.06, *([0.1] * len(sides) if bent else [])])
        wrong = check_grad(lambda p, q=problem: q._loss(p)[0], lambda p, q=problem: q._loss(p)[1], point)
        assert wrong < 1e-3 * np.abs(problem._loss(point)[1]).max()


def test_many_trials_without_lapses_have_the_edge_of_a_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    problem = pooled(400, 1)
    data = problem.trials
    points = np.repeat(np.stack([data.along, data.across], 1), 2, axis=0)
    labels, weights = np.tile([1, 0], len(data.along)), np.stack([data.hits, data.counts - data.hits], 1).ravel()
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=1_000).fit(points, labels, sample_weight=weights)
    by_along, by_across = theirs.coef_[0]
    edges = problem.climb(problem.solve().values, {3: 0.0, 4: 0.0})
    assert edges.of("start", "slope") == pytest.approx(-by_across / by_along, abs=2e-3)
    assert edges.of("start", "at") == pytest.approx(-theirs.intercept_[0] / by_along, abs=2e-3)
    assert math.exp(edges.of("start", "steepness")) == pytest.approx(1 / by_along, rel=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("sides", [("start",), ("start", "end")])
def test_intervals_hold_the_truth_as_often_as_they_say(sides):
    """Of 50 sweeps, 90 % of them within three standard errors; more exactly: benchmarks/interval_coverage.py."""
    held = []
    for sweep in range(50):
        problem = pooled(1, sweep, sides)
        best = problem.solve()
        low, high = problem.interval(best, "start", "slope", 0.9)
        _, first, last = problem.place(best, "start", 0.6, 0.9, (-5, 5))
        held.append((low <= -0.5 <= high, first <= -0.8 - 0.5 * 0.6 <= last, problem.straight(best, "start") >= 0.05))
    exponents, places, kept = np.mean(held, 0)
    assert min(exponents, places) >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / 50)
    assert kept >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 50)


def test_the_table_is_one_row_per_edge_and_value(summary):
    assert not summary.table.duplicated(["boundary", "width"]).any()
    assert len(summary.table) == 2 * len(WIDTHS)
    assert isinstance(summary.table, pd.DataFrame)
