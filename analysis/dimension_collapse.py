"""Dimension collapse: intrinsic dimension of the hidden vectors against steps, grok steps marked.

Shows the seeds of one cell; the dimension itself is measured while training, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep, load_curves

from . import caption, style
from .learning_curves import describe, telling_cell

KEY = "intrinsic_dimension"


@dataclass(frozen=True)
class Summary:
    """``table``: run_id, seed, step, value (dimension); ``groks``: run_id, seed, step, value, the
    dimension read off at each trial's grok step."""

    table: pd.DataFrame
    groks: pd.DataFrame
    width: int
    caption: str


def summarize(cell: pd.DataFrame, curves: pd.DataFrame) -> Summary:
    """Dimension: principal components holding 95 % of the variance of the hidden test vectors."""
    points = cell[["run_id", "seed"]].merge(curves[curves.key == KEY].drop(columns="key"), on="run_id")
    points = points.sort_values(["seed", "run_id", "step"]).dropna(subset="value")
    if points.empty:
        raise style.Absent("no intrinsic dimension was recorded along the way")
    groks = cell.loc[cell.grok_step.notna(), ["run_id", "seed", "grok_step"]].rename(columns={"grok_step": "step"})
    groks = groks.assign(
        value=[_read(points[points.run_id == run], step) for run, step in zip(groks.run_id, groks.step, strict=True)]
    )
    words = caption.join(
        "Principal components holding 95 % of the variance of the hidden test vectors; triangles: the grok step of "
        f"each seed; {len(groks)} of {len(cell)} seeds generalized ({describe(cell)})",
        caption.grokked(cell),
        caption.sizes(cell),
    )
    return Summary(points, groks.dropna(subset="value"), int(cell.width.max()), words)


def of_sweep(sweep: Sweep) -> Summary:
    """The cell in which grokking is best seen."""
    cell = telling_cell(sweep.finished, sweep.cell_axes)
    return summarize(cell, load_curves(cell.run_id, sweep.tracking_uri or None, (KEY,)))


def draw(ax: Axes, summary: Summary) -> None:
    """A line per seed."""
    seeds = sorted(summary.table.seed.unique())
    colors = dict(zip(seeds, style.colors([str(seed) for seed in seeds]), strict=True))
    few = len(seeds) <= 8
    for (seed, _), curve in summary.table.groupby(["seed", "run_id"]):
        dash = ("-", "--", "-.", ":")[seeds.index(seed) % 4]
        name = f"seed {seed}" if few else None
        ax.plot(curve.step, curve.value, dash, color=colors[seed], linewidth=1.0, label=name)
    for row in summary.groks.itertuples():
        ax.plot(
            row.step,
            row.value,
            "v",
            color=colors[row.seed],
            markeredgecolor="black",
            markeredgewidth=0.5,
            markersize=5.5,
        )
    ax.set_ylabel("intrinsic dimension\n(principal components)")
    ax.set_ylim(0, None)
    style.steps_along(ax)
    if few:
        ax.legend()


@style.applied()
def figure(summary: Summary) -> Figure:
    """One panel."""
    sheet, axes = style.sheet(width=style.SINGLE, height=58 * style.MM, caption=summary.caption)
    draw(axes[0, 0], summary)
    return sheet


def _read(curve: pd.DataFrame, step: float) -> float:
    return float(np.interp(step, curve.step, curve.value)) if len(curve) else np.nan
