"""Every trial leaves the work exactly once, recorded or failed, whatever its stacks do."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from small import MLP, result

from phasemap.plan.stack import Report, Stack
from phasemap.plan.trial import Trial
from phasemap.scheduling.queue import ALONE_TRIES, FIRST_NEWS, NEWS, SILENCES, Work

CRASH = "Traceback (most recent call last):\n  File ...\nValueError: this trial cannot be run"
MEMORY = "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"


class Desk:
    """A work with everything that left it."""

    def __init__(self, *stacks: Stack, **more):
        self.recorded: list[Trial] = []
        self.failed: list[tuple[Trial, str]] = []
        self.said: list[str] = []
        self.work = Work(
            record=lambda found: self.recorded.append(found.trial),
            fail=lambda trial, reason: self.failed.append((trial, reason)),
            say=self.said.append,
            **more,
        )
        self.work.add(stacks)

    def finish(self, stack: Stack, *trials: Trial) -> None:
        """Reports the given trials of a stack, or all."""
        found = tuple(result(trial) for trial in trials or stack.trials)
        self.work.report(stack.id, Report(trial_steps=10, results=found))

    def die(self, reason: str = "") -> Stack:
        stack = self.next()
        self.work.died(stack.id, reason)
        return stack

    def next(self) -> Stack:
        """The next stack, of which there must be one."""
        stack = self.work.next()
        assert stack is not None
        return stack


def stack(count: int, first: int = 0, width: int = 16) -> Stack:
    return Stack(tuple(MLP.replace(seed=first + seed, width=width) for seed in range(count)))


def test_an_empty_work_is_finished():
    desk = Desk()
    assert desk.work.next() is None
    assert desk.work.finished()


def test_stacks_come_in_their_order_and_are_in_flight_until_they_end():
    first, second = stack(2), stack(3, 10)
    desk = Desk(first, second)
    assert desk.work.next() is first
    assert desk.work.next() is second
    assert desk.work.next() is None
    assert not desk.work.finished()
    for one in (first, second):
        desk.finish(one)
        desk.work.ended(one.id)
    assert desk.work.finished()
    assert desk.recorded == [*first.trials, *second.trials]
    assert desk.work.trials_done == 5
    assert desk.work.trial_steps == 20
    assert desk.said == []


def test_each_worker_keeps_to_a_shape_as_long_as_there_is_work_of_it():
    wide = [stack(1, seed, width=32) for seed in range(3)]
    narrow = [stack(1, seed, width=8) for seed in range(3)]
    desk = Desk(*wide, *narrow)
    assert desk.work.next() is wide[0]
    assert desk.work.next() is narrow[0]  # nobody works at it yet
    assert desk.work.next(narrow[0].shape) is narrow[1]
    assert desk.work.next(wide[0].shape) is wide[1]
    assert desk.work.next(narrow[0].shape) is narrow[2]
    assert desk.work.next(narrow[0].shape) is wide[2]  # helps with the rest
    assert desk.work.next(wide[0].shape) is None


def test_notes_of_stacks_are_reported_once():
    desk = Desk(stack(1), stack(1, 10))
    for one in (desk.next(), desk.next()):
        for _ in range(2):
            desk.work.report(one.id, Report(notes=("no checkpoint: disk full",)))
    assert desk.said == ["no checkpoint: disk full"]


def test_a_result_reported_twice_counts_once():
    desk = Desk(stack(2))
    one = desk.next()
    desk.finish(one, one.trials[0])
    desk.finish(one, one.trials[0])
    assert desk.recorded == [one.trials[0]]
    assert desk.work.trials_done == 1


def test_only_what_is_left_of_a_dead_stack_runs_again():
    desk = Desk(stack(3))
    one = desk.next()
    desk.finish(one, one.trials[1])
    desk.work.died(one.id, "its worker process died")
    again = desk.next()
    assert again.trials == (one.trials[0], one.trials[2])
    desk.finish(again)
    desk.work.ended(again.id)
    assert Counter(desk.recorded) == Counter(one.trials)
    assert desk.work.finished()


def test_a_stack_that_died_with_all_its_trials_reported_is_done():
    desk = Desk(stack(2))
    one = desk.next()
    desk.finish(one)
    desk.work.died(one.id, "its worker process died")
    assert desk.work.finished()
    assert desk.said == []


def test_what_died_runs_again_before_anything_else():
    first, second = stack(2), stack(2, 10)
    desk = Desk(first, second)
    desk.die()
    assert desk.next().trials == first.trials


def test_a_stack_that_keeps_dying_is_split_until_the_guilty_trial_is_alone():
    whole = stack(8)
    guilty, desk = whole.trials[5], Desk(whole)
    ran: Counter[Trial] = Counter()
    while (one := desk.work.next()) is not None:
        ran.update(one.trials)
        if guilty in one.trials:
            desk.work.died(one.id, CRASH)
        else:
            desk.finish(one)
            desk.work.ended(one.id)
    assert desk.work.finished()
    assert set(desk.recorded) == set(whole.trials) - {guilty}
    assert len(desk.recorded) == 7
    assert desk.failed == [(guilty, CRASH)]
    assert (desk.work.trials_done, desk.work.trials_failed) == (7, 1)
    assert max(ran.values()) <= 2 + 3 + ALONE_TRIES


def test_what_is_tried_again_is_reported_with_its_reason():
    desk = Desk(stack(2))
    desk.die(CRASH)
    desk.die(CRASH)
    assert desk.said == [
        "a stack of 2 trials stopped (ValueError: this trial cannot be run); runs again from its last checkpoint",
        "a stack of 2 trials failed (ValueError: this trial cannot be run); runs again in halves",
    ]
    while not desk.work.finished():
        desk.die(CRASH)
    last = desk.failed[-1][0]
    assert (
        desk.said[-1] == f"trial {last.id} failed {ALONE_TRIES} times, given up: ValueError: this trial cannot be run"
    )


def test_a_death_without_a_word_is_called_one():
    desk = Desk(stack(1))
    desk.die("")
    assert desk.said == ["a stack of 1 trial stopped (its worker died); runs again from its last checkpoint"]


def test_a_lone_trial_is_given_up_after_its_tries():
    desk = Desk(stack(1))
    for tried in range(ALONE_TRIES):
        assert desk.failed == [], tried
        desk.die(CRASH)
    assert [trial for trial, _ in desk.failed] == list(stack(1).trials)
    assert desk.work.finished()


def test_progress_forgives_earlier_deaths():
    """Machines that come and go kill a long trial many times; it is not to blame while it gets on."""
    desk = Desk(stack(1))
    for _ in range(5 * ALONE_TRIES):
        one = desk.next()
        desk.work.report(one.id, Report(trial_steps=100, saved=True))
        desk.work.died(one.id, "its worker process died")
    assert desk.failed == []
    for _ in range(ALONE_TRIES):
        if desk.work.next():
            desk.work.died(next(iter(desk.work.running)), CRASH)
    assert len(desk.failed) == 1


def test_a_trial_that_dies_at_the_same_place_forever_is_given_up():
    desk = Desk(stack(1))
    for _ in range(ALONE_TRIES):
        one = desk.next()
        desk.work.report(one.id, Report(trial_steps=100))
        desk.work.died(one.id, CRASH)
    assert len(desk.failed) == 1
    assert desk.work.finished()


@pytest.mark.parametrize(
    "reason", [MEMORY, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "MemoryError"]
)
def test_a_stack_too_large_for_the_memory_is_halved_at_once(reason):
    desk = Desk(stack(4))
    desk.die(reason)
    assert sorted(len(one.trials) for one in desk.work.queue) == [2, 2]


def test_when_all_is_lost_only_what_had_begun_has_failed_once():
    begun, waiting = stack(2), stack(3, 10)
    desk = Desk(begun, waiting)
    for one in (desk.next(), desk.next()):
        if one is begun:
            desk.work.report(one.id, Report(trial_steps=10))
    desk.work.lost("its Ray node died")
    assert not desk.work.running
    assert {one.trials: one.tries for one in desk.work.queue} == {begun.trials: 1, waiting.trials: 0}
    assert len(desk.said) == 1
    assert {desk.next().trials, desk.next().trials} == {begun.trials, waiting.trials}
    desk.work.lost("its Ray node died")  # and nothing was done in between
    assert sorted(len(one.trials) for one in desk.work.queue) == [1, 1, 3]
    assert {one.tries for one in desk.work.queue if len(one.trials) == 3} == {1}


def test_a_stack_that_ends_without_its_results_is_run_again_and_finally_failed():
    desk = Desk(stack(2))
    while (one := desk.work.next()) is not None:
        desk.work.ended(one.id)
    assert {trial for trial, _ in desk.failed} == set(stack(2).trials)
    assert {reason for _, reason in desk.failed} == {"ended without a result"}


def test_more_stacks_are_asked_for_when_none_waits():
    waiting = [[stack(1)], [stack(1, 10)], []]
    desk = Desk(more=lambda: waiting.pop(0))
    assert desk.next().trials == stack(1).trials
    assert desk.next().trials == stack(1, 10).trials
    assert desk.work.next() is None


@pytest.mark.parametrize("seed", range(20))
def test_however_stacks_die_every_trial_leaves_once(seed):
    """Deaths at random moments, with and without progress, with guilty trials among the others."""
    chance = random.Random(seed)
    stacks = [stack(chance.randint(1, 6), first=100 * i) for i in range(5)]
    trials = [trial for one in stacks for trial in one.trials]
    guilty = set(chance.sample(trials, 2))
    desk, deaths = Desk(*stacks), 30
    running: list[Stack] = []
    for _ in range(10_000):
        while len(running) < 3 and (one := desk.work.next()) is not None:
            running.append(one)
        if not running:
            break
        one = running.pop(chance.randrange(len(running)))
        left = [trial for trial in one.trials if trial not in guilty]
        if deaths and chance.random() < 0.5:
            deaths -= 1
            if left and chance.random() < 0.5:
                desk.finish(one, left[0])
            desk.work.died(one.id, "its worker process died")
        elif guilty & set(one.trials):
            desk.work.died(one.id, CRASH)
        else:
            desk.finish(one)
            desk.work.ended(one.id)
    assert desk.work.finished()
    left = desk.recorded + [trial for trial, _ in desk.failed]
    assert Counter(left) == Counter(trials)
    assert guilty <= {trial for trial, _ in desk.failed}
    assert desk.work.trials_done + desk.work.trials_failed == len(trials)


def test_the_busy_share_counts_slots_as_nodes_come_and_go(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("phasemap.scheduling.queue.time.monotonic", lambda: now[0])
    work = Work(record=print, fail=print, say=print, slots=2, changed=0.0)
    now[0] = 10.0  # 20 slot seconds
    work.offer(1)
    now[0] = 30.0  # and 20 more
    work.seconds = 30.0
    assert work.busy() == 0.75


def test_a_silent_stack_is_overdue_after_its_own_time_and_no_other():
    """Time for the first report, then the floor, then many times its longest silence; twice as much at the next try."""
    work = Work(record=print, fail=print, say=lambda line: None)
    work.add([stack(2), stack(2, first=5)])
    silent, other = work.next(), work.next()
    assert silent is not None
    assert other is not None
    assert work.overdue({silent.id}, FIRST_NEWS) == []
    assert work.overdue({silent.id}, 1) == [(silent.id, FIRST_NEWS + 1)]
    work.report(silent.id, Report())
    assert work.overdue({silent.id}, NEWS) == []
    assert work.overdue({silent.id, other.id}, 1) == [(silent.id, NEWS + 1)], "the other has said nothing for 1 s"
    work.report(silent.id, Report())
    assert work.overdue({silent.id}, SILENCES * (NEWS + 1)) == []
    assert work.overdue({silent.id}, 1)
    work.died(silent.id, "it was silent")
    again = work.next()
    assert again is not None
    assert again.trials == silent.trials
    work.report(again.id, Report())
    assert work.overdue({again.id}, 2 * NEWS) == []
    assert work.overdue({again.id}, 1)
