"""Stride spectrum: how many frequencies carry the circle, which strides win, and whether the one predicts the other.

Frequencies are those of the class vectors on their cyclic group (Nanda et al. 2023, arXiv 2301.05217); all is
measured while training, and what each name means stands with ``Outcome`` in ``phasemap.plan.outcome``.
Records made before
a column existed get the panels that they can fill; the others say what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from phasemap.record.reader import Sweep, load_curves
from phasemap.words import count

from . import caption, style
from .learning_curves import describe, telling_cell
from .statistics import wilson

READINGS: dict[str, Any] = {"outer": ("", style.ORANGE, "-", "o"), "inner": ("inner_", style.PURPLE, "--", "s")}
COUNTS = {f"{prefix}spectrum_frequencies": reading for reading, (prefix, *_) in READINGS.items()}
SCORES = {f"{prefix}winning_stride_score": reading for reading, (prefix, *_) in READINGS.items()}
CHANCE = 0.05  # p-value from which on a winning stride is one that relabeled classes would show as well


@dataclass(frozen=True)
class Summary:
    """``table``: a row per trial and reading ("outer", "inner"): seed, stride and its p_value as measured, predicted
    stride and dominant frequency, NaN where not recorded; ``curves``: run_id, key, step, value of the same trials."""

    table: pd.DataFrame
    curves: pd.DataFrame
    caption: str


def summarize(cell: pd.DataFrame, curves: pd.DataFrame) -> Summary:
    """The trials of one cell (columns run_id, seed and the outcomes on strides) and their curves."""
    table = pd.DataFrame([row for trial in cell.to_dict("records") for row in _rows(trial)])
    if table.empty:
        raise style.Absent("a stride spectrum needs winning strides: a task on a cyclic group")
    own = curves[curves.run_id.isin(cell.run_id) & curves.key.isin([*COUNTS, *SCORES])].reset_index(drop=True)
    words = caption.join(
        "Frequencies that hold 90 % of the power of the class vectors; adjacency score of the winning stride; stride "
        "measured against the one that the power predicts (open: the score is no better than chance, p ≥ "
        f"{CHANCE}; number: trials that share a mark)",
        _agreement(table),
        f"{caption.every(cell.run_id.nunique(), 'seed')} of one cell ({describe(cell)})",
        caption.sizes(cell),
    )
    return Summary(table, own, words)


def of_sweep(sweep: Sweep) -> Summary:
    """The cell in which grokking is best seen."""
    cell = telling_cell(sweep.finished, sweep.cell_axes)
    return summarize(cell, load_curves(cell.run_id, sweep.tracking_uri or None, (*COUNTS, *SCORES)))


def draw_counts(ax: Axes, summary: Summary) -> None:
    """Number of frequencies against step, a line per seed and reading."""
    _draw_curves(ax, summary, COUNTS, "frequencies\n(90 % of the power)")
    ax.set_ylim(0, None)
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def draw_scores(ax: Axes, summary: Summary) -> None:
    """Scores of the winning strides against step."""
    _draw_curves(ax, summary, SCORES, "adjacency score")
    ax.set_ylim(-0.03, 1.05)


def draw(ax: Axes, summary: Summary) -> None:
    """Measured stride against predicted stride; a number says how many trials share a mark."""
    pairs = summary.table.dropna(subset=["stride", "predicted"])
    if pairs.empty:
        _say(ax, "predicted_stride")
        return
    most = max(pairs.stride.max(), pairs.predicted.max())
    ax.plot([0, most + 1], [0, most + 1], color=style.GRAY, linewidth=0.7, zorder=1)
    spots = pairs.assign(sure=pairs.p_value < CHANCE).groupby(["reading", "sure", "predicted", "stride"]).size()
    for (reading, sure, predicted, stride), trials in sorted(spots.items(), key=lambda spot: spot[0][0], reverse=True):
        _, color, _, marker = READINGS[reading]
        size, side = (8.0, -1) if reading == "outer" else (4.0, 1)  # one place may hold both: the small one inside
        look = {"color": color, "markerfacecolor": color if sure else "white", "markersize": size}
        ax.plot([predicted], [stride], marker, markeredgecolor="white" if sure else color, **look)
        if trials > 1:
            where: dict[str, Any] = {"xytext": (8 * side, -2), "textcoords": "offset points", "ha": "center"}
            ax.annotate(f"{trials}", (predicted, stride), fontsize=6, color=color, **where)
    ax.set(xlabel="predicted stride", ylabel="winning stride", xlim=(0, most + 1), ylim=(0, most + 1))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


@style.applied()
def figure(summary: Summary) -> Figure:
    """Counts, scores, and prediction beside measurement."""
    sheet, axes = style.sheet(1, 3, style.DOUBLE, 56 * style.MM, summary.caption)
    draw_counts(axes[0, 0], summary)
    draw_scores(axes[0, 1], summary)
    draw(axes[0, 2], summary)
    looks = {r: look for r, look in READINGS.items() if r in set(summary.table.reading)}
    lines = [Line2D([], [], color=c, linestyle=dash, marker=marker) for _, c, dash, marker in looks.values()]
    sheet.legend(lines, [f"{reading} stride" for reading in looks], loc="outside upper left", ncols=2)
    return sheet


def _rows(trial: dict[str, Any]) -> Iterator[dict[str, object]]:
    for reading, (prefix, *_) in READINGS.items():
        names = {
            "stride": f"{prefix}winning_stride",
            "p_value": f"{prefix}winning_stride_p_value",
            "predicted": f"{prefix}predicted_stride",
            "dominant_frequency": f"{prefix}dominant_frequency",
        }
        values = {short: trial.get(name, math.nan) for short, name in names.items()}
        if pd.notna(values["stride"]):
            yield {"run_id": trial["run_id"], "seed": trial["seed"], "reading": reading} | values


def _agreement(table: pd.DataFrame) -> str:
    """How often the prediction holds, for strides that chance does not explain."""
    sure = table[(table.p_value < CHANCE) & table.predicted.notna()]
    if sure.empty:
        return ""
    rate = wilson(int((sure.stride == sure.predicted).sum()), len(sure))
    return (
        f"Of the {count(rate.n, 'stride')} better than chance, {rate.value:.0%} "
        f"[{rate.low:.0%}, {rate.high:.0%}] are the one predicted (Wilson)"
    )


def _draw_curves(ax: Axes, summary: Summary, keys: dict[str, str], name: str) -> None:
    shown = summary.curves[summary.curves.key.isin(keys)]
    if shown.empty:
        _say(ax, next(iter(keys)))
        return
    for (key, _), curve in shown.groupby(["key", "run_id"]):
        _, color, dash, _ = READINGS[keys[str(key)]]
        marker = READINGS[keys[str(key)]][3] if len(curve) == 1 else ""  # a single probe is a point, not a line
        ax.plot(curve.step, curve.value, dash, marker=marker, color=color, linewidth=0.9, alpha=0.7)
    ax.set_ylabel(name)
    style.steps_along(ax)


def _say(ax: Axes, column: str) -> None:
    ax.axis("off")
    message = f"{column}\nnot recorded\nin these trials"
    ax.text(0.5, 0.5, message, ha="center", va="center", color="#333333", transform=ax.transAxes)
