"""Runs one stack wherever it is put: resumes it, trains it, checkpoints it, reports its results.

Used alike in this process (``--local``) and inside a Ray actor. Writes no record.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from phasemap.plan.keep import NOTHING, Keep
from phasemap.plan.outcome import Curve
from phasemap.plan.stack import Report, Stack, memory
from phasemap.plan.trial import Trial
from phasemap.scheduling import cores
from phasemap.training import weights
from phasemap.training.checkpoint import Storage
from phasemap.training.train import Training, may_be_stacked, train

CHECKPOINT_SHARE = 0.02  # of the time may go into checkpoints
SHARE_OF_MEMORY = 0.9  # of what is free when a stack begins
# For tests, where nodes declare GPUs that they do not have: set to 1, stacks placed on a GPU compute on the CPU.
ON_CPU = "PHASEMAP_CUDA_ON_CPU"
REPORT_EVERY = 1.0  # seconds; a report takes 2 ms of the driver's processor
CURVES_EVERY = 30.0  # seconds between reports that bring the curves of trials that still train


def free_memory(device: str) -> float:
    """Bytes a stack may take here: the GPU's own that are free, or the host's."""
    if device == "cuda":
        return SHARE_OF_MEMORY * torch.cuda.mem_get_info()[0]
    try:
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return SHARE_OF_MEMORY * min(1024 * int(meminfo["MemAvailable"].split()[0]), _lent_memory())
    except (OSError, KeyError, ValueError):
        return math.inf  # a system that does not tell


def _lent_memory() -> float:
    """Bytes that are left under the limits of a container or a batch job: those of this process's control groups."""
    return min(map(_left, cores.groups()))


def _left(group: Path) -> float:
    try:
        most, held = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return most - held + int(counts["inactive_file"])  # the system takes these pages back first
    except (OSError, KeyError, ValueError):  # no limit is "max"
        return math.inf


def parts(trials: tuple[Trial, ...], free: float) -> list[tuple[Trial, ...]]:
    """The trials of a stack, halved until each part fits in so many bytes; they run one after the other."""
    if len(trials) == 1 or len(trials) * memory(trials[0]) <= free:
        return [trials]
    middle = len(trials) // 2
    return parts(trials[:middle], free) + parts(trials[middle:], free)


class StackRun:
    """A stack at work. Iterate for its reports; ``checkpoint`` may be called between two."""

    def __init__(self, stack: Stack, storage: Storage, device: str, every: float, keep: Keep = NOTHING):
        self.stack, self.storage, self.every, self.keep = stack, storage, every, keep
        self.device = "cpu" if os.environ.get(ON_CPU) == "1" else device
        self.now: Training | None = None
        self._notes: list[str] = []
        self._cost = 0.0  # seconds the last checkpoint took
        self._saved = False  # since the last report
        self._sent: dict[tuple[str, str], int] = {}  # (trial id, curve) -> points reported
        self._states: dict[str, str] = {}  # trial id -> where its state is kept

    def __iter__(self) -> Iterator[Report]:
        try:
            free = free_memory(self.device)
            for trials in (part for group in self._groups() for part in parts(group, free)):
                sources = weights.sources(self.storage, trials)
                for training in self.storage.resume(
                    trials, self.device, self.stack.compiled, self._notes.append, sources
                ):
                    self.now = training
                    yield from self._train(training)
        except Exception:
            self.now = None  # it runs again, perhaps elsewhere: nothing of it is saved here any more
            raise
        self.now = None

    def _groups(self) -> list[tuple[Trial, ...]]:
        """The stack, or its trials one by one where a network's numbers depend on the stack."""
        trials = self.stack.trials
        if len(trials) == 1 or may_be_stacked(trials[0], self.device, self.stack.compiled):
            return [trials]
        self._notes.append(
            f"{trials[0].model}: a trial alone and in a stack differ in their last bits, so its trials run one by one, "
            "which is slower; matrix products outside torch.nn.Linear are the usual cause (docs/extend.md has others)"
        )
        return [(trial,) for trial in trials]

    def _train(self, training: Training) -> Iterator[Report]:
        saved, seconds, step, count = time.monotonic(), 0.0, training.step, len(training.trials)
        begun, began = time.perf_counter(), time.time()
        start = sent = time.monotonic()
        training.leaving = lambda endings: self._keep_last(training, endings)
        for results in train(training, stop=self.keep.next):
            if self.keep.next(training.step - 1) == training.step:
                self._keep_weights(training, range(len(training.trials)))
            ended = began + time.monotonic() - start  # the clock may have jumped
            results = [
                replace(result, began=began, ended=ended, notes={**result.notes, **self._kept(result.trial)})
                for result in results
            ]
            seconds += time.perf_counter() - begun
            if results or seconds > REPORT_EVERY:
                steps, curves = (training.step - step) * count, {}
                if time.monotonic() - sent > CURVES_EVERY:
                    curves, sent = self._take_curves(training), time.monotonic()
                yield Report(steps, seconds, tuple(results), self._take_notes(), self._saved, curves, began)
                self._saved, seconds, step, count = False, 0.0, training.step, len(training.trials)
            if training.trials and time.monotonic() - saved > max(self.every, self._cost / CHECKPOINT_SHARE):
                self.checkpoint()
                saved = time.monotonic()
            begun = time.perf_counter()

    def checkpoint(self) -> None:
        """Saves the stack as it stands; a full disk is reported and does not stop the training."""
        if self.now is None or not self.now.trials:
            return
        start = time.monotonic()
        try:
            self.storage.save(self.now, self.stack.compiled)
            self._saved = True
        except OSError as error:
            why = error.strerror or str(error)  # without the file's name: the same fault is the same note
            self._notes.append(
                f"no checkpoint in {self.storage.place}: {why}; training goes on, and begins at the last one if it is "
                "stopped"
            )
        self._cost = time.monotonic() - start

    def _keep_weights(self, training: Training, rows: Iterable[int]) -> None:
        """Writes the weights of these trials; a full disk is reported and does not stop the training."""
        for k in rows:
            self._tried(lambda k=k: weights.save(self.storage, training, k), "weights are not kept")  # type: ignore[misc]

    def _keep_last(self, training: Training, endings: dict[int, str]) -> None:
        """What is kept of trials that end: weights, and the state of those that spent their budget."""
        if self.keep.weights:
            self._keep_weights(training, endings)
        for k in [k for k, ending in endings.items() if self.keep.state and ending == "budget"]:

            def save(k: int = k) -> None:
                self._states[training.trials[k].id] = self.storage.keep_state(training, k, self.stack.compiled)

            self._tried(save, "a state is not kept")

    def _tried(self, write: Callable[[], None], what: str) -> None:
        try:
            write()
        except OSError as error:
            self._notes.append(f"{what} in {self.storage.place}: {error.strerror or error}; training goes on")

    def _kept(self, trial: Trial) -> dict[str, str]:
        """Notes of a result: where its weights lie, of which steps, and where its state does."""
        notes = {"state": self._states.pop(trial.id)} if trial.id in self._states else {}
        if self.keep.weights:
            place = weights.place(self.storage, trial.id)
            if steps := place.steps(weights.ENDING):
                notes |= {"weights": place.place, "kept": "+".join(map(str, steps))}
        return notes

    def _take_curves(self, training: Training) -> dict[str, dict[str, Curve]]:
        """The points since the last time, of the trials that still train."""
        taken: dict[str, dict[str, Curve]] = {}
        for trial in training.trials:
            for key, points in training.curves.get(trial.id, {}).items():
                new = points[self._sent.get((trial.id, key), 0) :]
                self._sent[trial.id, key] = len(points)
                if new:
                    steps, values = zip(*new, strict=True)
                    taken.setdefault(trial.id, {})[key] = (steps, values)
        return taken

    def _take_notes(self) -> tuple[str, ...]:
        notes, self._notes = tuple(self._notes), []
        return notes
