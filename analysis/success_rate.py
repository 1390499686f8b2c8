"""Success rate: the share of trials that generalized, against one axis, with Wilson intervals and n.

One line per value of a second axis; from four lines on, one panel each, so that intervals stay
readable. Says nothing about when a trial generalized: see ``time_to_grok.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, style
from .axis import Axis, axis_of, in_order, text
from .statistics import wilson

TOGETHER = 3  # lines that fit into one panel with their intervals


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per value of x (and of ``by``): successes, n, rate, low, high."""

    table: pd.DataFrame
    x: Axis
    by: str | None
    caption: str

    def lines(self) -> list[tuple[str, pd.DataFrame]]:
        """Name and rows of each line, in the order of the second axis."""
        if self.by is None:
            return [("", self.table)]
        values = in_order(self.table, self.by)
        return [(f"{self.by.replace('_', ' ')} {text(v)}", self.table[self.table[self.by] == v]) for v in values]


def summarize(table: pd.DataFrame, x: str, by: str | None = None) -> Summary:
    """Successes are trials with a ``grok_step``; intervals: Wilson 1927, 95 %."""
    keys = [k for k in (x, by) if k]
    groups = (
        style.with_phases(table)
        .assign(won=lambda own: own.grok_step.notna())
        .groupby(keys)
        .won.agg(successes="sum", n="size")
        .reset_index()
    )
    estimates = [wilson(int(k), int(n)) for k, n in zip(groups.successes, groups.n, strict=True)]
    rates = groups.assign(
        rate=[e.value for e in estimates], low=[e.low for e in estimates], high=[e.high for e in estimates]
    )
    words = caption.join(
        "Share of trials that generalized within the steps run",
        caption.WILSON,
        "A number stands for n where points differ in it"
        if rates.n.nunique() > 1
        else f"n = {rates.n.iloc[0]} per point",
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, tuple(keys)),
    )
    return Summary(rates, axis_of(table, x), by, words)


def of_sweep(sweep: Sweep) -> Summary:
    """The first two axes that vary; a sweep of seeds alone gives one point, by task."""
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    names = sweep.cell_axes[:2] or ("task",)
    if any(axis_of(sweep.finished, n).continuous for n in names):
        raise style.Absent("a success rate needs several trials per value: a grid axis besides the seed")
    return summarize(sweep.finished, *names)


def draw(ax: Axes, summary: Summary) -> None:
    """All lines in one panel, set slightly apart so that their intervals do not hide each other."""
    lines = summary.lines()
    colors = style.colors(in_order(summary.table, summary.by) if summary.by else [""])
    for i, (name, rows) in enumerate(lines):
        _draw_line(ax, summary.x, rows, colors[i], i, (i - (len(lines) - 1) / 2) * 3.0, name)
    _dress(ax, summary)
    if summary.by:
        ax.legend(loc="best")


@style.applied()
def figure(summary: Summary) -> Figure:
    """One panel, or one per line when there are many."""
    lines = summary.lines()
    if len(lines) <= TOGETHER:
        sheet, axes = style.sheet(width=style.SINGLE, height=58 * style.MM, caption=summary.caption)
        draw(axes[0, 0], summary)
        return sheet
    rows, columns = style.grid(len(lines), most=5 if len(lines) % 5 == 0 or len(lines) < 5 else 4)
    height = 44 * style.MM * rows
    sheet, axes = style.sheet(rows, columns, style.DOUBLE, height, summary.caption, sharex=True, sharey=True)
    for ax, (name, part) in zip(axes.flat, lines, strict=False):
        _draw_line(ax, summary.x, part, style.BLUE, 0, 0.0, name)
        _dress(ax, summary)
        ax.set_title(name)
        ax.tick_params(axis="x", labelrotation=90 if len(summary.x.values) > 5 else 0)
        ax.label_outer()
    style.hide_rest(axes, len(lines))
    return sheet


def _draw_line(ax: Axes, x: Axis, rows: pd.DataFrame, color: object, order: int, shift: float, name: str) -> None:
    rows = rows.sort_values(x.name)
    error = np.array([(rows.rate - rows.low).clip(lower=0), (rows.high - rows.rate).clip(lower=0)])
    marker = style.MARKERS[order % len(style.MARKERS)]
    look = {"color": color, "capsize": 1.5, "elinewidth": 0.8, "transform": style.apart(ax, shift), "label": name}
    ax.errorbar(x.places(rows[x.name]), rows.rate, error, fmt=f"{marker}-", **look)  # type: ignore[arg-type]
    if rows.n.nunique() > 1:
        for place, high, n in zip(x.places(rows[x.name]), rows.high, rows.n, strict=True):
            ax.annotate(str(n), (place, high), (shift, 2), textcoords="offset points", ha="center", fontsize=5.5)


def _dress(ax: Axes, summary: Summary) -> None:
    summary.x.dress(ax)
    ax.set(ylabel="share generalized", ylim=(-0.04, 1.06))
    ax.set_yticks(*style.QUARTERS)
    ax.set_xlim(*summary.x.edges[[0, -1]])
