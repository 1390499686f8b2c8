"""The law of the grok step: known exponents, scipy's censored fit, lifelines, least squares, and its coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import BASE, frame

from analysis import grok_step_law, style
from analysis.lognormal import Times, Undetermined
from analysis.statistics import followed
from phasemap.plan.outcome import Outcome
from phasemap.record.reader import Sweep

EXPONENTS = {"weight_decay": -1.2, "width": 0.5}
DECAYS, WIDTHS = (0.1, 0.2, 0.4, 0.8, 1.6), (32, 64, 128)


def times(design, coefficients, scatter, seed, every=None, budget=math.inf):
    """Made-up times; with ``every`` known between two evaluations, else to a part in a million."""
    draw = np.random.default_rng(seed)
    exact = np.exp(design @ coefficients + scatter * draw.standard_normal(len(design)))
    high = exact if every is None else np.ceil(exact / every) * every
    low = high * (1 - 1e-6) if every is None else high - every
    seen = high <= budget
    with np.errstate(divide="ignore"):
        return Times(np.log(np.where(seen, low, budget)), np.log(np.where(seen, high, np.inf)), design)


def design(n, columns=2, seed=0):
    return np.column_stack([np.ones(n), np.random.default_rng(seed).uniform(-1, 1, (n, columns))])


def made(step, seeds=8, budget=3_000, **values):
    """Trials whose grok step is a lognormal number around ``step(decay, width)``, known to the next evaluation."""
    pairs = []
    for decay in DECAYS:
        for width in WIDTHS:
            for seed in range(seeds):
                draw = np.random.default_rng([seed, width, int(decay * 10)])
                exact = step(decay, width) * math.exp(0.25 * draw.standard_normal())
                step_known = math.ceil(exact / 100) * 100
                trial = BASE.replace(weight_decay=decay, width=width, seed=seed, steps=budget, **values)
                grokked = {"phase": "grokking", "grok_step": step_known}
                outcome = grokked if step_known <= budget else {"phase": "memorization"}
                pairs.append((trial, Outcome(ending="budget", steps_run=budget, **outcome)))
    return frame(pairs)


def power(decay, width):
    return 2_500 * (decay / 0.4) ** EXPONENTS["weight_decay"] * (width / 64) ** EXPONENTS["width"]


@pytest.fixture(scope="module")
def table():
    return made(power)


def row(summary, quantity, axis=None):
    rows = summary.table[summary.table.quantity == quantity]
    return (rows if axis is None else rows[rows["axis"] == axis]).iloc[0]


def test_without_axes_it_is_scipys_fit_of_censored_data():
    own = times(np.ones((80, 1)), [math.log(900)], 0.4, seed=3, every=100, budget=1_000)
    inner = own.known & np.isfinite(own.low)
    data = stats.CensoredData(
        interval=np.stack([own.low, own.high], 1)[inner],
        left=own.high[own.known & ~inner],
        right=own.low[~own.known],
    )
    middle, scatter = stats.norm.fit(data)
    assert 20 < (~own.known).sum() < 60
    assert own.fit.coefficients[0] == pytest.approx(middle, abs=1e-4)
    assert own.fit.scatter == pytest.approx(scatter, abs=1e-4)


def test_known_times_have_the_coefficients_and_intervals_of_least_squares():
    rows = design(14)
    own = times(rows, [6.0, -1.0, 0.5], 0.3, seed=1)
    wanted, residual, *_ = np.linalg.lstsq(rows, own.high, rcond=None)
    np.testing.assert_allclose(own.fit.coefficients, wanted, atol=1e-5)
    assert own.fit.scatter == pytest.approx(math.sqrt(residual[0] / 14), rel=1e-5)
    error = math.sqrt(residual[0] / 11 * np.linalg.inv(rows.T @ rows)[1, 1])
    low, high = wanted[1] + error * stats.t.ppf([0.025, 0.975], 11)
    assert own.ends(1, 0.95)[1:] == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_known_times_have_the_f_test_of_squares():
    rows = design(20, columns=1)
    own = times(rows, [6.0, -1.0], 0.3, seed=2)
    squared = np.column_stack([rows, rows[:, 1] ** 2])
    small, large = (np.linalg.lstsq(d, own.high, rcond=None)[1][0] for d in (rows, squared))
    assert own.straight([1]) == pytest.approx(stats.f.sf((small - large) / (large / 17), 1, 17), rel=1e-3)


def test_censored_times_over_axes_have_the_law_of_lifelines():
    from lifelines import LogNormalAFTFitter

    rows = design(300)
    own = times(rows, [6.9, -1.0, 0.5], 0.3, seed=0, every=50, budget=1_000)
    data = pd.DataFrame({"low": np.exp(own.low), "high": np.exp(own.high), "a": rows[:, 1], "b": rows[:, 2]})
    theirs = LogNormalAFTFitter().fit_interval_censoring(data, "low", "high")
    assert (~own.known).mean() > 0.3
    wanted = [theirs.params_["mu_", name] for name in ("Intercept", "a", "b")]
    np.testing.assert_allclose(own.fit.coefficients, wanted, atol=1e-3)
    assert math.log(own.fit.scatter) == pytest.approx(theirs.params_["sigma_", "Intercept"], abs=1e-3)
    assert own.fit.height == pytest.approx(theirs.log_likelihood_, abs=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(("budget", "censored"), [(math.inf, 0.0), (500, 0.8)])
def test_intervals_hold_the_truth_as_often_as_they_say(budget, censored):
    """Of 50 sweeps, 95 % of them within three standard errors; more exactly: benchmarks/interval_coverage.py."""
    held, kept, ended = [], [], []
    for sweep in range(50):
        own = times(design(60, seed=sweep), [math.log(1_000), -1.0, 0.5], 0.3, [sweep, 1], every=100, budget=budget)
        _, low, high = own.ends(1, 0.95)
        held.append(low <= -1.0 <= high)
        kept.append(own.straight([1, 2]) >= 0.05)
        ended.append(~own.known)
    assert np.mean(ended) == pytest.approx(censored, abs=0.05)
    assert np.mean(held) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 50)
    assert np.mean(kept) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 50)


def test_exponents_are_found_though_most_trials_are_censored():
    """Two in three do not generalize in time; least squares on the others finds too small an exponent."""
    table = made(lambda decay, width: 2.2 * power(decay, width), seeds=12)
    assert (share := table.grok_step.isna().mean()) > 0.6, share
    summary = grok_step_law.summarize(table, ["weight_decay", "width"])
    for name, wanted in EXPONENTS.items():
        term = row(summary, "exponent", name)
        assert term.low <= wanted <= term.high
        assert term.high - term.low < 0.5
    assert row(summary, "scatter").value == pytest.approx(0.25, rel=0.25)
    won = table[table.grok_step.notna()]
    plain = np.linalg.lstsq(
        np.column_stack([np.ones(len(won)), np.log(won.weight_decay), np.log(won.width)]), np.log(won.grok_step)
    )[0]
    assert plain[1] > EXPONENTS["weight_decay"] + 0.2


def test_the_caption_says_what_was_fitted(table):
    summary = grok_step_law.summarize(table, ["weight_decay", "width"])
    words = summary.caption
    censored = int(table.grok_step.isna().sum())
    assert f"of 120 trials, {censored} of them censored" in words
    term = row(summary, "exponent", "width")
    assert f"exponent of width {term.value:.3g} [{term.low:.3g}, {term.high:.3g}]" in words
    assert "a straight line in the logarithms is not refused (p = " in words
    assert "never generalize" not in words
    assert summary.x.name == "weight_decay"
    assert summary.at == " at width 64"


def test_a_curve_is_refused(table):
    bent = made(lambda decay, width: 2_000 * math.exp(0.5 * math.log(decay / 0.4) ** 2))
    summary = grok_step_law.summarize(bent, ["weight_decay", "width"])
    assert row(summary, "p of a straight line").value < 1e-6
    assert "a straight line in the logarithms is refused by the data (p < 0.001)" in summary.caption
    two = table[table.weight_decay.isin((0.8, 1.6)) & table.width.isin((32, 64))]
    assert "cannot be tested" in grok_step_law.summarize(two, ["weight_decay", "width"]).caption


def test_a_share_that_never_generalizes_is_found_and_its_marks_float_above_the_others(table):
    never = table.seed % 4 == 0
    mixed = table.assign(grok_step=table.grok_step.mask(never))
    summary, whole = (grok_step_law.summarize(t, ["weight_decay", "width"]) for t in (mixed, table))
    assert row(summary, "share that never generalizes").value == pytest.approx(0.25, abs=0.08)
    assert row(summary, "p of no such share").value < 1e-6
    assert "biased by trials that never generalize" in summary.caption
    assert row(whole, "p of no such share").value > 0.05
    soon = summary.trials[summary.trials.prediction < 1_500]
    marks, points = soon.residual[soon.censored], soon.residual[~soon.censored]
    assert marks.min() > points.max() + 0.3  # the gap
    assert row(summary, "scatter").value > 2 * row(whole, "scatter").value


def test_words_have_a_factor_each(table):
    slow = made(lambda decay, width: 1.5 * power(decay, width), optimizer="sgd")
    both = pd.concat([table, slow], ignore_index=True)
    summary = grok_step_law.summarize(both, ["weight_decay", "width", "optimizer"])
    term = row(summary, "factor", "optimizer")
    assert (term.word, term.low < 1.5 < term.high, term.high / term.low < 1.3) == ("sgd", True, True)
    assert summary.at == " at width 64, optimizer adamw"
    assert f"factor of optimizer sgd {term.value:.3g} [" in summary.caption
    grok_step_law.figure(summary).draw_without_rendering()


def test_words_and_values_at_which_nothing_generalizes_say_nothing(table):
    lost = table.assign(optimizer="sgd", grok_step=np.nan)
    whole = grok_step_law.summarize(table, ["weight_decay", "width"])
    both = pd.concat([table, lost], ignore_index=True)
    summary = grok_step_law.summarize(both, ["weight_decay", "width", "optimizer"])
    assert summary.table.equals(whole.table)
    assert "Left out: none of the 120 trials with optimizer sgd generalized" in summary.caption
    wide = table.assign(grok_step=table.grok_step.where(table.width == 64))
    alone = grok_step_law.summarize(wide, ["weight_decay", "width"])
    assert alone.table["axis"].dropna().tolist() == ["weight_decay"]
    assert "none of the 80 trials with width 32, 128 generalized" in alone.caption


def test_an_axis_without_logarithms_is_refused_or_left_out_with_its_reason(table):
    zero = table.assign(depth=np.where(table.seed % 2, 0, 2))
    reason = "depth has values of 0 or less, or none, and these have no logarithm"
    with pytest.raises(style.Absent, match=f"{reason}: leave out the axis, or these trials"):
        grok_step_law.summarize(zero, ["weight_decay", "depth"])
    sweep = Sweep("zero", ("weight_decay", "depth", "seed"), zero)
    summary = grok_step_law.of_sweep(sweep)
    assert f"Left out: {reason}" in summary.caption
    assert summary.table["axis"].dropna().tolist() == ["weight_decay"]
    with pytest.raises(style.Absent, match=reason):
        grok_step_law.of_sweep(sweep, x="depth")


def test_the_left_panel_takes_the_axis_that_is_asked_for(table):
    sweep = Sweep("made", ("weight_decay", "width", "seed"), table)
    summary = grok_step_law.of_sweep(sweep, x="width")
    assert (summary.x.name, summary.at) == ("width", " at weight decay 0.8")
    assert summary.line.x.iloc[[0, -1]].tolist() == pytest.approx([32, 128])
    left, right = grok_step_law.figure(summary).axes
    assert left.get_xlabel() == "width (units)"
    assert right.get_ylabel() == "residual (scatters)"
    strong = summary.trials[summary.trials.middle]
    assert set(strong.weight_decay) == {0.8}


def test_a_grok_step_lies_between_two_evaluations_and_a_diverged_trial_is_followed_to_its_budget():
    outcomes = [
        Outcome(phase="grokking", ending="budget", steps_run=3_000, grok_step=100),
        Outcome(phase="grokking", ending="budget", steps_run=3_000, grok_step=1_500),
        Outcome(phase="memorization", ending="budget", steps_run=2_000),
        Outcome(phase="diverged", ending="diverged", steps_run=40),
    ]
    trials = frame((BASE.replace(seed=i), one) for i, one in enumerate(outcomes))
    assert followed(trials).tolist() == [3_000, 3_000, 2_000, 3_000]
    low, high = grok_step_law._interval(trials)
    assert np.exp(low) == pytest.approx([0, 1_400, 2_000, 3_000])
    assert np.exp(high) == pytest.approx([100, 1_500, math.inf, math.inf])


def test_too_little_to_tell_is_reported(table):
    few = table.assign(grok_step=table.grok_step.where(table.seed == 0))
    few.loc[few[few.grok_step.notna()].index[6:], "grok_step"] = np.nan
    with pytest.raises(style.Absent, match="needs 10 trials or more that generalized, 6 did"):
        grok_step_law.summarize(few, ["weight_decay", "width"])
    with pytest.raises(style.Absent, match="needs an axis of numbers above 0 that varies"):
        grok_step_law.summarize(table, ["optimizer"])
    twins = table.assign(depth=(table.width // 32) ** 2)
    with pytest.raises(style.Absent, match="do not determine every coefficient"):
        grok_step_law.summarize(twins, ["width", "depth"])
    coarse = times(design(12, columns=1), [math.log(1_000), 0.0], 0.02, seed=0, every=2_000)
    with pytest.raises(Undetermined, match="not known finely enough"):
        Times(np.log(np.full(12, 500.0)), coarse.high, coarse.design).checked()
