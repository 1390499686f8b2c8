"""Grok-step map: the Kaplan–Meier median grok step of each cell, also where it was not reached.

Trials that never grokked are censored, not dropped, so a cell can honestly read "> budget".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from phasemap.record.reader import Sweep

from . import caption, style
from .axis import Axis, axis_of, plain_log, short, text
from .rate_and_step import bars, open_medians
from .statistics import grok_time

MAP = matplotlib.colormaps["cividis"]


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per cell: its axes, median, low, high (optimiser steps, infinite when
    not reached or open), grokked, n and budget (steps)."""

    table: pd.DataFrame
    x: Axis
    y: Axis | None
    facet: str | None
    caption: str

    @property
    def norm(self) -> LogNorm:
        low, high = style.value_range(self.table["median"])
        return LogNorm(low, max(high, low * 1.5))

    def panels(self) -> list[tuple[str, pd.DataFrame]]:
        """Rows and title of each panel."""
        if self.facet is None:
            return [("", self.table)]
        return [(f"{self.facet.replace('_', ' ')} {text(v)}", part) for v, part in self.table.groupby(self.facet)]


def summarise(table: pd.DataFrame, x: str, y: str | None = None, facet: str | None = None) -> Summary:
    """Median grok step per cell (columns grok_step, steps_run, steps, phase and the axes)."""
    if table.empty:
        raise style.Absent("no finished trial yet")
    keys = [k for k in (x, y, facet) if k]
    rows = []
    for place, cell in table.groupby(keys):
        time = grok_time(cell)
        m = time.median
        rows.append((*place, m.value, m.low, m.high, time.grokked, m.n, time.budget))
    cells = pd.DataFrame(rows, columns=[*keys, "median", "low", "high", "grokked", "n", "budget"])
    words = caption.join(
        "Kaplan–Meier median of the generalisation step; trials that did not generalise are censored at the steps they "
        "ran",
        "Hatched: fewer than half estimated to generalise within the budget; intervals stand in the CSV"
        if y
        else "Bars: 95 % intervals; open triangles: fewer than half estimated to generalise within the budget",
        "" if y else open_medians(cells.low),
        caption.grokked(table),
        caption.seeds(cells.n),
        caption.sizes(table),
        caption.pooled(table, tuple(keys)),
    )
    if y is None:
        return Summary(cells, axis_of(table, x), None, facet, words)
    return Summary(cells, axis_of(table, x).evenly(), axis_of(table, y).evenly(), facet, words)


def of_sweep(sweep: Sweep) -> Summary:
    """The first three axes that vary, none of them continuous."""
    names = sweep.cell_axes[:3]
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    if not names or any(axis_of(sweep.finished, n).continuous for n in names):
        raise style.Absent("a grok-step map needs cells with several trials: a grid axis besides the seed")
    return summarise(sweep.finished, *names)


def draw(ax: Axes, summary: Summary) -> None:
    """One panel: the first facet of the summary."""
    _draw_panel(ax, summary, summary.panels()[0][1])


@style.applied()
def figure(summary: Summary) -> Figure:
    """All panels with one colour bar."""
    panels = summary.panels()
    rows, columns = style.grid(len(panels), most=4)
    width = style.MIDDLE if len(panels) == 1 else style.DOUBLE
    height = (62 if len(panels) == 1 else 52 * rows) * style.MM
    sheet, axes = style.sheet(rows, columns, width, height, summary.caption, sharex=True, sharey=True)
    for ax, (title, part) in zip(axes.flat, panels, strict=False):
        _draw_panel(ax, summary, part)
        ax.set_title(title)
    for ax in axes.flat:
        ax.label_outer()
    style.hide_rest(axes, len(panels))
    if summary.y is not None and np.isfinite(summary.table["median"]).any():
        bar = sheet.colorbar(ScalarMappable(summary.norm, MAP), ax=axes, shrink=0.9)
        bar.set_label("median generalisation step\n(optimiser steps)")
        bar.outline.set_visible(False)  # type: ignore[operator]
        plain_log(bar.ax.yaxis)
        low, high = bar.ax.get_ylim()
        if high < 5 * low:  # 1, 2 and 5 times a power of ten would be one tick or two
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
    return sheet


def _draw_panel(ax: Axes, summary: Summary, cells: pd.DataFrame) -> None:
    if summary.y is None:
        _draw_line(ax, summary.x, cells)
        return
    x, y, norm = summary.x, summary.y, summary.norm
    left, right = (dict(zip(x.values, e, strict=True)) for e in (x.edges[:-1], x.edges[1:]))
    low, high = (dict(zip(y.values, e, strict=True)) for e in (y.edges[:-1], y.edges[1:]))
    x.dress(ax)
    y.dress(ax, "y")
    ax.set(xlim=x.edges[[0, -1]], ylim=y.edges[[0, -1]], facecolor=style.NOTHING)
    for cell in cells.to_dict("records"):
        a, b, c, d = left[cell[x.name]], right[cell[x.name]], low[cell[y.name]], high[cell[y.name]]
        reached = np.isfinite(cell["median"])
        look: dict[str, Any] = (
            {"facecolor": MAP(norm(cell["median"]))} if reached else {"facecolor": "white", "hatch": "////"}
        )
        edge = "white" if reached else "#b5b5b5"
        ax.add_patch(Rectangle((a, c), b - a, d - c, edgecolor=edge, linewidth=1 if reached else 0, **look))
        words = short(cell["median"]) if reached else f">{short(cell['budget'])}"
        light = reached and norm(cell["median"]) < 0.5
        box = None if reached else {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        middle = x.between(a, b, 0.5), y.between(c, d, 0.5)
        ax.text(*middle, words, ha="center", va="center", fontsize=6, color="white" if light else "#222222", bbox=box)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=2)


def _draw_line(ax: Axes, x: Axis, cells: pd.DataFrame) -> None:
    places, budget = x.places(cells[x.name]), cells.budget.max()
    reached = np.isfinite(cells["median"].to_numpy())
    middle = cells["median"].where(reached, budget)
    ax.axhline(budget, color=style.GREY, linewidth=0.6, linestyle="--", label="budget")
    ax.errorbar(
        places,
        middle,
        bars(middle, cells.low, cells.high, budget),
        fmt="none",
        ecolor=style.BLUE,
        elinewidth=0.9,
        capsize=2,
    )
    ax.plot(places[reached], middle[reached], "o-", color=style.BLUE, label="median generalisation step")
    if not reached.all():
        ax.plot(places[~reached], middle[~reached], "^", color=style.BLUE, fillstyle="none", label="not reached")
    for place, n in zip(places, cells.n, strict=True):
        ax.annotate(str(n), (place, 1.0), (0, 1), ("data", "axes fraction"), "offset points", ha="center", fontsize=6)
    ax.set(ylabel="median generalisation step\n(optimiser steps)", yscale="log")
    plain_log(ax.yaxis)
    x.dress(ax)
    ax.legend()
