"""Finds the processes below one, so that tests kill what they started and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path


def descendants(pids: Iterable[int]) -> list[int]:
    """Pids of all living processes below the given ones."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], list(pids)
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def trainers(pids: Iterable[int]) -> list[int]:
    """Pids of the Ray actors that train stacks below the given processes."""
    return [pid for pid in descendants(pids) if b"Trainable" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill(pid: int) -> bool:
    """Whether there was something to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
