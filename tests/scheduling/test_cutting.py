"""What a free slot takes, on clusters whose every rate is given; and what is learned from reports."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from makespan import CPU, GPU, MLP, OLD_GPU, Case, Cluster, Machine, cut_when_free, guess, largest, lower_bound, many

from phasemap.plan.stack import Plan, Stack
from phasemap.plan.trial import Shape, Trial
from phasemap.scheduling.cutting import Curve, Cutting, Rates, Slot, estimate, planned
from phasemap.scheduling.queue import Work

CORES = (Machine(CPU),) * 4
CASES = [
    Case("1 GPU + 4 cores", (Machine(GPU), *CORES), many(800)),
    Case("4 GPUs", (Machine(GPU),) * 4, many(2_000)),
    Case("2 unequal GPUs", (Machine(GPU), Machine(OLD_GPU)), many(1_500)),
    Case("cores", CORES, many(200)),
    Case("a GPU joins", (*CORES, Machine(GPU, joins=60.0)), many(800)),
    Case("a GPU dies", (*(Machine(GPU),) * 3, Machine(GPU, dies=20.0)), many(8_000)),
    Case("few long trials", (Machine(GPU),) * 4, many(6, MLP.replace(steps=50_000))),
    Case(
        "shapes", (Machine(GPU), *CORES), many(60) + many(60, MLP.replace(width=96)) + many(60, MLP.replace(width=16))
    ),
]


def cutting(*trials: Trial) -> Cutting:
    found = Cutting(Rates(guess, largest), lambda trial: False)
    found.put(trials)
    return found


def cut(work: Cutting, slots: list[Slot], shape: Shape | None = None) -> Stack:
    """What the first slot takes, which must be something."""
    stack = work.cut(slots, 0, shape)
    assert stack is not None
    return stack


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_slots_end_together_close_to_what_is_possible_at_all(case):
    bound = lower_bound(case)
    assert bound * 0.999 <= cut_when_free(case) <= 1.15 * bound


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_trial_is_cut_into_exactly_one_stack_of_its_shape(case):
    work, taken = cutting(*case.trials), []
    machines = tuple(Machine(machine.device) for machine in case.machines)  # none dies

    def take(slots, asking):
        stack = work.cut(slots, asking)
        taken.extend([stack] if stack else [])
        return stack

    Cluster(machines).run(take, lambda stack: pytest.fail("nothing dies here"))
    assert Counter(trial for stack in taken for trial in stack.trials) == Counter(case.trials)
    assert all(len({trial.shape for trial in stack.trials}) == 1 for stack in taken)
    assert len({stack.id for stack in taken}) == len(taken)


def test_a_slot_too_slow_to_help_takes_nothing():
    few = many(20, MLP.replace(width=512))
    assert cutting(*few).cut([Slot(GPU), Slot(CPU)], 1) is None
    assert cutting(*few).cut([Slot(GPU, free=1e6), Slot(CPU)], 1) is not None


def test_a_gpu_alone_takes_all_at_once_and_two_take_half_each():
    assert len(cut(cutting(*many(200)), [Slot(GPU)]).trials) == 200
    assert len(cut(cutting(*many(200)), [Slot(GPU), Slot(GPU)]).trials) == pytest.approx(100, abs=2)


def test_a_worker_goes_on_with_its_shape_and_what_failed_comes_first():
    narrow, wide = MLP.replace(width=16), MLP.replace(width=96)
    work = cutting(*many(40, narrow), *many(40, wide))
    assert cut(work, [Slot(CPU)], narrow.shape).shape == narrow.shape
    assert cut(work, [Slot(CPU)], wide.shape).shape == wide.shape
    work.put(many(3, narrow.replace(weight_decay=0.5)), tries=1)
    again = cut(work, [Slot(CPU)], wide.shape)
    assert (again.tries, len(again.trials)) == (1, 3)


def test_capacity_and_duration_of_a_slot():
    curve = Curve((2.0, 3.0, 4.0))
    assert [curve.capacity(window) for window in (-1, 1.9, 2, 3.5, 4, 5.9, 6, 8)] == [0, 0, 1, 2, 3, 3, 4, 6]
    assert [curve.duration(trials) for trials in (0, 1, 3, 4, 5)] == [0, 2, 4, 6, 7]


def test_rates_are_learned_from_reports():
    """The device is three times slower than guessed: the size measured is met, others follow its error."""
    rates, narrow, wide = Rates(guess, largest), MLP, MLP.replace(width=64)
    for _ in range(4):
        rates.learn(narrow, GPU, 10, trial_steps=1_000, seconds=3 * 100 * guess(narrow, 10, GPU))
    assert rates.seconds(narrow, GPU, 10) == pytest.approx(3 * guess(narrow, 10, GPU))
    assert rates.seconds(narrow, GPU, 40) == pytest.approx(3 * guess(narrow, 40, GPU))
    assert rates.seconds(wide, GPU, 5) == pytest.approx(3 * guess(wide, 5, GPU))
    assert rates.seconds(narrow, CPU, 10) == guess(narrow, 10, CPU)


def test_a_sweep_takes_as_long_as_its_slots_make_it():
    trials = many(64)
    one, two = (estimate(trials, ["cpu"] * slots, Plan()) for slots in (1, 2))
    assert 0 < two < one <= 2.1 * two
    assert estimate(trials, ["cpu", "cuda"], Plan()) <= two
    assert estimate([], ["cpu"], Plan()) == 0


def test_a_size_given_by_hand_is_never_exceeded():
    work = planned(Plan(size=3))
    work.put(many(10))
    sizes = []
    while (stack := work.cut([Slot("cpu")], 0)) is not None:
        sizes.append(len(stack.trials))
    assert sum(sizes) == 10
    assert max(sizes) == 3


def test_a_works_slots_are_cut_for_as_they_are_asked():
    """A core beside a GPU that will be through sooner waits; when the GPU is gone, the core does all."""
    work = Work(record=print, fail=print, say=print, slots=2, gpus={"cuda": 1}, cutting=cutting(*many(20)))
    assert work.cutting is not None
    assert work.next(device="cpu") is None or work.cutting.waiting
    gpu = work.next(device="cuda")
    assert gpu is not None
    assert not work.finished()
    work.offer(1, {})
    work.died(gpu.id, "its worker process died")
    again = work.next(device="cpu")
    assert again is not None
    assert again.tries == 1
    assert set(again.trials) <= set(gpu.trials)
    assert {trial.id for trial in work.waiting()} | {trial.id for trial in again.trials} >= {t.id for t in gpu.trials}


def test_a_core_is_spared_the_halves_of_what_was_too_large_for_a_gpu():
    work = Work(record=print, fail=print, say=print, slots=2, gpus={"cuda": 1}, cutting=cutting(*many(200)))
    gpu = work.next(device="cuda")
    assert gpu is not None
    assert len(gpu.trials) > 64
    work.died(gpu.id, "CUDA out of memory")
    assert work.next(device="cpu") is None or len(next(iter(work.running.values())).stack.trials) <= 32
    half = work.next(device="cuda")
    assert half is not None
    assert len(half.trials) == pytest.approx(len(gpu.trials) / 2, abs=1)
