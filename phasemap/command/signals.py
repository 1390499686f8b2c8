"""Signals while a sweep runs: those that would end it are answered as Ctrl-C is, which waits where it would do harm.
An output that nobody reads any more ends a command without a word."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import ParamSpec, TextIO

UNREAD = 128 + signal.SIGPIPE  # the exit status of a Unix program whose reader has gone
Given = ParamSpec("Given")


@contextmanager
def heeded() -> Iterator[None]:
    """SIGTERM and a terminal that goes away are answered as Ctrl-C is. Only a main thread may handle signals; a kernel
    goes on afterward, with its own handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    screens = [number for number in (1, 2) if os.isatty(number)]

    def interrupt(number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            nowhere = os.open(os.devnull, os.O_WRONLY)  # a write to the terminal would now be an error
            for screen in screens:
                os.dup2(nowhere, screen)
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    ours = [number for number, handler in before.items() if handler != signal.SIG_IGN]  # SIGHUP under nohup
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number] or signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block has ended: a notebook could not do again an import that it broke off."""
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


def piped(command: Callable[Given, int]) -> Callable[Given, int]:
    """The same command, which ends without a word once the reader of its output has gone, as behind ``| head``."""

    @wraps(command)
    def run(*words: Given.args, **named: Given.kwargs) -> int:
        try:
            try:
                return command(*words, **named)
            finally:
                sys.stdout.flush()  # here, where an error can be met
        except BrokenPipeError:
            unread = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
            if not unread:  # another pipe than the output
                raise
            for stream in unread:  # Python writes what is left when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            return UNREAD

    return run


def _is_unread(stream: TextIO) -> bool:
    """Whether it is a pipe that nobody reads any more."""
    with suppress(OSError, ValueError):  # a stream without a file, as in a notebook
        look = select.poll()
        look.register(stream.fileno(), 0)
        return bool(look.poll(0))
    return False
