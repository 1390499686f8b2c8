"""The curves of trials that still train: a run that is RUNNING shows them until its result fills it.

They are written when nothing else waits, and for a small share of the time, so that short trials cost nothing and a
result is never late. A run without its result is no trial that is done: it is closed at the end of the command, and
deleted when the sweep goes on, for the trial then logs its curves again, from its first step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Metric

from phasemap.plan.outcome import Curve
from phasemap.plan.trial import Trial

SHARE = 0.05  # of the writer's time
TURN = 1.0  # seconds of writing in one go
MOST = 900  # metrics in a call: MLflow takes 1,000 of all kinds, and the first call has the params and tags

Point = tuple[int, float]  # step, value


@dataclass
class _Running:
    """A trial at work: its run, once there is one, the last step taken in and written of each curve, and the points in
    between."""

    trial: Trial
    began: float = 0.0  # seconds since 1970
    run: str = ""
    known: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    new: dict[str, list[Point]] = field(default_factory=dict)
    turn: float = 0.0  # when it was written last


class Live:
    """The trials at work of one sweep. ``add`` is called by the driver's thread, all else by the writer's.

    Args:
        create: makes a run for a trial and returns its id.
    """

    def __init__(self, client: MlflowClient, create: Callable[[Trial, float], str | None]):
        self.client, self.create = client, create
        self.rest = 0.0  # no writing before this time
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()

    def add(self, trial: Trial, curves: Mapping[str, Curve], began: float) -> None:
        """Takes points in. Those of steps that are known, after a worker died, are left out."""
        with self._lock:
            one = self._running.setdefault(trial.id, _Running(trial, began))
            for key, (steps, values) in curves.items():
                last = one.known.get(key, -1)
                one.new.setdefault(key, []).extend(
                    point for point in zip(steps, values, strict=True) if point[0] > last
                )
                one.known[key] = max(last, steps[-1])

    def due(self) -> bool:
        return time.monotonic() >= self.rest and any(one.new for one in list(self._running.values()))

    def write(self, idle: Callable[[], bool]) -> None:
        """Writes the trials whose curves are oldest, for a moment or until something else waits."""
        start = time.monotonic()
        for one in sorted([*self._running.values()], key=lambda one: one.turn):
            if one.new:
                self._write(one)
            if time.monotonic() - start > TURN or not idle():
                break
        self.rest = time.monotonic() + (time.monotonic() - start) / SHARE

    def _write(self, one: _Running) -> None:
        one.run = one.run or self.create(one.trial, one.began) or ""
        if not one.run:
            return self.ended(one.trial)  # it is recorded
        with self._lock:
            new = {key: list(points) for key, points in one.new.items() if points}
        now = int(time.time() * 1_000)
        metrics = [Metric(key, value, now, step) for key, points in new.items() for step, value in finite(points)]
        for batch in batches(metrics):
            self.client.log_batch(one.run, batch)
        one.written |= {key: points[-1][0] for key, points in new.items()}
        one.turn = time.monotonic()
        with self._lock:  # only now: what a store that is away did not take is written again
            left = {key: points[len(new.get(key, ())) :] for key, points in one.new.items()}
            one.new = {key: points for key, points in left.items() if points}

    def run(self, trial: Trial) -> tuple[str, Mapping[str, int]]:
        """The run of a trial, or none (""), and the last step written there of each curve."""
        one = self._running.get(trial.id, _Running(trial))
        return one.run, one.written

    def ended(self, trial: Trial) -> None:
        """A trial that is recorded, or given up."""
        self._running.pop(trial.id, None)

    def close(self) -> None:
        """Ends the runs that got no result."""
        for one in list(self._running.values()):
            if one.run:
                with suppress(Exception):  # the next start does it
                    self.client.set_terminated(one.run, "KILLED")
        self._running.clear()


def batches(metrics: Sequence[Metric]) -> list[Sequence[Metric]]:
    """What goes into a call each; at least one."""
    return [metrics[start : start + MOST] for start in range(0, len(metrics), MOST)] or [metrics]


def finite(points: Iterable[Point]) -> Iterator[Point]:
    """Stores disagree on what is not finite."""
    return ((step, float(value)) for step, value in points if value == value and abs(value) != float("inf"))
