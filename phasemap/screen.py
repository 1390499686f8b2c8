"""What a person sees while a sweep runs: a map filling in on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from phasemap.trial import PHASES

LETTERS = {"comprehension": "c", "grokking": "g", "memorization": "m", "confusion": "x", "collapse": "v", "diverged": "!"}
COLORS = {  # 256-colour codes near those of the figures
    "comprehension": 229,
    "grokking": 78,
    "memorization": 68,
    "confusion": 54,
    "collapse": 203,
    "diverged": 240,
}


@dataclass(frozen=True)
class Status:
    """A sweep at one moment. ``cells``: (y, x) -> counts of phases there."""

    name: str
    done: int
    total: int
    failed: int
    running: int  # stacks
    running_trials: int
    rate: float  # trial-steps per second
    seconds_left: float | None
    phases: Mapping[str, int]
    cells: Mapping[tuple[Any, Any], Counter[str]]
    x: tuple[str, Sequence[Any]]
    y: tuple[str, Sequence[Any]]
    note: str = ""


def line(status: Status) -> str:
    """Everything on one line."""
    phases = ", ".join(f"{status.phases[phase]} {phase}" for phase in PHASES if status.phases.get(phase))
    parts = [
        f"{status.done}/{status.total} trials",
        phases or "no phase yet",
        f"{status.running_trials} running in {status.running} stacks",
        f"{status.rate:,.0f} trial-steps/s",
        f"{duration(status.seconds_left)} left",
    ]
    if status.failed:
        parts.insert(1, f"{status.failed} FAILED")
    return " | ".join(parts + ([status.note] if status.note else []))


def picture(status: Status, columns: int = 80) -> list[str]:
    """The map: a coloured letter per cell by majority phase, small letters where seeds disagree."""
    (x_name, xs), (y_name, ys) = status.x, status.y
    labels = [short(y) for y in ys]
    margin = max((len(label) for label in labels), default=0) + 1
    wide = max((len(short(x)) for x in xs), default=1) + 1
    if not xs or margin + wide * len(xs) > columns:
        return []
    rows = [f"{y_name} \\ {x_name}" if y_name else x_name]
    for y, label in reversed(list(zip(ys, labels, strict=True))):
        rows.append(f"{label:>{margin - 1}} " + "".join(_cell(status.cells.get((y, x)), wide) for x in xs))
    rows.append(" " * margin + "".join(f"{short(x):^{wide}}" for x in xs))
    present = [phase for phase in PHASES if status.phases.get(phase)]
    rows.append(" " * margin + "  ".join(f"{_painted(LETTERS[phase].upper(), phase)} {phase}" for phase in present))
    return rows


def _cell(counts: Counter[str] | None, wide: int) -> str:
    if not counts:
        return f"{'·':^{wide}}"
    phase, most = counts.most_common(1)[0]
    letter = LETTERS.get(phase, "?")
    text = f"{letter.upper() if most == counts.total() else letter:^{wide}}"
    return _painted(text, phase)


def _painted(text: str, phase: str) -> str:
    color = COLORS.get(phase, 240)
    ink = 16 if color in (229, 78) else 231
    return f"\x1b[48;5;{color};38;5;{ink}m{text}\x1b[0m"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "? s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h"


def short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Screen:
    """Shows a status again and again until closed. ``status`` is asked from a thread of its own."""

    def __init__(self, status, stream: TextIO = sys.stdout, every: float | None = None):
        self.status, self.stream = status, stream
        self.live = stream.isatty()
        self.every = every or (0.5 if self.live else 15.0)
        self._drawn = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True, name="screen")

    def __enter__(self) -> Screen:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._show()

    def say(self, text: str) -> None:
        """A line that stays, above the live part."""
        with self._lock:
            self._erase()
            print(text, file=self.stream, flush=True)

    def _loop(self) -> None:
        while not self._stop.wait(self.every):
            self._show()

    def _show(self) -> None:
        status = self.status()
        with self._lock:
            if not self.live:
                print(f"{time.strftime('%H:%M:%S')} {line(status)}", file=self.stream, flush=True)
                return
            columns = shutil.get_terminal_size().columns
            rows = [*picture(status, columns), _cut(line(status), columns)]
            self._erase()
            print("\n".join(rows), file=self.stream, flush=True)
            self._drawn = len(rows)

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def _cut(text: str, columns: int) -> str:
    return text if len(text) < columns else text[: columns - 2] + "…"
