"""The hidden vectors of a cell's trials on a plane, colored by class: for the eye, not for measuring.

The places are made by the probe ``picture`` (UMAP) while training.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep, load_pictures

from . import caption, style
from .learning_curves import describe, telling_cell

MOST = 4  # trials shown


@dataclass(frozen=True)
class Summary:
    """``table``: run_id, seed, phase, x, y, class; one row per hidden vector."""

    table: pd.DataFrame
    caption: str


def summarize(cell: pd.DataFrame, pictures: pd.DataFrame) -> Summary:
    """The first trials of the cell that have a picture, by seed."""
    points = cell[["run_id", "seed", "phase"]].merge(pictures, on="run_id")
    if points.empty:
        raise style.Absent("no trial laid out its hidden vectors (the probe picture)")
    shown = points.seed.drop_duplicates().sort_values()[:MOST]
    points = points[points.seed.isin(shown)].sort_values(["seed", "run_id"], kind="stable")
    each = points.groupby("run_id").size()
    words = caption.join(
        f"UMAP of up to {each.max():,} hidden test vectors at each trial's end, one panel a seed, colored by class; "
        f"axes have no unit, and distances between groups no meaning ({describe(cell)})",
        caption.sizes(cell),
    )
    return Summary(points, words)


def of_sweep(sweep: Sweep) -> Summary:
    """The cell in which grokking is best seen."""
    cell = telling_cell(sweep.finished, sweep.cell_axes)
    return summarize(cell, load_pictures(cell.run_id, sweep.tracking_uri or None))


@style.applied()
def figure(summary: Summary) -> Figure:
    """A panel per trial."""
    trials = list(summary.table.groupby(["seed", "phase"], sort=True))
    width = style.SINGLE if len(trials) <= 2 else style.DOUBLE
    sheet, axes = style.sheet(1, len(trials), width=width, height=width / len(trials), caption=summary.caption)
    classes = int(summary.table["class"].max()) + 1
    for ax, ((seed, phase), points) in zip(axes[0], trials, strict=True):
        colors = matplotlib.colormaps["viridis"](0.92 * points["class"] / classes)  # its end is too light for dots
        ax.scatter(points.x, points.y, s=900 / max(len(points), 250), c=colors, linewidths=0, rasterized=True)
        ax.set(title=f"seed {seed}, {phase}", xticks=[], yticks=[])
        ax.set_box_aspect(1)
        ax.spines[["left", "bottom"]].set_visible(False)
    return sheet
