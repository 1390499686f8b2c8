"""Phase diagram: the phase of each cell of one, two or three axes, and how far its seeds agree.

``summarize`` counts phases per cell; ``draw`` puts one panel on paper. No phase is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, style
from .axis import Axis, axis_of, label, map_axes, text
from .cell import cells

TIED = ", two or more side by side where they are tied"


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per cell: its axes, phase (of most seeds; of a tie the one named
    first), agreement (share of seeds in it), n and one count per phase.

    With a continuous axis each trial is a cell of its own.
    """

    table: pd.DataFrame
    x: Axis
    y: Axis | None
    facet: str | None
    caption: str

    @property
    def counts(self) -> dict[str, int]:
        return {phase: int(self.table[phase].sum()) for phase in self.phases}

    @property
    def phases(self) -> tuple[str, ...]:
        """In their order: the columns after the count."""
        return tuple(self.table.columns[self.table.columns.get_loc("n") + 1 :])

    @property
    def continuous(self) -> bool:
        return self.x.continuous or bool(self.y and self.y.continuous)

    def panels(self) -> list[tuple[str, Summary]]:
        """One summary per value of the facet, with its title."""
        if self.facet is None:
            return [("", self)]
        name = self.facet
        return [
            (f"{name.replace('_', ' ')} {text(value)}", Summary(part, self.x, self.y, None, self.caption))
            for value, part in self.table.groupby(name)
        ]


def summarize(table: pd.DataFrame, x: str, y: str | None = None, facet: str | None = None) -> Summary:
    """Phases per cell of the finished trials in the table (columns phase, x, y, facet, seed).

    Phases: Liu et al. 2022, arXiv 2205.10343.
    """
    table = style.with_phases(table)
    keys, phases = [k for k in (x, y, facet) if k], style.phases_of(table)
    counts = table.groupby([*keys, "phase"]).size().unstack(fill_value=0).reindex(columns=list(phases), fill_value=0)
    n = counts.sum(axis=1)
    rows = counts.assign(phase=counts.idxmax(axis=1), agreement=counts.max(axis=1) / n, n=n).reset_index()
    rows = rows[[*keys, "phase", "agreement", "n", *phases]].rename_axis(columns=None)
    axes = axis_of(table, x), axis_of(table, y) if y else None
    if not any(a and a.continuous for a in axes):
        axes = axes[0].evenly(), axes[1].evenly() if axes[1] else None
    return Summary(rows, *axes, facet, _caption(table, rows, tuple(keys), axes))


def of_sweep(sweep: Sweep, x: str | None = None, y: str | None = None) -> Summary:
    """The axes named, then the first others that vary, three in all; a sweep of seeds alone has no diagram."""
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    names = map_axes(sweep, x, y)
    if not names:
        raise style.Absent("a phase diagram needs an axis besides the seed")
    return summarize(sweep.finished, *names)


def draw(ax: Axes, summary: Summary) -> None:
    """One panel: colored cells, points on continuous axes, or stacked shares along one axis.

    Where seeds disagree, a strip at the foot of the cell shows each seed's phase.
    """
    if summary.y is None:
        _draw_shares(ax, summary)
    elif summary.continuous:
        _draw_points(ax, summary, summary.y)
    else:
        _draw_cells(ax, summary, summary.y)


@style.applied()
def figure(summary: Summary) -> Figure:
    """All panels with one legend."""
    panels = summary.panels()
    rows, columns = style.grid(len(panels), most=4)
    width = style.MIDDLE if len(panels) == 1 else style.DOUBLE
    height = (62 if len(panels) == 1 else 52 * rows) * style.MM
    sheet, axes = style.sheet(rows, columns, width, height, summary.caption, sharex=True, sharey=True)
    for ax, (title, panel) in zip(axes.flat, panels, strict=False):
        draw(ax, panel)
        ax.set_title(title)
        if len(panels) > 1 and not summary.continuous and len(summary.x.values) > 5:
            ax.tick_params(axis="x", labelrotation=90)
    for ax in axes.flat:
        ax.label_outer()
    style.hide_rest(axes, len(panels))
    style.phase_legend(
        axes[0, -1], summary.counts, summary.continuous, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0
    )
    return sheet


def _draw_cells(ax: Axes, summary: Summary, y: Axis) -> None:
    uneven = summary.table.n.nunique() > 1
    looks = style.looks(summary.phases)
    for row, cell in cells(ax, summary.table, summary.x, y):
        most = max(row[phase] for phase in looks)
        leading = [phase for phase in looks if row[phase] == most]
        for i, phase in enumerate(leading):  # side by side where they are tied
            cell.fill(ax, (i / len(leading), (i + 1) / len(leading)), color=looks[phase][0], linewidth=0)
        cell.fill(ax, fill=False, edgecolor="white", linewidth=1)
        if row["agreement"] < 1:
            cell.strip(ax, [{"facecolor": looks[phase][0]} for phase in looks for _ in range(row[phase])])
        if uneven:
            color = style.ink(looks[row["phase"]][0])
            ax.text(*cell.at(0.5, 0.62), str(row["n"]), ha="center", va="center", fontsize=5, color=color)


def _draw_points(ax: Axes, summary: Summary, y: Axis) -> None:
    x = summary.x
    for phase, (color, marker) in style.looks(summary.phases).items():
        own = summary.table[summary.table[phase] > 0]
        if len(own):
            look: dict[str, Any] = {"marker": marker, "color": color}
            ax.scatter(x.places(own[x.name]), y.places(own[y.name]), s=16, edgecolor="#333333", linewidth=0.4, **look)
    x.dress(ax)
    y.dress(ax, "y")


def _draw_shares(ax: Axes, summary: Summary) -> None:
    x, cells = summary.x, summary.table.sort_values(summary.x.name)
    if x.continuous:
        heights = [summary.phases.index(phase) for phase in cells.phase]
        colors = [style.looks(summary.phases)[phase][0] for phase in cells.phase]
        ax.scatter(x.places(cells[x.name]), heights, c=colors, s=16, edgecolor="#333333", linewidth=0.4)
        ax.set_yticks(range(len(summary.phases)), summary.phases)
        x.dress(ax)
        return
    edges, base = x.edges, np.zeros(len(cells))
    for phase, (color, _) in style.looks(summary.phases).items():
        share = (cells[phase] / cells.n).to_numpy()
        ax.bar(edges[:-1], share, np.diff(edges), base, align="edge", color=color, edgecolor="white")
        base = base + share
    for value, n in zip(x.places(cells[x.name]), cells.n, strict=True):
        ax.text(value, 1.01, f"{n}", ha="center", va="bottom", fontsize=6)
    x.dress(ax)
    ax.set(ylabel="share of seeds", ylim=(0, 1.08), xlim=edges[[0, -1]])


def _ties(cells: pd.DataFrame, keys: tuple[str, ...]) -> bool:
    counts = cells.drop(columns=[*keys, "phase", "agreement", "n"])
    return bool((counts.eq(counts.max(axis=1), axis=0).sum(axis=1) > 1).any())


def _caption(table: pd.DataFrame, cells: pd.DataFrame, keys: tuple[str, ...], axes: tuple[Axis, Axis | None]) -> str:
    if any(a and a.continuous for a in axes):
        cell = "Each point is a trial"
    elif len(keys) == 1:
        cell = f"Share of seeds in each phase; above: n. {caption.seeds(cells.n)}"
    else:
        cell = (
            f"Color: phase of most seeds{TIED if _ties(cells, keys) else ''}; where seeds disagree, the strip shows "
            "each seed's phase. "
            f"{caption.seeds(cells.n)}"
        )
    what = f"Phase against {', '.join(label(k) for k in keys)}"
    return caption.join(what, cell, caption.phases(table), caption.sizes(table), caption.pooled(table, keys))
