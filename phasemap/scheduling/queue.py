"""What is left of a sweep: which stack comes next, what came back, what to do when one dies.

Holds no tensors and starts nothing: ``ray_tune.py`` and ``--local`` ask it for stacks and tell it
what happened. Every trial leaves it exactly once, recorded or failed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field, replace

from phasemap.plan.outcome import Result
from phasemap.plan.stack import Report, Stack
from phasemap.plan.trial import Trial

ALONE_TRIES = 5  # deaths in a row, without progress in between, after which a lone trial has failed
FIRST_NEWS = 1_800.0  # seconds to a stack's first report, at least: it may compile for minutes
NEWS = 300.0  # seconds between two of its reports, at least: probes may take long
SILENCES = 20  # times its longest silence so far
OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError", "MemoryError", "can't allocate memory")


@dataclass
class Running:
    """A stack in flight."""

    stack: Stack
    left: dict[str, Trial]
    started: bool = False
    progressed: bool = False  # a trial ended or a checkpoint was written: the next try begins further on
    silence: float = 0.0  # seconds since its last report
    longest: float = 0.0  # of its silences

    @property
    def patience(self) -> float:
        """Seconds of silence after which its worker hangs; longer with each try, for it may only be slow."""
        return max((NEWS if self.started else FIRST_NEWS) * 2**self.stack.tries, SILENCES * self.longest)


@dataclass
class Work:
    """The stacks of one sweep.

    Args:
        record: called with each result, once.
        fail: called with each trial that cannot be run, and why.
        say: called with each line a person should read.
        more: called when the queue is empty: further stacks (from a sampler), or none.
        check: called often; raises when nothing more can be recorded, and the work must end.
    """

    record: Callable[[Result], None]
    fail: Callable[[Trial, str], None]
    say: Callable[[str], None]
    more: Callable[[], list[Stack]] = list
    check: Callable[[], None] = lambda: None
    queue: deque[Stack] = field(default_factory=deque)
    running: dict[str, Running] = field(default_factory=dict)
    phases: Counter[str] = field(default_factory=Counter)
    noted: set[str] = field(default_factory=set)  # notes of stacks, each said once: a full disk meets them all
    trials_done: int = 0
    trials_failed: int = 0
    trial_steps: int = 0  # taken in this run of the sweep
    steps_at_loss: int = 0  # of these, when all that was in flight was lost
    seconds: float = 0.0  # of training, over all stacks
    started: float = field(default_factory=time.monotonic)
    slots: int = 1  # stacks that may run at once; changes as nodes come and go
    slot_seconds: float = 0.0  # offered so far, up to the last change
    changed: float = field(default_factory=time.monotonic)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def offer(self, slots: int) -> None:
        """From now on so many stacks may run at once."""
        with self.lock:
            now = time.monotonic()
            self.slot_seconds += self.slots * (now - self.changed)
            self.slots, self.changed = slots, now

    def busy(self) -> float:
        """Share of the offered time that went into training."""
        self.offer(self.slots)
        return self.seconds / self.slot_seconds if self.slot_seconds else 0.0

    def add(self, stacks: Iterable[Stack]) -> None:
        with self.lock:
            self.queue.extend(stacks)

    def next(self, shape: tuple | None = None) -> Stack | None:
        """The next stack to start, or None if there is none now.

        A worker compiles a training step for each shape it meets, so one that ended a stack goes on
        with its ``shape``; else comes a shape that nobody works at, else the first of the queue.
        """
        with self.lock:
            if not self.queue:
                self.queue.extend(self.more())
            if not self.queue:
                return None
            taken = {one.stack.shape for one in self.running.values()}
            ranks = [(stack.shape != shape, stack.shape in taken) for stack in self.queue]
            chosen = ranks.index(min(ranks))
            stack = self.queue[chosen]
            del self.queue[chosen]
            self.running[stack.id] = Running(stack, {trial.id: trial for trial in stack.trials})
            return stack

    def finished(self) -> bool:
        with self.lock:
            return not self.queue and not self.running

    def report(self, stack_id: str, report: Report) -> None:
        """News of a running stack."""
        with self.lock:
            running = self.running[stack_id]
            if running.started:  # the first silence is that of compiling
                running.longest = max(running.longest, running.silence)
            running.started, running.silence = True, 0.0
            running.progressed |= report.saved or bool(report.results)
            self.trial_steps += report.trial_steps
            self.seconds += report.seconds
            for note in report.notes:
                if note not in self.noted:
                    self.noted.add(note)
                    self.say(note)
            for result in report.results:
                if running.left.pop(result.trial.id, None) is None:
                    continue  # it was reported before its worker died
                self.trials_done += 1
                self.phases[str(result.outcome.phase)] += 1
                self.record(result)

    def overdue(self, at_work: Container[str], waited: float) -> list[tuple[str, float]]:
        """Adds ``waited`` seconds of silence to these stacks; those that were silent for too long, and how long."""
        with self.lock:
            running = [(stack_id, one) for stack_id, one in self.running.items() if stack_id in at_work]
            for _, one in running:
                one.silence += waited
            return [(stack_id, one.silence) for stack_id, one in running if one.silence > one.patience]

    def ended(self, stack_id: str) -> None:
        """A stack that reported all its trials."""
        with self.lock:
            running = self.running.pop(stack_id)
            if running.left:
                self._again(running, "ended without a result")

    def died(self, stack_id: str, reason: str) -> None:
        """A stack whose worker died or raised. What is left of it runs again from its checkpoints:
        whole the first time (a machine may have died), then in halves, until the guilty trial is
        alone."""
        with self.lock:
            self._again(self.running.pop(stack_id), reason)

    def lost(self, reason: str) -> None:
        """All that was in flight is gone. What had not reported is no worse for it, unless nothing at
        all was done since the last loss: one of these may be what kills."""
        with self.lock:
            fruitless, self.steps_at_loss = self.trial_steps == self.steps_at_loss, self.trial_steps
            for stack_id, one in list(self.running.items()):
                if one.started or fruitless:
                    self.died(stack_id, reason)
                else:
                    self.queue.appendleft(self.running.pop(stack_id).stack)

    def _again(self, running: Running, reason: str) -> None:
        left = tuple(running.left.values())
        if not left:
            return
        tries = 0 if running.progressed else running.stack.tries
        stack = replace(running.stack, trials=left, tries=tries)
        last_line = reason.strip().splitlines()[-1] if reason.strip() else "its worker died"
        memory = any(sign in reason for sign in OUT_OF_MEMORY)
        if len(left) == 1 and tries + 1 >= ALONE_TRIES:
            self.trials_failed += 1
            self.fail(left[0], reason)
            self.say(f"trial {left[0].id} failed {ALONE_TRIES} times, given up: {last_line}")
        elif len(left) > 1 and (tries > 0 or memory):
            self.queue.extendleft(stack.halves())
            self.say(f"a stack of {len(left)} trials failed ({last_line}); runs again in halves")
        else:
            self.queue.appendleft(replace(stack, tries=tries + 1))
            self.say(f"a stack of {len(left)} trials stopped ({last_line}); runs again from its last checkpoint")
