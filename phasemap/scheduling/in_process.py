"""Runs the work in this process, stack by stack: the same code as under Ray, without Ray."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from phasemap.plan.keep import NOTHING, Keep
from phasemap.plan.stack import Stack
from phasemap.scheduling.queue import Work
from phasemap.scheduling.worker import StackRun
from phasemap.training.checkpoint import Storage


def run(work: Work, storage: str, every: float, device: str, keep: Keep = NOTHING) -> None:
    """Runs the work to its end.

    Raises:
        KeyboardInterrupt: it was interrupted; the stack at work has checkpointed.
    """
    with _interrupts() as seen:
        while (stack := work.next(device=device)) is not None:
            _run(work, stack, StackRun(stack, Storage(storage), device, every, keep), seen)


def _run(work: Work, stack: Stack, at_work: StackRun, interrupts: list[int]) -> None:
    reports = iter(at_work)
    while True:
        try:
            report = next(reports, None)
        except Exception:
            work.died(stack.id, traceback.format_exc())
            return
        if report is None:
            break
        work.report(stack.id, report)
        work.check()
        if interrupts:  # between two reports a stack is whole; within one it is not
            at_work.checkpoint()
            raise KeyboardInterrupt
    work.ended(stack.id)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collects the first Ctrl-C; the second raises at once, as if nobody had listened."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are not ours to handle there
        yield seen
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
