"""Literal curves, known answers. Evaluations stand at steps 100, 200, ... unless said otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from phasemap.plan.outcome import DEFINITIONS, Outcome
from phasemap.plan.trial import Trial, make_trial
from phasemap.probes.stride import best_stride
from phasemap.training.events import CHANCE_LEVELS, TAKEN_OVER, coarse_delay, events, is_settled, slow_decay

NAN = math.nan
TRIAL = Trial(steps=10_000, evaluate_every=100, delay_limit=300, settle_evaluations=3)


def curve(values: list[float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return tuple(100 * (i + 1) for i in range(len(values))), tuple(values)


def found(diverged: bool = False, **curves: list[float]) -> dict[str, object]:
    return events(TRIAL, {name: curve(values) for name, values in curves.items()}, diverged)


def phase(train: list[float], test: list[float], diverged: bool = False) -> object:
    return found(train_accuracy=train, test_accuracy=test, diverged=diverged)["phase"]


def test_every_field_is_one_of_outcome() -> None:
    names = set(found(train_accuracy=[1.0], test_accuracy=[0.1]))
    assert names <= set(DEFINITIONS)
    Outcome(**found())


def test_no_curves_no_events() -> None:
    values = found()
    counts = {"oscillations": 0, "slingshots": 0, "phase": "confusion"}
    assert values == {name: counts.get(name) for name in values}


def test_steps_of_curves_that_rise() -> None:
    values = found(train_accuracy=[0.1, 0.9, 1.0, 1.0, 1.0, 1.0], test_accuracy=[0.0, 0.1, 0.9, 0.8, 0.9, 0.95])
    assert (values["memorization_step"], values["grok_step"], values["settled_step"]) == (200, 300, None)
    assert (values["final_train_accuracy"], values["final_test_accuracy"]) == (1.0, 0.95)
    assert values["best_test_accuracy"] == 0.95


@pytest.mark.parametrize(("right", "of", "threshold"), [(9, 10, 0.9), (19, 20, 0.95), (7, 10, 0.7), (170, 200, 0.85)])
def test_a_tie_with_a_threshold_reaches_it(right: int, of: int, threshold: float) -> None:
    accuracy = float(torch.tensor(float(right)) / of)  # as it is recorded
    trial = Trial(steps=4_000, grok_threshold=threshold, settle_evaluations=2)
    curves = {"train_accuracy": curve([1.0] * 4), "test_accuracy": curve([0.1, accuracy, accuracy, accuracy])}
    outcome = events(trial, curves, diverged=False)
    assert (outcome["grok_step"], outcome["settled_step"]) == (curve([0.0] * 2)[0][1],) * 2
    below = float(torch.tensor(float(right * 1_000 - 1)) / (of * 1_000))
    assert events(trial, curves | {"test_accuracy": curve([below] * 4)}, diverged=False)["grok_step"] is None


def test_settled_is_the_first_of_consecutive_ones() -> None:
    assert found(test_accuracy=[0.9, 0.9, 0.5, 0.9, 0.95, 1.0, 0.2])["settled_step"] == 400
    assert found(test_accuracy=[0.9, 0.9])["settled_step"] is None


def test_final_is_the_last_not_the_best() -> None:
    values = found(test_accuracy=[0.1, 0.99, 0.3])
    assert (values["final_test_accuracy"], values["best_test_accuracy"]) == (0.3, 0.99)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([0.5, 0.6], [0.1, 0.2], "confusion"),
        ([0.5, 0.9], [0.1, 0.8999], "memorization"),
        ([0.9, 1, 1, 1], [0, 0, 0.9, 1], "comprehension"),  # 200 steps behind
        ([0.9, 1, 1, 1], [0, 0, 0, 0.9], "grokking"),  # 300: exactly the delay limit
        ([0, 0, 0, 0.9], [0.9, 1, 1, 1], "comprehension"),  # test first
        ([0.5, 0.5], [0.9, 0.9], "comprehension"),  # test alone
        ([1, 1, 1, 1, 1], [0.9, 0.9, 0.9, 0.9, 0.3], "collapse"),
        ([1, 1, 1, 1, 1], [0.9, 0.9, 0.3, 0.9, 0.3], "comprehension"),  # had not settled
        ([1, 1, 1, 1, 1], [0.9, 0.9, 0.9, 0.3, 0.9], "comprehension"),  # came back
        ([1, NAN], [0.2, NAN], "memorization"),
    ],
)
def test_phases(train: list[float], test: list[float], expected: str) -> None:
    assert phase(train, test) == expected
    assert phase(train, test, diverged=True) == "diverged"


def test_a_diverged_trial_keeps_what_happened_before() -> None:
    values = found(
        train_accuracy=[0.5, 1.0, NAN], test_accuracy=[0.1, 0.92, NAN], train_loss=[2.0, 0.1, NAN], diverged=True
    )
    assert (values["memorization_step"], values["grok_step"], values["settled_step"]) == (200, 200, None)
    assert values["final_train_loss"] is None
    assert values["final_test_accuracy"] is None
    assert values["best_test_accuracy"] == 0.92
    assert values["oscillations"] == 0


def test_oscillations_fall_below_one_half_at_once() -> None:
    assert found(test_accuracy=[0.9, 0.49, 0.9, 0.5, 0.4, 1.0, 0.1])["oscillations"] == 2


def test_slingshots_are_spikes_after_memorization() -> None:
    train = [0.1, 0.2, 0.95, 1.0, 1.0, 1.0, 1.0]
    assert found(train_accuracy=train, train_loss=[0.1, 5.0, 0.1, 0.1, 0.1, 1.01, 1.0])["slingshots"] == 1
    assert found(train_accuracy=[0.1] * 7, train_loss=[0.1, 5.0, 0.1, 0.1, 0.1, 1.01, 1.0])["slingshots"] == 0
    assert found(train_accuracy=train, train_loss=[0.1, 0.1, 0.1, 0.1, 0.1, math.inf, NAN])["slingshots"] == 0


def test_slingshots_compare_with_the_last_five_only() -> None:
    losses = [100.0] * 3 + [0.01] * 5 + [0.2]
    assert found(train_accuracy=[1.0] * 9, train_loss=losses)["slingshots"] == 1


def strides(outer: list[float], inner: list[float], **others: list[float]) -> dict[str, object]:
    return found(False, winning_stride_score=outer, inner_winning_stride_score=inner, **others)


def takeover(outer: list[float], inner: list[float]) -> object:
    return strides(outer, inner)["takeover_step"]


def test_a_takeover_needs_the_inner_stride_for_three_probes() -> None:
    outer = [0.2, 0.9, 0.4, 1.0, 0.49, 0.3, 0.1, 0.8]
    assert takeover(outer, [0.0, 0.1, 0.6, 0.6, 0.5, 0.9, 0.9, 0.9]) == 500
    assert takeover(outer, [0.0, 0.1, 0.6, 0.6, 0.5, 0.4, 0.9, 0.9]) is None  # the inner score falls
    assert takeover(outer[:6], [0.9] * 6) is None  # one dip at the end
    assert takeover([0.2] * 6, [0.9] * 6) is None  # nothing to take over from
    assert found(winning_stride_score=outer)["takeover_step"] is None  # addition has no inner circle
    assert takeover([0.9, NAN, 0.3, 0.3, 0.3], [0.9, 0.9, 0.9, 0.6, 0.7]) == 300


STORIES = {  # outer score, inner score -> takeover_step, outer_stride_run, both_strides_score
    "a takeover": ([0.1, 0.9, 1.0, 0.8, 0.2, 0.1, 0.3, 0.2], [0.0, 0.1, 0.2, 0.4, 0.7, 0.8, 0.9, 0.7], 500, 300, 0.4),
    "a dip that is none": ([0.9, 0.9, 0.2, 0.3, 0.9, 0.9, 0.9], [0.1, 0.1, 0.8, 0.8, 0.2, 0.2, 0.2], None, 300, 0.3),
    "a dip before the takeover": ([0.9, 0.2, 0.9, 0.1, 0.1, 0.1], [0.1, 0.8, 0.1, 0.8, 0.8, 0.8], 400, 100, 0.2),
    "an outer stride lost to nothing": ([0.9, 0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.2, 0.2], None, 200, 0.1),
    "an oscillation": ([0.9, 0.1, 0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.1, 0.9, 0.1, 0.9], None, 100, 0.1),
    "both at once": ([0.2, 0.9, 0.7, 0.9], [0.9, 0.6, 0.8, 0.4], None, 300, 0.7),
    "an end inside a dip": ([0.2, 0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.1, 0.9, 0.9], None, 200, 0.1),
    "never an outer stride": ([0.2, 0.3, 0.4, 0.1], [0.9, 0.9, 0.9, 0.9], None, 0, 0.4),
}


@pytest.mark.parametrize("story", STORIES)
def test_the_story_of_two_strides(story: str) -> None:
    outer, inner, *expected = STORIES[story]
    values = strides(outer, inner)
    assert [values[name] for name in ("takeover_step", "outer_stride_run", "both_strides_score")] == expected


def test_on_a_small_circle_the_outer_stride_counts_above_chance() -> None:
    """Multiplication mod 31 has 6 cosets, where points without an order score 0.5 in 72 % of draws; mod 97 has 12."""
    outer, inner = [0.7, 0.7, 0.6, 0.3, 0.2, 0.1], [0.1, 0.1, 0.8, 0.8, 0.8, 0.8]
    small = make_trial({"task": "modular_multiplication", "modulus": 31, "evaluate_every": 100, "steps": 600})
    curves = {"winning_stride_score": curve(outer), "inner_winning_stride_score": curve(inner)}
    assert (strides(outer, inner)["takeover_step"], strides(outer, inner)["outer_stride_run"]) == (400, 300)
    values = events(small, curves, False)
    assert (values["takeover_step"], values["outer_stride_run"]) == (None, 0)
    clear = {**curves, "winning_stride_score": curve([0.75, *outer[1:]])}
    assert events(small, clear, False)["takeover_step"] == 300


@pytest.mark.parametrize("places", range(4, 12))
def test_points_without_an_order_reach_the_outer_level_in_at_most_five_of_a_hundred(places: int) -> None:
    points = torch.from_numpy(np.random.default_rng(places).normal(size=(4_000, 1, places, 16)))
    scores = best_stride(points)[1].numpy()
    level = CHANCE_LEVELS.get(places, TAKEN_OVER)
    assert (scores >= level - 1e-9).mean() < 0.06
    if places in CHANCE_LEVELS:  # half a step of the score lower is too easy: the level is no higher than it must be
        assert (scores >= min(level - 1.01 / places, 0.99)).mean() > 0.05


def test_a_hop_from_stride_to_stride_is_neither_a_takeover_nor_the_end_of_a_run() -> None:
    values = strides([0.9, 1.0, 0.6, 0.9, 0.9], [0.2] * 5, winning_stride=[2.0, 2.0, 5.0, 5.0, 1.0])
    assert (values["takeover_step"], values["outer_stride_run"]) == (None, 500)


def test_the_accuracy_at_a_takeover_is_the_lowest_while_it_happens() -> None:
    """Evaluations at every probe and midway between two."""
    outer, inner = curve([0.9, 0.9, 0.2, 0.2, 0.2, 0.9]), curve([0.1, 0.1, 0.8, 0.8, 0.8, 0.1])
    steps = tuple(range(50, 650, 50))
    accuracy = [0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 0.9, 0.95, 0.85, 0.99, 0.2, 0.1]  # 300 to 500: 1.0 to 0.99
    curves = {"winning_stride_score": outer, "inner_winning_stride_score": inner}
    values = events(TRIAL, curves | {"test_accuracy": (steps, tuple(accuracy))}, False)
    assert (values["takeover_step"], values["takeover_accuracy"]) == (300, 0.85)
    broken = [*accuracy[:8], NAN, *accuracy[9:]]
    assert events(TRIAL, curves | {"test_accuracy": (steps, tuple(broken))}, False)["takeover_accuracy"] == 0.9
    assert events(TRIAL, curves, False)["takeover_accuracy"] is None
    assert strides([0.9] * 4, [0.1] * 4, test_accuracy=[1.0] * 4)["takeover_accuracy"] is None


def test_a_run_of_the_outer_stride_is_counted_in_steps() -> None:
    """Of probes at unequal distances; one that reads no stride, as of hidden vectors that are all one, ends it."""
    steps, scores = (10, 20, 40, 80, 160, 200), (0.4, 0.5, 0.9, 0.3, 0.7, 0.2)
    outer = {"winning_stride_score": (steps, scores)}
    assert events(TRIAL, outer, False)["outer_stride_run"] == 80  # one probe, 80 to 160; the two before it 30
    blind = {"winning_stride_score": ((10, 20, 40, 160), (0.9, 0.9, 0.9, 0.9)), "weight_norm": (steps, (1.0,) * 6)}
    assert events(TRIAL, blind, False)["outer_stride_run"] == 80  # 160 alone; together with 10 to 40 it were 120
    assert found(test_accuracy=[1.0])["outer_stride_run"] is None


def test_both_strides_are_read_at_one_probe() -> None:
    both = found(winning_stride_score=[0.9, 0.6, NAN, 0.1], inner_winning_stride_score=[0.1, 0.4, 1.0, 1.0])
    assert both["both_strides_score"] == 0.4
    assert found(winning_stride_score=[0.9])["both_strides_score"] is None


def test_the_jump_starts_at_the_last_low_evaluation_before_it() -> None:
    assert found(test_accuracy=[0.05, 0.2, 0.1, 0.4, 0.95, 0.05])["jump_steps"] == 200
    assert found(test_accuracy=[0.05, 1.0])["jump_steps"] == 100
    assert found(test_accuracy=[0.2, 1.0])["jump_steps"] is None
    assert found(test_accuracy=[0.05, 0.5])["jump_steps"] is None
    assert found(test_accuracy=[0.1, 0.3, 0.5, 0.7, 0.9])["jump_steps"] == 400  # a slope
    assert found(test_accuracy=[0.05, 0.8, 0.05, 0.9])["jump_steps"] == 100  # a dip on the way
    assert found(test_accuracy=[0.05, 0.95, 0.05, 0.4, 0.95])["jump_steps"] == 100  # and one after it


def test_high_shares_are_taken_in_halves_after_the_grok_step() -> None:
    values = found(test_accuracy=[1.0 - 0.9, 0.9, 0.99, 1.0, 0.98, 0.2])  # grok at 200, then 300 to 600
    assert (values["early_high_share"], values["late_high_share"]) == (1.0, 0.0)
    assert found(test_accuracy=[0.1, 0.9])["late_high_share"] is None
    assert found(test_accuracy=[0.1, 0.2])["early_high_share"] is None


@pytest.mark.parametrize(
    ("after", "early", "late"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1.0, 1.0),
        ([1.0, 0.3, 1.0, 0.3, 1.0, 0.3], 2 / 3, 1 / 3),  # an oscillation; the third of six is the middle, and early
        ([1.0, 1.0, 1.0, 0.99, 0.2, 0.98], 1.0, 1 / 3),  # an end inside a dip
        ([0.9, 0.95, 1.0, 1.0], 0.0, 1.0),
        ([1.0, NAN, NAN, 1.0], 0.5, 0.5),  # an accuracy that is no number is not high
        ([0.99], None, 1.0),  # one evaluation is the end
    ],
)
def test_high_shares_by_hand(after: list[float], early: float | None, late: float) -> None:
    values = found(test_accuracy=[0.1, 0.95, *after])
    assert (values["early_high_share"], values["late_high_share"]) == (early, late)


def test_high_shares_halve_the_steps_not_the_evaluations() -> None:
    curve = (10, 20, 30, 40, 50, 100, 210), (0.95, 1.0, 1.0, 1.0, 1.0, 0.2, 0.3)  # the middle of 10 and 210 is 110
    values = events(TRIAL, {"test_accuracy": curve}, False)
    assert (values["early_high_share"], values["late_high_share"]) == (0.8, 0.0)


def test_the_smallest_dimension_is_that_before_the_network_crashes() -> None:
    values = found(test_accuracy=[0.1, 0.2, 0.95, 0.1], intrinsic_dimension=[60.0, 9.0, 12.0, 1.0])
    assert (values["minimum_intrinsic_dimension"], values["minimum_intrinsic_dimension_step"]) == (9.0, 200)
    assert values["grok_intrinsic_dimension"] == 12.0
    assert found(intrinsic_dimension=[60.0, 9.0])["grok_intrinsic_dimension"] is None


def test_last_points_and_the_smallest_dimension() -> None:
    values = found(intrinsic_dimension=[78.0, 8.0, 12.0, 8.0, NAN], weight_norm=[60.0, 40.0])
    assert (values["minimum_intrinsic_dimension"], values["minimum_intrinsic_dimension_step"]) == (8.0, 200)
    assert values["intrinsic_dimension"] is None
    assert values["weight_norm"] == 40.0


def test_settled_looks_back_only() -> None:
    assert not is_settled([0.9, 0.9], 0.9, 3)
    assert is_settled([0.1, 0.9, 0.9, 0.9], 0.9, 3)
    assert not is_settled([0.9, 0.9, 0.9, 0.1], 0.9, 3)
    assert not is_settled([0.9, NAN, 0.9], 0.9, 3)


def test_stopping_when_settled_keeps_the_settled_step() -> None:
    test = [0.1, 0.9, 0.2, 0.95, 0.9, 1.0, 0.1]
    stop = next(i for i in range(1, 8) if is_settled(test[:i], 0.9, 3))
    assert found(test_accuracy=test[:stop])["settled_step"] == found(test_accuracy=test)["settled_step"] == 400


@pytest.mark.parametrize(("every", "limit", "told"), [(1000, 1000, "to 200"), (250, 1000, "to 200"), (3, 2, "to 1")])
def test_evaluations_too_far_apart_for_the_delay_are_warned_of(every: int, limit: int, told: str) -> None:
    warning = coarse_delay(TRIAL.replace(evaluate_every=every, delay_limit=limit, steps=5000))
    assert warning is not None
    assert warning.endswith(told)


@pytest.mark.parametrize(("every", "limit"), [(200, 1000), (1000, 0)])
def test_five_evaluations_in_a_delay_are_enough(every: int, limit: int) -> None:
    assert coarse_delay(TRIAL.replace(evaluate_every=every, delay_limit=limit, steps=5000)) is None


def test_a_decay_that_leaves_the_normal_numbers_is_warned_of() -> None:
    long = TRIAL.replace(learning_rate=1e-2, weight_decay=1.0, steps=60_000)
    warning = slow_decay(long)
    assert warning is not None
    assert "subnormals=flushed" in warning
    assert slow_decay(long.replace(late_weight_decay=0.1, decay_switch=20_000)) is not None  # e^-240
    for quiet in (
        {"steps": 17_000},  # e^-170: less than half of it lies beyond e^-87
        {"late_weight_decay": 0.0, "decay_switch": 5_000},
        {"subnormals": "flushed"},
        {"optimizer": "adam"},  # L2 in the gradient: such weights swing by about the learning rate
    ):
        assert slow_decay(long.replace(**quiet)) is None
