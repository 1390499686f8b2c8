"""Learning curves of one cell: accuracy and loss of all its seeds against steps, one highlighted.

Also chooses that cell for a sweep: the one in which grokking is best seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.plan.trial import FIELDS
from phasemap.record.reader import Sweep, load_curves

from . import caption, style
from .axis import text

KEYS = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")


@dataclass(frozen=True)
class Summary:
    """``table``: run_id, seed, key, step, value; ``highlighted``: the run drawn strongly (the seed
    with the median grok step); ``grok_steps``: run_id -> step, of those that generalized."""

    table: pd.DataFrame
    highlighted: str
    grok_steps: dict[str, float]
    caption: str


def summarize(cell: pd.DataFrame, curves: pd.DataFrame, highlighted: str = "") -> Summary:
    """The curves (run_id, key, step, value) of a cell's trials (columns run_id, seed, grok_step, ...)."""
    points = cell[["run_id", "seed"]].merge(curves[curves.key.isin(KEYS)], on="run_id")
    if points.empty:
        raise style.Absent("no curves were recorded for this cell")
    chosen = highlighted or middle_seed(cell[cell.run_id.isin(points.run_id)])
    seed = int(cell.loc[cell.run_id == chosen, "seed"].iloc[0])
    grokked = cell[cell.grok_step.notna()]
    mark = "vertical line: its grok step" if chosen in set(grokked.run_id) else "which did not generalize"
    words = caption.join(
        f"{caption.every(cell.run_id.nunique(), 'seed')} of one cell ({describe(cell)}); strong: seed {seed}, {mark}",
        caption.grokked(cell),
        caption.sizes(cell),
    )
    return Summary(points, chosen, dict(zip(grokked.run_id, grokked.grok_step, strict=True)), words)


def of_sweep(sweep: Sweep) -> Summary:
    """The cell chosen by ``telling_cell``."""
    cell = telling_cell(sweep.finished, sweep.cell_axes)
    return summarize(cell, load_curves(cell.run_id, sweep.tracking_uri or None, KEYS))


def telling_cell(table: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """The trials of the cell with most trials that grokked, then most that generalized at all,
    then the largest gap between memorization and grok step."""
    if table.empty:
        raise style.Absent("no finished trial yet")
    if not axes:
        return table
    scored = table.assign(
        late=table.phase.isin(["grokking", "collapse"]),
        ever=table.grok_step.notna(),
        gap=table.grok_step - table.memorization_step,
    )
    scores = scored.groupby(list(axes)).agg(late=("late", "sum"), ever=("ever", "sum"), gap=("gap", "mean"))
    best = scores.fillna(0).sort_values(["late", "ever", "gap"]).index[-1]
    place = best if isinstance(best, tuple) else (best,)
    return table[(table[list(axes)] == place).all(axis=1)]


def middle_seed(cell: pd.DataFrame) -> str:
    """The run with the median grok step (the lower one of two), never generalizing counting as last."""
    ordered = cell.sort_values(["grok_step", "seed"], na_position="last")
    grokked = int(ordered.grok_step.notna().sum())
    return str(ordered.run_id.iloc[max(grokked - 1, 0) // 2 if grokked else 0])


def describe(cell: pd.DataFrame) -> str:
    """The settings of the cell that differ from the defaults, but for the probes, which change no trial's course."""
    skipped = ("seed", "task", "modulus", "model", "steps", "evaluate_every", "probes")
    names = [n for n in FIELDS if n not in skipped and cell[n].nunique() == 1 and cell[n].iloc[0] != FIELDS[n].default]
    return (
        ", ".join(f"{n.replace('_', ' ')} {text(cell[n].iloc[0])}" for n in names) or "all settings at their defaults"
    )


def draw(ax: Axes, summary: Summary) -> None:
    """Accuracy of train and test."""
    _draw_pair(ax, summary, "accuracy")
    ax.set(ylabel="accuracy", ylim=(-0.03, 1.05))
    ax.legend(loc="best")


def draw_loss(ax: Axes, summary: Summary) -> None:
    """Loss of train and test on a log scale."""
    _draw_pair(ax, summary, "loss")
    ax.set(ylabel="mean loss", yscale="log")


@style.applied()
def figure(summary: Summary) -> Figure:
    """Accuracy beside loss."""
    sheet, axes = style.sheet(1, 2, style.DOUBLE, 58 * style.MM, summary.caption)
    draw(axes[0, 0], summary)
    draw_loss(axes[0, 1], summary)
    return sheet


def _draw_pair(ax: Axes, summary: Summary, what: str) -> None:
    for side, color, dash in (("train", style.ORANGE, "--"), ("test", style.BLUE, "-")):
        for run, curve in summary.table[summary.table.key == f"{side}_{what}"].groupby("run_id"):
            strong = run == summary.highlighted
            look = {"alpha": 1.0, "linewidth": 1.5, "label": side} if strong else {"alpha": 0.3, "linewidth": 0.7}
            ax.plot(curve.step, curve.value, linestyle=dash, color=color, zorder=3 if strong else 2, **look)
    if summary.highlighted in summary.grok_steps:
        ax.axvline(summary.grok_steps[summary.highlighted], color=style.GRAY, linewidth=0.8, linestyle=":")
    style.steps_along(ax)
