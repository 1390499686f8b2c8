"""Grok-step map: the outcome map of the grok step, also where it was not reached.

Trials that never generalized are censored, not dropped, so a cell can honestly read "> budget".
"""

from __future__ import annotations

import pandas as pd

from phasemap.record.reader import Sweep

from . import outcome_map
from .outcome_map import Summary, draw, figure

__all__ = ("draw", "figure", "of_sweep", "summarize")


def summarize(table: pd.DataFrame, x: str, y: str | None = None, facet: str | None = None) -> Summary:
    """Median grok step per cell (columns grok_step, steps_run, steps, phase and the axes)."""
    return outcome_map.summarize(table, "grok_step", x, y, facet)


def of_sweep(sweep: Sweep, x: str | None = None, y: str | None = None) -> Summary:
    """The axes named, then the first others that vary, three in all."""
    return outcome_map.of_sweep(sweep, "grok_step", x, y)
