"""Which trials train together, in what order, and what happens to a stack that is split."""

from __future__ import annotations

from collections import Counter

import pytest

from phasemap.plan.stack import COMPILE_PAYS, Plan, Stack, best_size, cost, memory, seconds
from phasemap.plan.trial import Trial

TRIALS = [
    Trial(width=width, weight_decay=decay, seed=seed, steps=2_000)
    for width in (16, 64, 128)
    for decay in (0.1, 1.0)
    for seed in range(7)
]


@pytest.mark.parametrize("size", [0, 1, 3, 14, 1_000])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_trial_stands_in_exactly_one_stack_of_its_own_shape(size, device):
    stacks = Plan(size, device=device).stacks(TRIALS)
    assert Counter(trial for stack in stacks for trial in stack.trials) == Counter(TRIALS)
    assert all(len({trial.shape for trial in stack.trials}) == 1 for stack in stacks)
    assert all(stack.trials for stack in stacks)


@pytest.mark.parametrize(
    ("size", "sizes"), [(1, [1] * 14), (3, [2, 3, 3, 3, 3]), (5, [4, 5, 5]), (14, [14]), (99, [14])]
)
def test_a_given_size_is_never_exceeded_and_spread_evenly(size, sizes):
    stacks = Plan(size).stacks(TRIALS[:14])
    assert sorted(len(stack.trials) for stack in stacks) == sizes


def test_a_gpu_takes_larger_stacks_than_a_core():
    many = [Trial(seed=seed) for seed in range(64)]
    largest = {one: max(len(stack.trials) for stack in Plan(device=one).stacks(many)) for one in ("cpu", "cuda")}
    assert largest["cuda"] > largest["cpu"]


def test_a_full_batch_is_as_large_as_its_training_set():
    few, many = (Trial(model="mlp", modulus=97, batch_size=0, data_fraction=share) for share in (0.02, 0.9))
    assert best_size(few, gpu=False) > best_size(many, gpu=False)
    same = few.replace(batch_size=188)  # 2 % of 97 x 97
    assert cost(few) == cost(same)


def test_no_stack_is_planned_that_would_not_fit():
    many = [Trial(model="mlp", width=16, seed=seed) for seed in range(64)]
    assert max(len(stack.trials) for stack in Plan().stacks(many)) > 4
    assert max(len(stack.trials) for stack in Plan(memory=4.5 * memory(many[0])).stacks(many)) == 4
    assert max(len(stack.trials) for stack in Plan(memory=1).stacks(many)) == 1  # it must be tried


def test_the_most_expensive_stack_comes_first():
    stacks = Plan(size=4).stacks(TRIALS)
    prices = [seconds(stack.trials) for stack in stacks]
    assert prices == sorted(prices, reverse=True)
    assert stacks[0].trials[0].width == 128


def test_no_trials_make_no_stacks():
    assert Plan().stacks([]) == []


def test_what_is_compiled_can_be_given():
    for said, expected in (("always", True), ("never", False)):
        assert {stack.compiled for stack in Plan(compiled=said).stacks(TRIALS)} == {expected}


def test_long_trials_are_compiled_and_short_ones_are_not_whatever_the_sweep():
    short, long = Trial(width=16, steps=COMPILE_PAYS - 1), Trial(width=16, steps=COMPILE_PAYS)
    many = [short.replace(seed=seed) for seed in range(100)]
    assert {stack.compiled for stack in Plan().stacks(many)} == {False}
    assert {stack.compiled for stack in Plan().stacks([long])} == {True}
    assert {stack.compiled for stack in Plan(compiled="never").stacks([long])} == {False}
    assert {stack.compiled for stack in Plan(device="cuda").stacks([short])} == {False}


def test_a_stack_counts_its_trial_steps():
    assert Stack(tuple(TRIALS[:3])).trial_steps == 6_000


@pytest.mark.parametrize("count", [2, 3, 7])
def test_halves_hold_the_same_trials_and_remember_the_try(count):
    stack = Stack(tuple(TRIALS[:count]), compiled=True, tries=1)
    first, second = stack.halves()
    assert first.trials + second.trials == stack.trials
    assert abs(len(first.trials) - len(second.trials)) <= 1
    assert first.tries == second.tries == 2
    assert first.compiled
    assert second.compiled
    assert len({stack.id, first.id, second.id}) == 3


def test_a_lone_trial_has_itself_as_its_half():
    assert Stack((TRIALS[0],), tries=1).halves() == (Stack((TRIALS[0],), tries=2),)


@pytest.mark.parametrize("axis", ["width", "depth", "batch_size"])
@pytest.mark.parametrize("model", ["mlp", "transformer"])
def test_a_larger_trial_costs_more(axis, model):
    small = Trial(model=model)
    assert cost(small.replace(**{axis: 2 * getattr(small, axis)})) > cost(small)
