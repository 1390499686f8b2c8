"""Takeover timeline of one trial: test accuracy, outer and inner stride scores and dimension.

For the multiplicative tasks, whose group has an outer circle (cosets) and an inner one. The scores
are measured while training; what they mean stands with ``Outcome`` in ``phasemap.plan.outcome``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep, load_curves
from phasemap.training.events import TAKEN_OVER, TAKEOVER_PROBES

from . import caption, style
from .learning_curves import describe
from .statistics import is_redefined

SHARES = {
    "test_accuracy": ("test accuracy", style.BLUE, "-"),
    "winning_stride_score": ("outer stride score", style.ORANGE, "--"),
    "inner_winning_stride_score": ("inner stride score", style.PURPLE, "-."),
}
DIMENSION = "intrinsic_dimension"


@dataclass(frozen=True)
class Summary:
    """``table``: key, step, value of one run; the steps (NaN: did not happen) of its events."""

    table: pd.DataFrame
    grok_step: float
    takeover_step: float
    caption: str


def summarize(trial: pd.DataFrame, curves: pd.DataFrame) -> Summary:
    """The curves (run_id, key, step, value) of the one row in ``trial``."""
    own = curves[(curves.run_id == trial.run_id.iloc[0]) & curves.key.isin([*SHARES, DIMENSION])]
    if "inner_winning_stride_score" not in set(own.key):
        raise style.Absent("a takeover timeline needs inner stride scores: modular multiplication or division")
    row = trial.iloc[0]
    when = "never" if math.isnan(row.takeover_step) else f"at step {row.takeover_step:,.0f}"
    when = "recorded by an older definition" if is_redefined(trial, "takeover_step").any() else when
    words = caption.join(
        f"One trial (seed {row.seed}; {describe(trial)})",
        "Stride score: share of hits when each centroid's nearest neighbors are compared with k ± s",
        "Outer: on the circle of cosets; inner: inside each coset, 0 at chance",
        f"Takeover ({TAKEOVER_PROBES} probes in a row with the outer score below its level, at which it had been, and "
        f"the inner one ≥ {TAKEN_OVER:g}): {when}",
        caption.grokked(trial),
        caption.sizes(trial),
    )
    table = own[["key", "step", "value"]].sort_values(["key", "step"]).reset_index(drop=True)
    return Summary(table, float(row.grok_step), float(row.takeover_step), words)


def of_sweep(sweep: Sweep) -> Summary:
    """The first trial with a takeover, else the first that generalized, else the first."""
    table = sweep.finished
    if table.empty:
        raise style.Absent("no finished trial yet")
    order = table.assign(a=table.takeover_step.isna(), b=table.grok_step.isna()).sort_values(["a", "b"], kind="stable")
    trial = table.loc[order.index[:1]]
    return summarize(trial, load_curves(trial.run_id, sweep.tracking_uri or None, (*SHARES, DIMENSION)))


def draw(ax: Axes, summary: Summary) -> None:
    """The three shares, with grok and takeover step."""
    for key, (name, color, dash) in SHARES.items():
        curve = summary.table[summary.table.key == key]
        ax.plot(curve.step, curve.value, dash, color=color, label=name, linewidth=1.1)
    for step, name in ((summary.grok_step, "grok"), (summary.takeover_step, "takeover")):
        if not math.isnan(step):
            ax.axvline(step, color=style.GRAY, linewidth=0.8, linestyle=":")
            ax.annotate(name, (step, 1.02), (2, 0), ("data", "axes fraction"), "offset points", fontsize=6)
    ax.set(ylabel="accuracy or score", ylim=(-0.03, 1.05))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_dimension(ax: Axes, summary: Summary) -> None:
    """The intrinsic dimension on the same time axis."""
    curve = summary.table[summary.table.key == DIMENSION]
    ax.plot(curve.step, curve.value, color=style.GREEN)
    ax.set_ylabel("intrinsic dimension\n(components)")
    ax.set_ylim(0, None)
    style.steps_along(ax)


@style.applied()
def figure(summary: Summary) -> Figure:
    """Two panels with one time axis."""
    sheet, axes = style.sheet(2, 1, style.MIDDLE, 80 * style.MM, summary.caption, sharex=True)
    draw(axes[0, 0], summary)
    draw_dimension(axes[1, 0], summary)
    return sheet
