"""Learnability ladder: test accuracy of each task beside its ceiling and its train/test overlap.

An accuracy at the ceiling is all that can be learned; one with full overlap may be lookup.
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
from .axis import text
from .statistics import median

AXES = ("task", "context", "split")
LADDER = ("periodic", "lfsr_5", "lcg_simple", "lfsr_31", "lcg_glibc", "csprng")  # top to bottom


@dataclass(frozen=True)
class Summary:
    """``table``: name, the axes that vary, n, accuracy with low and high (95 %, infinite when n < 6),
    ceiling and overlap (means); ``trials``: name and accuracy of each trial."""

    table: pd.DataFrame
    trials: pd.DataFrame
    caption: str


def summarize(table: pd.DataFrame, axes: tuple[str, ...] = ("task",)) -> Summary:
    """Final test accuracy per rung: median with the interval of its order statistics."""
    table = table.dropna(subset=["final_test_accuracy", "ceiling"])
    if table.empty:
        raise style.Absent("a learnability ladder needs finished trials whose task states its ceiling")
    rows, trials = [], []
    for place, cell in table.groupby(list(axes)):
        name = ", ".join(text(v) if a == "task" else f"{a} {text(v)}" for a, v in zip(axes, place, strict=True))
        final = median(cell.final_test_accuracy)
        rows.append(
            (name, *place, final.n, final.value, final.low, final.high, cell.ceiling.mean(), cell.overlap.mean())
        )
        trials.append(pd.DataFrame({"name": name, "accuracy": cell.final_test_accuracy}))
    columns = ["name", *axes, "n", "accuracy", "low", "high", "ceiling", "overlap"]
    rungs = pd.DataFrame(rows, columns=columns)
    if "task" in axes:
        order = rungs.task.map(lambda t: LADDER.index(t) if t in LADDER else len(LADDER))
        rungs = rungs.assign(order=order).sort_values(["order", *axes], kind="stable").drop(columns="order")
    words = caption.join(
        "Test accuracy at the last step (crosses: one per trial; circle: median, bar: 95 % interval of its order "
        "statistics from 6 trials on), the ceiling (line: best accuracy that the tokens shown allow), "
        "and the overlap (diamond: share of test examples whose input also stands in the training set)",
        f"{int(table.steps.min()):,} to {int(table.steps.max()):,} steps"
        if table.steps.nunique() > 1
        else f"{int(table.steps.max()):,} steps",
        caption.pooled(table, axes),
    )
    return Summary(rungs.reset_index(drop=True), pd.concat(trials, ignore_index=True), words)


def of_sweep(sweep: Sweep) -> Summary:
    """A rung per task, context and split that vary."""
    axes = tuple(a for a in AXES if a in sweep.cell_axes)
    if not axes:
        raise style.Absent("a learnability ladder needs several tasks, contexts or splits")
    return summarize(sweep.finished, axes)


def draw(ax: Axes, summary: Summary) -> None:
    """Rungs from top to bottom."""
    for i, row in enumerate(summary.table.itertuples()):
        own = summary.trials.loc[summary.trials.name == row.name, "accuracy"]
        names = ("ceiling", "trials", "accuracy (median)", "overlap") if i == 0 else ("", "", "", "")
        look: dict[str, Any] = {"color": style.BLUE, "capsize": 2, "elinewidth": 0.9, "zorder": 3}
        bar = [[max(row.accuracy - row.low, 0)], [max(row.high - row.accuracy, 0)]] if np.isfinite(row.low) else None
        ax.plot([row.ceiling] * 2, [i - 0.36, i + 0.36], color="#1a1a1a", linewidth=1.6, label=names[0])
        ax.plot(own, np.full(len(own), i), "x", color=style.BLUE, alpha=0.5, markersize=3.5, label=names[1])
        ax.errorbar([row.accuracy], [i], xerr=bar, fmt="o", label=names[2], **look)
        ax.plot(row.overlap, i, "D", color=style.ORANGE, fillstyle="none", markersize=5, label=names[3])
        ax.annotate(
            f"n = {row.n}", (1.02, i), (0, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=6
        )
    ax.set_yticks(range(len(summary.table)), summary.table.name)
    ax.set(xlim=(-0.03, 1.04), ylim=(len(summary.table) - 0.4, -0.6), xlabel="share of test examples")
    ax.grid(axis="x", linewidth=0.3, color="#dddddd")


@style.applied()
def figure(summary: Summary) -> Figure:
    """One panel, as high as it has rungs."""
    height = (18 + 7 * len(summary.table)) * style.MM
    sheet, axes = style.sheet(width=style.MIDDLE, height=height, caption=summary.caption)
    draw(axes[0, 0], summary)
    handles, names = axes[0, 0].get_legend_handles_labels()
    sheet.legend(handles, names, loc="outside upper right", ncols=4)
    return sheet
