"""Writes jobs one after another in a thread, so that training does not wait for the store.

A store that is away is waited for; any other fault is reported, and costs its own job. The thread shows the sign of
life that keeps a sweep, and ends all writing when the sweep is another's.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from phasemap.record.claim import HEARTBEAT, Claim, Lost
from phasemap.record.client import is_outage, redacted, short

Answer = TypeVar("Answer")

PATIENCE = 3_600.0  # seconds a tracking server may stay away
START = 60.0  # when a sweep starts: a restart is outlasted, a wrong address reported
PARTING = 10.0  # seconds to let go of a sweep after an error


def patiently(
    ask: Callable[[], Answer],
    uri: str,
    say: Callable[[str], None],
    seconds: float,
    given_up: Callable[[], bool] = lambda: False,
) -> Answer:
    """What the store answers. One that is away is waited for, and the wait is reported once.

    Raises:
        Exception: the store's, after so many seconds, or at once where waiting cannot help.
    """
    start, announced = time.monotonic(), False
    while True:
        try:
            answer = ask()
        except Exception as error:
            waited = time.monotonic() - start
            if given_up() or not is_outage(error, uri) or waited > seconds:
                raise
            if not announced:
                say(f"tracking store {redacted(uri)} does not answer, waiting: {short(error)}")
            announced = True
            time.sleep(min(5.0, 0.5 + waited / 4))
        else:
            if announced:
                say("tracking store is back")
            return answer


class Away(ValueError):
    """The store stayed away for too long."""


@dataclass(frozen=True)
class Job:
    """Something to write, what to call it, and what to do once it is written, or if it cannot be."""

    write: Callable[[], object]
    what: str
    then: Callable[[], None] = lambda: None
    failed: Callable[[str], object] = lambda reason: None


class Background:
    """The thread of one sweep's record."""

    def __init__(self, claim: Claim, uri: str, say: Callable[[str], None]):
        self.claim, self.uri, self.say = claim, uri, say
        self.closed = False
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._loop, daemon=True, name="mlflow writer")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs are queued."""
        return self._queue.qsize()

    def put(self, job: Job) -> None:
        """Queues a job."""
        self._queue.put(job)

    def check(self) -> None:
        """Raises what has ended the writing: Away if the store stayed away, Lost if the sweep is another's."""
        if self._error:
            raise self._error

    def flush(self) -> None:
        """Waits until everything queued is written; raises as ``check`` does."""
        self._queue.join()
        self.check()

    def close(self, status: str) -> None:
        """Writes what is queued, then lets go of the sweep; raises as ``check`` does."""
        if self.closed:
            return
        self.closed = True
        self.put(Job(lambda: self.claim.release(status), "the end of the sweep"))
        self._queue.put(None)
        self._thread.join()
        self.check()

    def abandon(self, status: str, error: BaseException | None, last: Callable[[], None] = lambda: None) -> None:
        """Lets go of the sweep after an error, within seconds: what is queued is left, and runs again. ``last`` is done
        once the thread has ended."""
        if self.closed:
            return
        self.closed = True
        self._error = self._error or RuntimeError(f"ended by {error!r}")
        self._queue.put(None)

        def part() -> None:
            self._thread.join()
            with suppress(Exception):  # the error that ended the run is the one to be seen
                self.claim.release(status)
                last()

        parting = threading.Thread(target=part, daemon=True)
        parting.start()
        parting.join(PARTING)

    def _loop(self) -> None:
        beat = Job(self.claim.beat, "a heartbeat")
        while True:
            try:
                job = self._queue.get(timeout=HEARTBEAT)
            except queue.Empty:
                self._do(beat)
                continue
            if job is not None:
                self._do(job)
                if time.monotonic() - self.claim.beaten > HEARTBEAT:
                    self._do(beat)
            self._queue.task_done()
            if job is None:
                return

    def _do(self, job: Job) -> None:
        if self._error:
            return
        try:
            self._patiently(job.write)
        except Exception as error:
            self._error = self._ending(error)
            if not self._error:
                self.say(f"{job.what} cannot be recorded: {short(error)}")
                with suppress(Exception):  # the same fault, most likely
                    job.failed(f"it cannot be recorded: {short(error)}")
            return
        try:
            job.then()
        except Exception as error:
            self.say(f"{job.what} is recorded, but its checkpoint is left: {short(error)}")

    def _patiently(self, write: Callable[[], object]) -> None:
        try:
            patiently(write, self.uri, self.say, PATIENCE, lambda: self._error is not None)
        except Exception as error:
            if self._error or not is_outage(error, self.uri):
                raise
            self._error = Away(
                f"tracking store {redacted(self.uri)}: must come back within {PATIENCE / 60:.0f} minutes, got "
                f"{short(error)}; what was not recorded runs again from its checkpoints with the same command"
            )
            raise self._error from error

    def _ending(self, error: Exception) -> Exception | None:
        """What ends all writing: the error that did already, or that the sweep is no longer ours."""
        if self._error or isinstance(error, Lost):
            return self._error or error
        try:
            self._patiently(self.claim.check)
        except Lost as lost:
            return lost
        except Exception:
            return self._error
        return None
