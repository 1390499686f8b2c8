"""Time to grok: Kaplan–Meier curves of the share generalized by each step, one per value of an axis.

The curve of a group that never reaches one half has no median, and none is made up for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, style
from .axis import axis_of, in_order, text
from .statistics import grok_time

BANDS = 4  # more bands than this in one panel hide each other


@dataclass(frozen=True)
class Summary:
    """``table`` has the columns group, panel, step, grokked, low, high (shares); ``groups`` a row
    per curve: panel, group, median, low, high (optimizer steps), grokked, n."""

    table: pd.DataFrame
    groups: pd.DataFrame
    by: str | None
    panel: str | None
    budget: float
    caption: str


def summarize(table: pd.DataFrame, by: str | None = None, panel: str | None = None) -> Summary:
    """One curve per value of ``by`` within each value of ``panel``, over the columns grok_step,
    steps_run, steps and phase."""
    if table.empty:
        raise style.Absent("no finished trial yet")
    curves, rows = [], []
    keys = table[panel] if panel else pd.Series("", table.index)
    for title, part in table.groupby(keys):
        for value in in_order(part, by) if by else ("all trials",):
            group = part[part[by] == value] if by else part
            time = grok_time(group)
            m = time.median
            curves.append(time.curve.assign(panel=title, group=value))
            rows.append((title, value, m.value, m.low, m.high, time.grokked, m.n))
    groups = pd.DataFrame(rows, columns=["panel", "group", "median", "low", "high", "grokked", "n"])
    words = caption.join(
        "Kaplan–Meier estimate of the share generalized by a step; a tick marks the end of the steps run by trials "
        "that did not generalize (censored there, not dropped)",
        "Gray at zero: no trial generalized" if not groups.grokked.all() else "",
        f"{caption.seeds(groups.n)}".replace("cell", "curve").replace("seed", "trial"),
        "Bands: 95 % (log-log)"
        if groups.groupby("panel").size().max() <= BANDS
        else "95 % bands stand in the CSV: so many would hide each other",
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, tuple(k for k in (by, panel) if k)),
    )
    return Summary(pd.concat(curves, ignore_index=True), groups, by, panel, float(table.steps.max()), words)


def of_sweep(sweep: Sweep) -> Summary:
    """Curves over the first axis, panels over the second."""
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    names = sweep.cell_axes[:2]
    if any(axis_of(sweep.finished, n).continuous for n in names):
        names = ()
    return summarize(sweep.finished, *names)


def draw(ax: Axes, summary: Summary) -> None:
    """The first panel of the summary."""
    _draw_panel(ax, summary, summary.groups.panel.iloc[0])


@style.applied()
def figure(summary: Summary) -> Figure:
    """All panels with one legend."""
    titles = list(dict.fromkeys(summary.groups.panel))
    rows, columns = style.grid(len(titles), most=3)
    width = style.DOUBLE if len(titles) > 1 else style.MIDDLE if summary.by else style.SINGLE
    height = (62 if len(titles) == 1 else 48 * rows) * style.MM
    sheet, axes = style.sheet(rows, columns, width, height, summary.caption, sharex=True, sharey=True)
    for ax, title in zip(axes.flat, titles, strict=False):
        _draw_panel(ax, summary, title)
        ax.set_title(f"{summary.panel.replace('_', ' ')} {text(title)}" if summary.panel else "")
    for i, ax in enumerate(axes.flat):
        if i % columns:
            ax.set_ylabel("")
        if i + columns < len(titles):
            ax.set_xlabel("")
        ax.tick_params(labelbottom=i + columns >= len(titles))
    style.hide_rest(axes, len(titles))
    if summary.by:
        handles = _handles(axes.flat[: len(titles)])
        heading = summary.by.replace("_", " ") + ("" if summary.panel else " (generalized / n)")
        sheet.legend(
            handles.values(),
            handles.keys(),
            title=heading,
            title_fontsize=7,
            alignment="left",
            loc="outside right upper",
        )
    return sheet


def _handles(panels: Iterable[Axes]) -> dict[str, Any]:
    """A line of each name: one that is gray in a panel, where no trial generalized, has its color in another."""
    handles: dict[str, Any] = {}
    for ax in panels:
        for line, name in zip(*ax.get_legend_handles_labels(), strict=True):
            if name not in handles or handles[name].get_color() == style.GRAY:
                handles[name] = line
    return handles


def _draw_panel(ax: Axes, summary: Summary, title: object) -> None:
    groups = summary.groups[summary.groups.panel == title]
    counted = summary.panel is None
    colors = style.colors(groups.group.tolist())
    curves = summary.table[summary.table.panel == title]
    for i, (color, row) in enumerate(zip(colors, groups.itertuples(), strict=True)):
        curve = curves[curves.group == row.group]
        name = f"{text(row.group)} ({row.grokked}/{row.n})" if counted else text(row.group)
        dash = style.DASHES[i % len(style.DASHES)]
        if not row.grokked:  # all of these lie on one another, at zero
            ax.plot([0, curve.step.iloc[-1]], [0, 0], color=style.GRAY, linewidth=0.8, label=name, zorder=1)
            ax.plot(curve.step.iloc[-1], 0, "|", color=style.GRAY, markersize=6)
            continue
        ax.step(curve.step, curve.grokked, where="post", color=color, linestyle=dash, label=name)
        if len(groups) <= BANDS:
            ax.fill_between(curve.step, curve.low, curve.high, step="post", color=color, alpha=0.18, linewidth=0)
        if row.grokked < row.n:
            ax.plot(curve.step.iloc[-1], curve.grokked.iloc[-1], "|", color=color, markersize=6)
    ax.set(ylabel="share generalized", ylim=(-0.02, 1.04), xlim=(0, summary.budget * 1.02))
    style.steps_along(ax)
