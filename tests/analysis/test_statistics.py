"""Known answers: published intervals, lifelines and its example data, scipy's test of a quantile."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import grok_time, kaplan_meier, median, rate_difference, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (2, 3, 0.208, 0.939),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):  # Newcombe 1998, table I
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-4)


def test_no_trials_say_nothing():
    found = wilson(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0, 1)


@pytest.mark.parametrize(
    ("arms", "low", "high"),
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 10), 0.6075, 1.0)],
)
def test_differences_have_the_published_intervals(arms, low, high):  # Newcombe 1998b, table II, method 10
    found = rate_difference(*arms)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_kaplan_meier_agrees_with_lifelines_on_its_example_data():
    from lifelines import KaplanMeierFitter
    from lifelines.datasets import load_waltons

    data = load_waltons()
    curve, middle = kaplan_meier(data["T"], data["E"])
    fit = KaplanMeierFitter().fit(data["T"], data["E"])
    mine = curve.set_index("step")
    np.testing.assert_allclose(1 - mine.grokked, fit.survival_function_.iloc[:, 0])
    inner = (mine.grokked > 0) & (mine.grokked < 1)
    band = fit.confidence_interval_[inner.to_numpy()]
    np.testing.assert_allclose(1 - mine.high[inner], band.iloc[:, 0])
    np.testing.assert_allclose(1 - mine.low[inner], band.iloc[:, 1])
    assert middle.value == fit.median_survival_time_ == 56


@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (10, 2, 9), (15, 4, 12), (20, 6, 15), (25, 8, 18)])
def test_medians_have_the_published_ranks(n, low, high):  # David and Nagaraja 2003, section 7.1: 95 % at least
    found = median(range(n, 0, -1))
    assert (found.value, found.low, found.high, found.n) == ((n + 1) / 2, low, high, n)


def test_five_values_leave_the_median_open():
    assert (median(range(5)).low, median(range(5)).high) == (-math.inf, math.inf)


def _trials(groks, ran, phases=None):
    phases = phases or ["grokking"] * len(groks)
    return pd.DataFrame({"grok_step": groks, "steps_run": ran, "steps": 1000, "phase": phases}, dtype=object).assign(
        grok_step=lambda t: t.grok_step.astype(float), steps_run=lambda t: t.steps_run.astype(float)
    )


def test_trials_that_never_grok_count():
    time = grok_time(_trials([100, 200, None, None, None], [1000] * 5))
    assert time.median.value == math.inf
    assert (time.grokked, time.median.n, time.budget) == (2, 5, 1000)
    assert grok_time(_trials([100, 200, 300], [1000] * 3)).median.value == 200


def test_a_diverged_trial_stays_at_risk():
    trials = _trials([500, None], [1000, 10], ["grokking", "diverged"])
    assert grok_time(trials).curve.grokked.iloc[-1] == pytest.approx(0.5)


def test_nothing_and_nobody():
    assert grok_time(_trials([], [])).median.n == 0
    none = grok_time(_trials([None] * 5, [1000] * 5))
    assert none.curve.grokked.tolist() == [0, 0]
    assert none.curve.high.iloc[0] == pytest.approx(wilson(0, 5).high)


@pytest.mark.parametrize("groks", [[100], [100, 200, 300], [100] * 5, [None] * 4])
def test_times_of_fewer_than_six_trials_leave_the_median_open(groks):
    found = grok_time(_trials(groks, [1000] * len(groks))).median
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_the_interval_of_known_times_is_that_of_any_median():
    from scipy.stats import quantile_test

    for n in range(6, 30):
        steps = np.random.default_rng(n).permutation(n) * 100.0
        ends = quantile_test(steps, q=0, p=0.5).confidence_interval()
        time = kaplan_meier(steps, np.ones(n, bool))[1]
        assert (time.low, time.high) == (ends.low, ends.high) == (median(steps).low, median(steps).high)


def test_a_censored_trial_counts_from_its_last_step_on():
    """Of six, the smallest time and the largest: censored at 50, a trial may have waited for 50 or without end."""
    _, early = kaplan_meier([50, 100, 200, 300, 400, 500], [False, True, True, True, True, True])
    assert (early.low, early.high) == (50, math.inf)
    _, never = kaplan_meier([1000] * 8, [False] * 8)
    assert (never.value, never.low, never.high) == (math.inf, 1000, math.inf)


def test_nothing_seen_yet_is_not_known_to_be_rare():
    curve, _ = kaplan_meier([500, 900], [True, True])
    assert curve.high.iloc[0] == pytest.approx(wilson(0, 2).high)
