"""Data-fraction curve: share generalized, and the delay between memorizing and grokking, against data.

Little data memorizes only; much data generalizes at once; between them lies the delay.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, rate_and_step, style
from .axis import Axis, axis_of


@dataclass(frozen=True)
class Summary:
    """``table``: as ``rate_and_step.summarize`` gives it, where step is the delay."""

    table: pd.DataFrame
    x: Axis
    by: str | None
    caption: str


def summarize(table: pd.DataFrame, by: str | None = None) -> Summary:
    """Over the columns data_fraction, grok_step, memorization_step, steps_run, steps and phase."""
    rows = rate_and_step.summarize(table, "data_fraction", by, delay=True)
    words = caption.join(
        "Share of trials that generalized (95 % Wilson intervals, n) and Kaplan–Meier median of the delay from "
        "memorization to grok step, of those that memorized, against the share of examples trained on; open "
        "triangle: median not reached within the budget (dashed)",
        rate_and_step.open_medians(rows.step_low),
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, tuple(k for k in ("data_fraction", by) if k)),
    )
    return Summary(rows, axis_of(table, "data_fraction"), by, words)


def of_sweep(sweep: Sweep) -> Summary:
    """A line per value of the next axis."""
    if "data_fraction" not in sweep.cell_axes:
        raise style.Absent("a data-fraction curve needs several values of data_fraction")
    if axis_of(sweep.finished, "data_fraction").continuous:
        raise style.Absent("a data-fraction curve needs several trials per value of data_fraction")
    return summarize(sweep.finished, rate_and_step.second(sweep.cell_axes, "data_fraction", sweep.finished))


def draw(ax: Axes, summary: Summary) -> None:
    """Share generalized."""
    rate_and_step.draw_rates(ax, summary.table, summary.x, summary.by)


def figure(summary: Summary) -> Figure:
    """Share beside delay."""
    return rate_and_step.figure(summary.table, summary.x, summary.by, summary.caption, "median delay (steps)")
