"""Precision: time to grok by number format, and each format's success rate minus that of fp32.

A difference comes with its interval: no star, no p-value.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, style, time_to_grok
from .axis import in_order
from .statistics import decided, rate_difference

REFERENCE = "fp32"


@dataclass(frozen=True)
class Summary:
    """``table``: precision, difference of the share generalized from fp32, low, high, successes, n."""

    table: pd.DataFrame
    curves: time_to_grok.Summary
    caption: str


def summarize(table: pd.DataFrame) -> Summary:
    """Over the columns precision, grok_step, steps_run, steps and phase."""
    curves = time_to_grok.summarize(table, "precision")
    won = decided(table).assign(won=lambda own: own.grok_step.notna()).groupby("precision").won.agg(["sum", "size"])
    if REFERENCE not in won.index or len(won) < 2:
        raise style.Absent("precision needs trials in fp32 and in another format")
    base = won.loc[REFERENCE]
    rows = []
    for name in (name for name in in_order(table, "precision") if name in won.index and name != REFERENCE):
        successes, n = won.loc[name]
        difference = rate_difference(int(successes), int(n), int(base["sum"]), int(base["size"]))
        rows.append((name, difference.value, difference.low, difference.high, int(successes), int(n)))
    differences = pd.DataFrame(rows, columns=["precision", "difference", "low", "high", "successes", "n"])
    words = caption.join(
        curves.caption, f"Right: share generalized minus that in {REFERENCE}, 95 % interval (Newcombe 1998, method 10)"
    )
    return Summary(differences, curves, words)


def of_sweep(sweep: Sweep) -> Summary:
    """All trials, by precision."""
    if "precision" not in sweep.cell_axes:
        raise style.Absent("this figure needs several values of precision")
    return summarize(sweep.finished)


def draw(ax: Axes, summary: Summary) -> None:
    """Survival curves by precision."""
    time_to_grok.draw(ax, summary.curves)
    ax.legend(title="precision (generalized / n)", title_fontsize=7, alignment="left", loc="best")


def draw_differences(ax: Axes, summary: Summary) -> None:
    """Differences of the share generalized, one row per format."""
    for i, row in enumerate(summary.table.itertuples()):
        error = [[row.difference - row.low], [row.high - row.difference]]
        ax.errorbar([row.difference], [i], xerr=error, fmt="o", color=style.BLUE, capsize=2)
    ax.axvline(0, color=style.GRAY, linewidth=0.7, linestyle=":")
    ax.set_yticks(range(len(summary.table)), [f"{r.precision} (n = {r.n})" for r in summary.table.itertuples()])
    ax.set(
        xlim=(-1.02, 1.02), ylim=(len(summary.table) - 0.4, -0.6), xlabel=f"share generalized minus that in {REFERENCE}"
    )


@style.applied()
def figure(summary: Summary) -> Figure:
    """Curves beside differences."""
    sheet, axes = style.sheet(1, 2, style.DOUBLE, 58 * style.MM, summary.caption)
    draw(axes[0, 0], summary)
    draw_differences(axes[0, 1], summary)
    return sheet
