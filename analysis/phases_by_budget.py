"""Phases by budget: the share of trials in each phase, had training ended earlier, with Wilson intervals and n.

A trial's first 2,000 steps are those of a trial of 2,000 steps, so that one long trial shows its phase at every shorter
budget: read again from its logged curves. A phase rule of the user's is not read again; its trials of several budgets
are compared as recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from phasemap.plan.phases import PHASES
from phasemap.record.reader import Sweep, load_curves, settings

from . import caption, style
from .axis import axis_of, in_order, plain_log, text
from .resummarize import ACCURACIES, recomputed
from .statistics import decided, wilson

BUDGETS = 10  # at most, at equal ratios
SHORTEST = 50  # times shorter than the longest budget, at most
PANELS = 12
APART = 0.03  # shares that are equal stand so far from each other
EDGE: dict[str, Any] = {"markeredgecolor": "#333333", "markeredgewidth": 0.4}


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per panel, budget (steps) and phase: trials, n, share, low, high."""

    table: pd.DataFrame
    panel: str | None
    phases: tuple[str, ...]
    caption: str


def summarize(table: pd.DataFrame, curves: pd.DataFrame, panel: str | None = None) -> Summary:
    """Phases of Liu et al. at budgets up to the longest, from curves (run_id, key, step, value) of ``ACCURACIES``.

    Of trials that differ in ``steps`` alone the longest counts; one whose budget ended before stands in no share.
    """
    trials = _longest(decided(table))
    own = curves[curves.run_id.isin(trials.run_id) & curves.key.isin(ACCURACIES)]
    if own.empty:
        raise style.Absent("no curves were recorded")
    read = [_at(trials, own, budget) for budget in _budgets(own.step, trials.steps.max())]
    where = "Read again, at each budget, from the curves that each configuration's longest trial logged"
    return _summary(pd.concat(read), table, panel, where)


def recorded(table: pd.DataFrame, panel: str | None = None) -> Summary:
    """The phases as they were recorded, by trials of several budgets."""
    trials = decided(table)
    if trials.steps.nunique() < 2:
        raise style.Absent(
            "phases of a rule of your own, and those of trials with annealing, are not read again: it needs trials of "
            "several budgets (axis steps)"
        )
    return _summary(trials.assign(budget=trials.steps), table, panel, "Trials of several budgets, as recorded")


def of_sweep(sweep: Sweep, x: str | None = None) -> Summary:
    """Panels over ``x``; if not given, over the first axis with few values."""
    table = sweep.finished
    if table.empty:
        raise style.Absent("no finished trial yet")
    axes = [name for name in ([x] if x else sweep.cell_axes) if name != "steps"]
    few = [name for name in axes if not axis_of(table, name).continuous and table[name].nunique() <= PANELS]
    panel = next(iter(few), None)
    if tuple(sweep.phases) != PHASES or (table.annealing != "none").any():
        return recorded(table, panel)
    return summarize(table, load_curves(table.run_id, sweep.tracking_uri or None, ACCURACIES), panel)


def draw(ax: Axes, summary: Summary, value: object = "") -> None:
    """One panel: a line per phase that occurs in it, with its interval wherever a trial has the phase."""
    rows = summary.table[summary.table.panel == value]
    rows = _apart(rows[rows.phase.isin(rows.phase[rows.trials > 0])])
    for phase, (color, marker) in style.looks(summary.phases).items():
        part = rows[rows.phase == phase].sort_values("budget")
        met = part.trials > 0
        if part.empty:
            continue
        beside = met | met.shift(1, fill_value=False) | met.shift(-1, fill_value=False)
        ax.fill_between(part.budget, part.low, part.high, beside, color=color, alpha=0.25, linewidth=0)
        ax.plot(part.budget, part.height, color=color, path_effects=[withStroke(linewidth=1.9, foreground="#555555")])
        ax.plot(part.budget[met], part.height[met], color=color, marker=marker, linestyle="none", **EDGE)
    ax.set_xscale("log")
    plain_log(ax.xaxis)
    ax.set(xlabel="budget (steps)", ylabel="share of trials", ylim=(-0.06, 1.06))
    ax.set_yticks(*style.QUARTERS)


@style.applied()
def figure(summary: Summary) -> Figure:
    """All panels with one legend."""
    values = in_order(summary.table, "panel") if summary.panel else [""]
    rows, columns = style.grid(len(values), most=4)
    width = style.DOUBLE if len(values) > 1 else style.MIDDLE
    height = (62 if len(values) == 1 else 44 * rows) * style.MM
    sheet, axes = style.sheet(rows, columns, width, height, summary.caption, sharex=True, sharey=True)
    for ax, value in zip(axes.flat, values, strict=False):
        draw(ax, summary, value)
        n = summary.table[summary.table.panel == value].n
        count = f"n = {n.min()}" if n.nunique() == 1 else f"n = {n.min()} to {n.max()}"
        name = f"{summary.panel.replace('_', ' ')} {text(value)}\n" if summary.panel else ""
        ax.set_title(f"{name}{count}")
        ax.label_outer()
    style.hide_rest(axes, len(values))
    handles = [
        Line2D([], [], color=color, marker=marker, label=phase, **EDGE)
        for phase, (color, marker) in style.looks(summary.phases).items()
    ]
    sheet.legend(handles=handles, title="phase", title_fontsize=7, alignment="left", loc="outside right upper")
    return sheet


def _apart(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the height of each: its share, but for those that are equal at a budget, which stand apart."""
    tied = rows.groupby(["budget", "share"]).phase
    rank, many = tied.cumcount(), tied.transform("size")
    return rows.assign(height=rows.share + APART * ((many - 1) / 2 - rank))


def _longest(table: pd.DataFrame) -> pd.DataFrame:
    """Of trials that differ in their budget alone, the longest."""
    same = [name for name in settings(table) if name != "steps" and name in table]
    return table.sort_values("steps").drop_duplicates(same, keep="last")


def _budgets(steps: pd.Series, longest: int) -> list[int]:
    """Evaluation steps at about equal ratios, and the longest budget, before which all trials may have ended."""
    known = np.unique([*steps, longest])
    wanted = np.geomspace(max(known[0], known[-1] / SHORTEST), known[-1], BUDGETS)
    return sorted({int(known[np.abs(np.log(known / one)).argmin()]) for one in wanted})


def _at(trials: pd.DataFrame, curves: pd.DataFrame, budget: int) -> pd.DataFrame:
    """The trials that ran as long, or would have ended before, with their phases at this budget."""
    early = trials.steps_run > budget  # still at work there, whatever came later
    then = trials.assign(ending=trials.ending.mask(early, "budget"), phase=trials.phase.mask(early, ""))
    then = then[trials.steps >= budget]
    return recomputed(then, curves[curves.step <= budget]).assign(budget=budget)


def _summary(read: pd.DataFrame, table: pd.DataFrame, panel: str | None, where: str) -> Summary:
    read = read[read.phase.notna()]
    met = tuple(phase for phase in style.phases_of(table) if phase in set(read.phase))
    rows = []
    for (value, budget), trials in read.groupby([read[panel] if panel else pd.Series("", read.index), "budget"]):
        for phase in met:
            count, n = int((trials.phase == phase).sum()), len(trials)
            share = wilson(count, n)
            rows.append((value, budget, phase, count, n, share.value, share.low, share.high))
    words = caption.join(
        "Share of trials in each phase by the budget of steps",
        where,
        "Bands: 95 % Wilson intervals; those of a phase that no trial has stand in the CSV. Lines of equal shares are "
        "drawn beside each other",
        caption.phases(read),
        caption.sizes(table),
        caption.pooled(table, tuple(filter(None, (panel, "steps")))),
    )
    columns = ["panel", "budget", "phase", "trials", "n", "share", "low", "high"]
    return Summary(pd.DataFrame(rows, columns=columns), panel, met, words)
