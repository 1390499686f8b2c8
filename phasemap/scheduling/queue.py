"""What is left of a sweep: which stack comes next, what came back, what to do when one dies.

Holds no tensors and starts nothing: ``ray_tune.py`` and ``--local`` ask it for stacks and tell it
what happened. Every trial leaves it exactly once, recorded or failed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from phasemap.plan.outcome import Curve, Result
from phasemap.plan.stack import CPU_LARGEST, Report, Stack
from phasemap.plan.trial import Shape, Trial
from phasemap.scheduling.cutting import Cutting, Slot
from phasemap.words import count

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
    device: str = "cpu"
    steps: int = 0  # still to take, over all its trials
    since: float = field(default_factory=time.monotonic)  # of its start or its last report
    started: bool = False
    progressed: bool = False  # a trial ended or a checkpoint was written: the next try begins further on
    silence: float = 0.0  # seconds since its last report
    longest: float = 0.0  # of its silences

    @property
    def patience(self) -> float:
        """Seconds of silence after which its worker hangs; longer with each try, for it may only be slow."""
        return max((NEWS if self.started else FIRST_NEWS) * 2.0**self.stack.tries, SILENCES * self.longest)


@dataclass
class Work:
    """The stacks of one sweep.

    Args:
        record: called with each result, once.
        fail: called with each trial that cannot be run, and why.
        say: called with each line a person should read.
        more: called when nothing waits: further stacks (from a sampler), or none.
        cutting: trials of which a slot takes as many as are best for it when it is free.
        live: called with further points of the curves of a trial that still trains, and when its stack began.
        check: called often; raises when nothing more can be recorded, and the work must end.
    """

    record: Callable[[Result], None]
    fail: Callable[[Trial, str], None]
    say: Callable[[str], None]
    more: Callable[[], list[Stack]] = list
    queue: deque[Stack] = field(default_factory=deque)  # stacks that run as they are
    cutting: Cutting | None = None  # trials that wait to be cut into stacks
    check: Callable[[], None] = lambda: None
    live: Callable[[Trial, Mapping[str, Curve], float], None] = lambda trial, curves, began: None
    running: dict[str, Running] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)  # notes of stacks, each reported once: a full disk meets them all
    trials_done: int = 0
    trials_failed: int = 0
    trial_steps: int = 0  # taken in this run of the sweep
    steps_at_loss: int = 0  # of these, when all that was in flight was lost
    seconds: float = 0.0  # of training, over all stacks
    started: float = field(default_factory=time.monotonic)
    slots: int = 1  # stacks that may run at once; changes as nodes come and go
    gpus: Mapping[str, int] = field(default_factory=dict)  # of these on GPUs, by device
    slot_seconds: float = 0.0  # offered so far, up to the last change
    changed: float = field(default_factory=time.monotonic)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def offer(self, slots: int, gpus: Mapping[str, int] | None = None) -> None:
        """From now on so many stacks may run at once, some of them on GPUs (default: as many as before)."""
        with self.lock:
            now = time.monotonic()
            self.slot_seconds += self.slots * (now - self.changed)
            self.slots, self.changed = slots, now
            self.gpus = self.gpus if gpus is None else gpus

    def busy(self) -> float:
        """Share of the offered time that went into training."""
        self.offer(self.slots)
        return self.seconds / self.slot_seconds if self.slot_seconds else 0.0

    def add(self, stacks: Iterable[Stack]) -> None:
        with self.lock:
            self.queue.extend(stacks)

    def next(self, shape: Shape | None = None, device: str = "cpu") -> Stack | None:
        """The next stack to start on a free slot of the device, or None if it had better start none now.

        A worker compiles a training step for each shape it meets, so one that ended a stack goes on
        with its ``shape``; else comes a shape that nobody works at, else the first of the queue.
        """
        with self.lock:
            if not self.queue and not self._waits():
                self.queue.extend(self.more())
            stack = self._queued(shape, device) or self._cut(shape, device)
            if stack is not None:
                left = {trial.id: trial for trial in stack.trials}
                self.running[stack.id] = Running(stack, left, device, stack.trial_steps)
            return stack

    def _queued(self, shape: Shape | None, device: str) -> Stack | None:
        """A stack that runs as it is; a core is spared those that a GPU was given."""
        spared = device == "cpu" and bool(self.gpus)
        fit = [stack for stack in self.queue if not spared or len(stack.trials) <= CPU_LARGEST]
        if not fit:
            return None
        taken = {one.stack.shape for one in self.running.values()}
        stack = min(fit, key=lambda one: (one.shape != shape, one.shape in taken))
        self.queue.remove(stack)
        return stack

    def _cut(self, shape: Shape | None, device: str) -> Stack | None:
        if not self._waits() or self.cutting is None:
            return None
        slots = self._slots()
        asking = next((i for i, slot in enumerate(slots) if slot.device == device), None)  # the first that is free
        if asking is None:
            return None
        stack = self.cutting.cut(slots, asking, shape)
        if stack is None and not self.running:  # the slot that would be better is not there, or does not ask
            stack = self.cutting.cut([Slot(device)], 0, shape)
        return stack

    def _waits(self) -> bool:
        return bool(self.cutting and self.cutting.waiting)

    def _slots(self) -> list[Slot]:
        """All slots, those that are free first, first."""
        slots = []
        for device, number in (*self.gpus.items(), ("cpu", self.slots - sum(self.gpus.values()))):
            ends = [0.0] * number
            for one in self.running.values():
                if one.device == device and number:  # one that waits behind others begins when the first of them ends
                    ends[ends.index(min(ends))] += self._until_free(one)
            slots += [Slot(device, end) for end in sorted(ends)]
        return slots

    def _until_free(self, one: Running) -> float:
        """Seconds a running stack still takes, as far as anybody knows."""
        if self.cutting is None or not one.left:
            return 0.0
        trial, size = next(iter(one.left.values())), len(one.left)
        each = self.cutting.rates.seconds(trial, one.device, size) / size
        return max(0.0, one.steps * each - (time.monotonic() - one.since))

    def waiting(self) -> list[Trial]:
        """Trials that no slot has taken yet."""
        with self.lock:
            queued = [trial for stack in self.queue for trial in stack.trials]
            return queued + (self.cutting.trials() if self.cutting else [])

    def seconds_left(self) -> float:
        """Until all has ended, at the rates seen so far, if no node comes or goes."""
        with self.lock:
            ends = [self._until_free(one) for one in self.running.values()]
            cut = self.cutting.seconds(self._slots()) if self.cutting and self._waits() else 0.0
            return max([cut, *ends])

    def finished(self) -> bool:
        with self.lock:
            return not self.queue and not self.running and not self._waits()

    def report(self, stack_id: str, report: Report) -> None:
        """News of a running stack."""
        with self.lock:
            running = self.running[stack_id]
            running.since = time.monotonic()
            running.steps -= report.trial_steps
            if running.started:  # the first silence is that of compiling
                running.longest = max(running.longest, running.silence)
            running.started, running.silence = True, 0.0
            running.progressed |= report.saved or bool(report.results)
            self.trial_steps += report.trial_steps
            self.seconds += report.seconds
            if self.cutting and running.left:
                trial = next(iter(running.left.values()))
                size = len(running.left)
                self.cutting.rates.learn(trial, running.device, size, report.trial_steps, report.seconds)
            for note in report.notes:
                if note not in self.noted:
                    self.noted.add(note)
                    self.say(note)
            for result in report.results:
                if running.left.pop(result.trial.id, None) is None:
                    continue  # it was reported before its worker died
                running.steps -= int(result.trial.steps - result.outcome.steps_run)  # it settled early
                self.trials_done += 1
                self.record(result)
            for trial_id, curves in report.curves.items():
                if trial_id in running.left:
                    self.live(running.left[trial_id], curves, report.began)

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
        whole the first time (a machine may have died), then in halves, until the failing trial is
        alone."""
        with self.lock:
            self._again(self.running.pop(stack_id), reason)

    def returned(self, stack_id: str) -> None:
        """A stack that was never started, because its device is gone."""
        with self.lock:
            self._back(self.running.pop(stack_id).stack)

    def lost(self, reason: str) -> None:
        """All that was in flight is gone. What had not reported is no worse for it, unless nothing at
        all was done since the last loss: one of these may be what kills."""
        with self.lock:
            fruitless, self.steps_at_loss = self.trial_steps == self.steps_at_loss, self.trial_steps
            for stack_id, one in list(self.running.items()):
                if one.started or fruitless:
                    self.died(stack_id, reason)
                else:
                    self.returned(stack_id)

    def _back(self, stack: Stack) -> None:
        """To be started again: whole, or cut again where trials are cut for the slots there are."""
        if self.cutting:
            self.cutting.put(stack.trials, stack.tries)
        else:
            self.queue.appendleft(stack)

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
            self._back(replace(stack, tries=tries + 1))
            self.say(
                f"a stack of {count(len(left), 'trial')} stopped ({last_line}); runs again from its last checkpoint"
            )
