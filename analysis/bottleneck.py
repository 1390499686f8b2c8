"""Bottleneck floor: share generalized and grok step against the units of the bottleneck, and the floor.

The floor of a line is the fewest units at which at least half of the trials generalized.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, rate_and_step, style
from .axis import Axis, text


@dataclass(frozen=True)
class Summary:
    """``table``: as ``rate_and_step.summarize`` gives it; bottleneck is "none" where there was none.
    ``floors``: value of ``by`` -> units, or None when even none at all did not let half of them grok."""

    table: pd.DataFrame
    x: Axis
    by: str | None
    floors: dict[object, object]
    caption: str


def summarize(table: pd.DataFrame, by: str | None = None) -> Summary:
    """Over the columns bottleneck, grok_step, steps_run, steps and phase."""
    rows = rate_and_step.summarize(table, "bottleneck", by)
    units = sorted(set(rows.bottleneck) - {0}) + ([0] if 0 in set(rows.bottleneck) else [])
    names = {u: "none" if u == 0 else u for u in units}
    rows = rows.assign(order=rows.bottleneck.map(units.index)).sort_values([*([by] if by else []), "order"])
    rows = rows.assign(bottleneck=rows.bottleneck.map(names)).drop(columns="order").reset_index(drop=True)
    floors = {
        value: next((r.bottleneck for r in part.itertuples() if r.rate >= 0.5), None)
        for value, part in (rows.groupby(by) if by else [("all trials", rows)])
    }
    units_needed = "; ".join(f"{text(v)}: {'not reached' if f is None else f}" for v, f in floors.items())
    words = caption.join(
        "Share of trials that generalized (95 % Wilson intervals, n) and Kaplan–Meier median of the grok step against "
        "the units of a bottleneck (a layer with a ReLU) before the readout; open triangle: median not reached within "
        "the budget (dashed)",
        f"Floor, the fewest units at which half of the trials generalize: {units_needed}",
        rate_and_step.open_medians(rows.step_low),
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, tuple(k for k in ("bottleneck", by) if k)),
    )
    return Summary(rows, Axis("bottleneck", tuple(names.values()), "ordinal"), by, floors, words)


def of_sweep(sweep: Sweep) -> Summary:
    """A line per value of the next axis."""
    if "bottleneck" not in sweep.cell_axes:
        raise style.Absent("a bottleneck floor needs several values of bottleneck")
    return summarize(sweep.finished, rate_and_step.second(sweep.cell_axes, "bottleneck", sweep.finished))


def draw(ax: Axes, summary: Summary) -> None:
    """Share generalized."""
    rate_and_step.draw_rates(ax, summary.table, summary.x, summary.by)


def figure(summary: Summary) -> Figure:
    """Share beside step."""
    return rate_and_step.figure(summary.table, summary.x, summary.by, summary.caption, "median grok step (steps)")
