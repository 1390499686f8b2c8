"""What a person sees while a sweep runs: a map filling in on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TextIO

from phasemap.maps.axes import spacing
from phasemap.plan.space import Space
from phasemap.plan.trial import Trial
from phasemap.words import count

LETTERS = {
    "comprehension": "c",
    "grokking": "g",
    "memorization": "m",
    "confusion": "x",
    "collapse": "v",
    "diverged": "!",
}
COLORS = {  # 256-color codes near those of the figures
    "comprehension": 228,
    "grokking": 79,
    "memorization": 166,
    "confusion": 62,
    "collapse": 89,
    "diverged": 232,
}
OTHERS = (228, 79, 166, 62, 89, 215, 30, 150)  # of phases that a rule of the user's names, in their order


@dataclass(frozen=True)
class Map:
    """Recorded trials on the first two axes of a sweep. ``cells``: (row, column) -> counts of phases."""

    x: str
    y: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[int, int], Counter[str]]
    phases: Counter[str]
    names: tuple[str, ...]  # of the phases, in their order

    @classmethod
    def of(cls, space: Space, recorded: Sequence[tuple[Trial, str]]) -> Map:
        axes = [name for name in space.axes if name != "seed"][:2]
        x, y = (*axes, "", "")[:2]
        columns, rows = Bins.of(space, x), Bins.of(space, y)
        cells: dict[tuple[int, int], Counter[str]] = {}
        for trial, phase in recorded:
            place = rows.place(getattr(trial, y) if y else None), columns.place(getattr(trial, x) if x else None)
            cells.setdefault(place, Counter())[phase] += 1
        counts = Counter(phase for _, phase in recorded)
        return cls(x, y, columns.labels, rows.labels, cells, counts, space.phase_names)


@dataclass(frozen=True)
class Bins:
    """The values of a grid axis, or 12 equal parts of a continuous one."""

    values: tuple[Any, ...]

    @classmethod
    def of(cls, space: Space, name: str) -> Bins:
        if name in space.grid:
            return cls(tuple(space.grid[name]))
        axis = space.distributions.get(name)
        if axis is None:
            return cls((None,))
        if hasattr(axis, "choices"):
            return cls(tuple(axis.choices))
        low, high = (math.log(end) if axis.log else end for end in (axis.low, axis.high))
        middles = [low + (high - low) * (i + 0.5) / 12 for i in range(12)]
        return cls(tuple(math.exp(middle) if axis.log else middle for middle in middles))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple("" if value is None else short(value) for value in self.values)

    def place(self, value: Any) -> int:
        """Index of the value, or of the nearest bin."""
        if value in self.values:
            return self.values.index(value)
        distance = [abs(math.log(one / value)) if self._ratios else abs(one - value) for one in self.values]
        return distance.index(min(distance))

    @cached_property
    def _ratios(self) -> bool:
        """Whether numbers are near by their ratio, not by their difference."""
        return spacing(sorted(self.values)) != "linear" and min(self.values) > 0


@dataclass(frozen=True)
class Status:
    """A sweep at one moment."""

    name: str
    total: int  # trials
    map: Map
    failed: int = 0  # trials
    pace: Pace | None = None  # None where nobody runs it


@dataclass(frozen=True)
class Pace:
    """How fast a sweep goes on. A stack trains from its first report on; before it compiles or waits for a slot."""

    training: int  # trials
    stacks: int  # of them
    starting: int  # trials that wait for the first report of their stack
    rate: float  # trial-steps per second
    seconds_left: float | None  # None until anything is known


def line(status: Status, phases: bool = True) -> str:
    """Everything on one line, the time left first: what stands last is cut off on a narrow terminal. Without the phases
    where they stand in the picture's key."""
    counts, pace = status.map.phases, status.pace
    by_phase = ", ".join(f"{counts[phase]} {phase}" for phase in status.map.names if counts[phase])
    parts = [f"{counts.total()}/{count(status.total, 'trial')}", *([by_phase or "no phase yet"] if phases else [])]
    if status.failed:
        parts.insert(1, f"{status.failed} FAILED")
    if pace and pace.seconds_left is not None:
        parts.insert(0, f"{duration(pace.seconds_left)} left")
    if pace and pace.training:
        parts.append(f"{pace.training} training in {count(pace.stacks, 'stack')}")
    if pace and pace.starting and not pace.training:
        parts.append(f"{pace.starting} starting")
    if pace and pace.rate:
        parts.append(f"{pace.rate:,.0f} trial-steps/s")
    return " | ".join(parts)


def picture(field: Map, columns: int = 80) -> list[str]:
    """The map: a letter per cell by majority phase, small where trials disagree, on a color where colors are wanted."""
    margin = max([len(label) for label in field.rows] + [len(field.y)]) + 1
    wide = max(len(label) for label in field.columns) + 1
    if not field.x or margin + wide * len(field.columns) > columns:
        return []
    rows = [field.y] if field.y else []
    for y in reversed(range(len(field.rows))):
        cells = "".join(_cell(field.cells.get((y, x)), wide, field.names) for x in range(len(field.columns)))
        rows.append(f"{field.rows[y]:>{margin - 1}} {cells}")
    rows.append(" " * margin + "".join(f"{label:^{wide}}" for label in field.columns) + f" {field.x}")
    return [*rows, *_keys(field, margin, columns)]


def _keys(field: Map, margin: int, columns: int) -> list[str]:
    """What the letters mean, with the trials of each; a row too long would wrap and be erased wrongly."""
    rows, room = [], 0
    for phase in (phase for phase in field.names if field.phases[phase]):
        words = f" {phase} {field.phases[phase]}  "
        if room < len(words) + 3:
            rows.append(" " * margin)
            room = columns - margin
        rows[-1] += _painted(f" {letter(phase, field.names).upper()} ", phase, field.names) + words
        room -= len(words) + 3
    return rows


def _cell(counts: Counter[str] | None, wide: int, names: tuple[str, ...]) -> str:
    if not counts:
        return f"{'·':^{wide}}"
    phase, most = counts.most_common(1)[0]
    sign = letter(phase, names)
    text = f"{sign.upper() if most == counts.total() else sign:^{wide}}"
    return _painted(text, phase, names)


def letter(phase: str, names: tuple[str, ...]) -> str:
    """A letter of its own for each phase: ours have theirs, others the first of their name that is free."""
    taken = {LETTERS[name] for name in names if name in LETTERS}
    for name in names:
        free = [sign for sign in [*name.lower(), *"abcdefghijklmnopqrstuvwxyz"] if sign.isalnum() and sign not in taken]
        sign = LETTERS.get(name) or (free or ["?"])[0]
        taken.add(sign)
        if name == phase:
            return sign
    return "?"


def _painted(text: str, phase: str, names: tuple[str, ...]) -> str:
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        return text
    others = [name for name in names if name not in COLORS]
    color = OTHERS[others.index(phase) % len(OTHERS)] if phase in others else COLORS.get(phase, 240)
    ink = 16 if color in (228, 79, 215, 150) else 231
    return f"\x1b[48;5;{color};38;5;{ink}m{text}\x1b[0m"


def duration(seconds: float) -> str:
    """A duration in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h"


def short(value: Any) -> str:
    """Three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Doing:
    """Says what is being done; on a terminal with the seconds it has taken, on a line that goes when it is done.

    ``plain``: elsewhere too.
    """

    def __init__(self, text: str, stream: TextIO | None = None, plain: bool = True):
        self.text, self.stream, self.plain = text, stream or sys.stdout, plain
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True, name="doing")

    def __enter__(self) -> None:
        if is_live(self.stream):
            self._thread.start()
        elif self.plain:
            print(self.text, file=self.stream, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()

    def _loop(self) -> None:
        start, shown = time.monotonic(), self.text
        while True:
            # the cursor stays at the line's start: whatever else is printed stands on a line of its own
            self.stream.write(f"{_cut(shown, shutil.get_terminal_size().columns)}\r")
            self.stream.flush()
            done = self._stop.wait(1.0)
            self.stream.write("\x1b[K")
            if done:
                self.stream.flush()
                return
            shown = f"{self.text} ({time.monotonic() - start:.0f} s)"


def is_live(stream: TextIO) -> bool:
    """Whether it is a terminal on which lines can be drawn again."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Screen:
    """Shows a status again and again until closed. ``status`` is asked from a thread of its own."""

    def __init__(self, status: Callable[[], Status], stream: TextIO | None = None, every: float | None = None):
        self.status, self.stream = status, stream or sys.stdout
        self.live = is_live(self.stream)
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
        self._drawn = 0  # what is printed from now on stands below

    def say(self, text: str) -> None:
        """A line that stays, above the live part."""
        with self._lock:
            self._erase()
            print(text, file=self.stream, flush=True)

    def _loop(self) -> None:
        pause = self.every
        while not self._stop.wait(pause):
            start = time.perf_counter()
            try:
                self._show()
            except BrokenPipeError:  # nobody reads it any more: as Ctrl-C
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
            pause = max(self.every, 50 * (time.perf_counter() - start))  # a map of thousands takes its time

    def _show(self) -> None:
        status = self.status()
        with self._lock:
            if not self.live:
                print(f"{time.strftime('%H:%M:%S')} {line(status)}", file=self.stream, flush=True)
                return
            columns = shutil.get_terminal_size().columns
            drawn = picture(status.map, columns)
            rows = [*drawn, _cut(line(status, phases=not drawn), columns)]
            self._erase()
            print("\n".join(rows), file=self.stream, flush=True)
            self._drawn = len(rows)

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def _cut(text: str, columns: int) -> str:
    return text if len(text) < columns else text[: columns - 2] + "…"
