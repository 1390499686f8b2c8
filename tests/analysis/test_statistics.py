"""Known answers: published intervals, lifelines and its example data, a boundary known by design."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import boundary, grok_time, kaplan_meier, median, rate_difference, wilson


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
    assert (found.low, found.high) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


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
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_kaplan_meier_agrees_with_lifelines_on_its_example_data():
    from lifelines import KaplanMeierFitter
    from lifelines.datasets import load_waltons
    from lifelines.utils import median_survival_times

    data = load_waltons()
    curve, median = kaplan_meier(data["T"], data["E"])
    fit = KaplanMeierFitter().fit(data["T"], data["E"])
    mine = curve.set_index("step")
    np.testing.assert_allclose(1 - mine.grokked, fit.survival_function_.iloc[:, 0])
    inner = (mine.grokked > 0) & (mine.grokked < 1)
    band = fit.confidence_interval_[inner.to_numpy()]
    np.testing.assert_allclose(1 - mine.high[inner], band.iloc[:, 0])
    np.testing.assert_allclose(1 - mine.low[inner], band.iloc[:, 1])
    assert median.value == fit.median_survival_time_ == 56
    assert [median.low, median.high] == median_survival_times(fit.confidence_interval_).iloc[0].tolist()


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


def test_the_boundary_lies_where_it_was_put_in_95_of_100_sweeps():
    decay = np.repeat(np.geomspace(0.1, 3, 8), 5)
    chance = 1 / (1 + np.exp(-6 * (np.log10(decay) - np.log10(0.5))))
    found = []
    for seed in range(60):
        won = np.random.default_rng(seed).random(len(decay)) < chance
        found.append(boundary(decay, won, "weight_decay", logarithmic=True, resamples=200))
    covered = np.mean([b.position.low <= 0.5 <= b.position.high for b in found])
    assert 0.88 <= covered <= 0.99
    assert all(b.rising for b in found)
    assert np.median([b.position.high / b.position.low for b in found]) < 3


def test_a_clean_step_is_doubted_by_the_gap_it_leaves():
    found = boundary([1, 1, 1, 2, 2, 2, 3, 3, 3], [True] * 3 + [False] * 6)
    assert not found.rising
    assert found.position.low < 1.5 < found.position.high
    assert 0.3 < found.position.high - found.position.low < 3


def test_no_boundary_where_all_agree():
    found = boundary([1, 2, 3], [True] * 3)
    assert found.position.value == math.inf
    assert (found.position.low, found.position.n) == (-math.inf, 3)
