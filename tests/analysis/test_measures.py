"""What claims are measured by, against laws that made-up trials obey."""

import math
from itertools import product

import numpy as np
import pytest
from synthetic import frame

from analysis.measures import (
    below,
    change,
    critical_exponent,
    explained,
    exponent,
    happened,
    is_phase,
    middle,
    share,
    share_within,
)
from phasemap.plan.outcome import Outcome
from phasemap.plan.trial import Trial

SMALL = {"model": "mlp", "steps": 20_000, "evaluate_every": 1}


def ended(trial, step):
    """The outcome of a trial that would generalize at a step, within its budget or not."""
    if step > trial.steps:
        return trial, Outcome(phase="memorization", steps_run=trial.steps)
    return trial, Outcome(phase="grokking", grok_step=math.ceil(step), steps_run=math.ceil(step))


def test_exponents_are_those_of_the_law_that_made_the_steps():
    draw = np.random.default_rng(0)
    pairs = []
    for decay in (0.3, 0.6, 1.2):
        for width in (32, 64, 128):
            for seed in range(4):
                step = 1.25e4 * decay**-0.64 * width**-0.27 * math.exp(0.05 * draw.normal())
                pairs.append(
                    ended(Trial(weight_decay=decay, width=width, seed=seed, **{**SMALL, "steps": 10_000}), step)
                )
    table = frame(pairs)
    assert 0 < table.grok_step.isna().sum() < 9  # censored
    for axis, other, truth in (("weight_decay", "width", -0.64), ("width", "weight_decay", -0.27)):
        estimate = exponent(axis, other)(table)
        assert estimate.low < truth < estimate.high, axis
        assert estimate.high - estimate.low < 0.2, axis
        assert estimate.n == 36, axis


def test_too_few_trials_that_generalized_have_no_exponent():
    pairs = [ended(Trial(weight_decay=w, seed=s, **SMALL), 1e3 / w) for w in (0.5, 1.0) for s in range(2)]
    assert exponent("weight_decay")(frame(pairs)).n == 0


def rising(seeds=20, decays=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6)):
    """Trials whose chance to generalize is logistic in log weight decay, one half at 0.3."""
    draw = np.random.default_rng(1)
    pairs = []
    for decay in decays:
        for seed in range(seeds):
            won = draw.random() < 1 / (1 + (decay / 0.3) ** -3.0)
            pairs.append(ended(Trial(weight_decay=decay, seed=seed, **SMALL), 500 if won else math.inf))
    return frame(pairs)


def test_a_trial_in_which_nothing_was_looked_at_is_in_no_share():
    table = rising(seeds=3, decays=(0.1, 0.4)).assign(winning_stride_p_value=[0.001, 0.5, *[math.nan] * 4])
    assert share(below("winning_stride_p_value", 0.01))(table).n == 2
    assert share(is_phase("grokking"))(table.assign(phase=["grokking", None, *["confusion"] * 4])).n == 5
    table = table.assign(both_strides_score=[0.5, 0.5, 0.5, 0.5, math.nan, 0.5], takeover_step=[9.0, *[math.nan] * 5])
    taken = share(happened("takeover_step", "both_strides_score"))
    assert (taken(table).value, taken(table).n) == (1 / 5, 5)
    assert taken(table.assign(redefined=[None, "learned_bits,takeover_step", *[None] * 4])).n == 4


def test_a_share_within_some_steps_is_of_the_trials_whose_budget_reaches_so_far():
    """Of a shorter budget only those with the event would be known."""
    short = [ended(Trial(seed=s, **{**SMALL, "steps": 1_000}), step) for s, step in enumerate((500, math.inf))]
    whole = [ended(Trial(seed=s, **{**SMALL, "steps": 4_000}), step) for s, step in enumerate((500, 3_000, 9_000))]
    estimate = share_within("grok_step", 2_000)(frame(short + whole))
    assert estimate.value == pytest.approx(1 / 3)
    assert estimate.n == 3


def test_a_median_is_of_the_trials_that_were_to_run_long_enough():
    table = rising(seeds=6, decays=(0.1,)).assign(best_test_accuracy=[0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    table["steps"] = [300] * 3 + [1_000] * 3
    assert middle("best_test_accuracy", 1_000)(table).value == 0.8
    assert middle("best_test_accuracy", 2_000)(table).n == 0


def test_a_change_is_that_of_the_same_seeds_in_two_arms():
    arms = [(decay, seed) for decay in (-1.0, 0.1) for seed in range(7)]
    pairs = [ended(Trial(late_weight_decay=decay, seed=seed, **SMALL), 500) for decay, seed in arms]
    rise = change("late_high_share", {"late_weight_decay": 0.1}, {"late_weight_decay": -1.0})
    table = frame(pairs[:-1]).assign(late_high_share=[0.9 - 0.1 * s for _, s in arms[:7]] + [0.95] * 6)
    estimate = rise(table)
    assert estimate.value == pytest.approx(0.3)
    assert estimate.n == 6


def waiting(rates, seeds=8, steps=8_000):
    """Trials that grok once exp(-rate x decay x step) has fallen far enough, a factor of 1.5 apart."""
    draw = np.random.default_rng(2)
    trials = [
        Trial(seed=s, weight_decay=w, learning_rate=r, **{**SMALL, "steps": steps})
        for r, w, s in product(rates, np.geomspace(0.02, 4, 14), range(seeds))
    ]
    return frame(ended(t, 8 * np.exp(0.4 * draw.normal()) / (t.learning_rate * t.weight_decay)) for t in trials)


def test_a_critical_value_that_is_one_over_the_budget_has_the_exponent_minus_one():
    budgets = (500, 1_000, 2_000, 4_000, 8_000)
    estimate = critical_exponent("weight_decay", "steps", budgets)(waiting([0.01]))
    assert estimate.low < -1 < estimate.high
    assert -1.15 < estimate.value < -0.85
    assert estimate.n == 14 * 8  # each trial once, though it is read at five budgets


def test_a_critical_value_that_is_one_over_the_learning_rate_has_the_exponent_minus_one():
    estimate = critical_exponent("weight_decay", "learning_rate")(waiting([0.005, 0.01, 0.02], steps=2_000))
    assert estimate.low < -1 < estimate.high < 0


def test_there_is_no_critical_exponent_where_every_trial_generalizes():
    table = waiting([0.005, 0.01]).assign(grok_step=100.0)
    assert critical_exponent("weight_decay", "learning_rate")(table).n == 0


def clamped(of):
    """Twelve cells whose grok step is the exponential of ``of(norm, temperature)``, with a logit scale of norm / 2."""
    draw = np.random.default_rng(2)
    pairs = []
    for norm in (54.0, 57.0, 60.0, 63.0):
        for temperature in (1.0, 1.3, 1.7):
            for seed in range(5):
                trial = Trial(norm_clamp=norm, temperature=temperature, seed=seed, **SMALL)
                _, outcome = ended(trial, 50 * math.exp(of(norm, temperature) + 0.02 * draw.normal()))
                pairs.append((trial, outcome.replace(logit_scale=norm / 2)))
    return frame(pairs)


def test_steps_made_by_the_logit_scale_are_explained_by_it_and_those_made_by_the_norm_are_not():
    measure = explained("logit_scale", "temperature", ("norm_clamp", "temperature"))
    whole = measure(clamped(lambda norm, temperature: norm / temperature / 15))
    assert 0.99 < whole.low <= whole.value < 1
    assert whole.n == 60
    other = measure(clamped(lambda norm, temperature: (norm - 30) / 8))
    assert other.high < 0.5
