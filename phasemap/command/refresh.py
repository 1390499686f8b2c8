"""Figures of a sweep that still runs, drawn now and then beside it.

Another process of the lowest priority draws, so the driver's own threads never wait for a figure. What goes wrong
there is reported once and harms nothing: the same figures are drawn at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from phasemap.command.figures import PACKAGE

if TYPE_CHECKING:
    from phasemap.record.writer import Recorder

EVERY = 300.0  # seconds between two drawings, and before the first: a short sweep draws at its end alone
FIGURES = ("phase_diagram", "interactive_map")
DRAWN = (0, 3)  # exit statuses; 3: one of them cannot be, and its picture says why


class Refresh:
    """Draws into the folder ``out`` while the ``with`` block runs, and logs it on the parent run."""

    def __init__(self, recorder: Recorder, out: Path, say: Callable[[str], None], every: float = EVERY):
        self.recorder, self.out, self.say, self.every = recorder, out, say, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True, name="refresh")

    def __enter__(self) -> Refresh:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        drawn, failed = 0, False
        while not self._stop.wait(self.every):
            recorded = len(self.recorder.done)
            if recorded == drawn:
                continue
            fault = self._draw()
            if self._stop.is_set():
                return
            if not fault:
                drawn = recorded
                self.recorder.artifacts(self.out)
                self.recorder.totals()
            elif not failed:
                failed = True
                self.say(f"no figures while it runs ({fault}); they are drawn at the end")

    def _draw(self) -> str:
        """Writes the figures; what went wrong, in short."""
        command = [sys.executable, "-m", PACKAGE, self.recorder.name, *FIGURES]
        try:
            drawing = subprocess.Popen(
                [*command, "--out", str(self.out)],
                # not among the words: others see them, and the address may hold a password
                env={**os.environ, "MLFLOW_TRACKING_URI": self.recorder.uri, "MPLBACKEND": "Agg"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is the driver's to answer
            )
            os.setpriority(os.PRIO_PROCESS, drawing.pid, 19)
        except OSError as error:
            return str(error)
        while True:
            try:
                errors = drawing.communicate(timeout=0.2)[1]
                if drawing.returncode in DRAWN:
                    return ""
                return (errors.strip().splitlines() or ["it ended without a word"])[-1]
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    drawing.kill()
