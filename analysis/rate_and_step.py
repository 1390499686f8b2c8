"""Two panels that several figures share: the share that generalized, and the median step it took.

Against one axis, a line per value of a second. What the axis is, and whether the step is the grok
step or the delay after memorization, is up to the figures that use this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .axis import Axis, plain_log, text
from .statistics import decided, followed, grok_time, kaplan_meier, wilson

COLUMNS = ["successes", "n", "rate", "low", "high", "step", "step_low", "step_high", "budget"]
LINES = 4  # that can be distinguished in one panel
MARKS = "osDP"  # of the lines; an open triangle means: not reached


def summarize(table: pd.DataFrame, x: str, by: str | None = None, delay: bool = False) -> pd.DataFrame:
    """A row per value of x (and of ``by``): successes, n, their rate with its Wilson interval, and
    the Kaplan–Meier median of the grok step, or of the delay after memorization (steps)."""
    keys = [k for k in (by, x) if k]
    rows = [(*place, *_numbers(cell, delay)) for place, cell in table.groupby(keys)]
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS])


def second(axes: Sequence[str], first: str, table: pd.DataFrame) -> str | None:
    """The axis for the lines: the next one with few values, if any."""
    return next((a for a in axes if a != first and table[a].nunique() <= LINES), None)


def draw_rates(ax: Axes, rows: pd.DataFrame, x: Axis, by: str | None) -> None:
    """Share generalized with Wilson intervals and n."""
    for name, part, look, shift in _lines(rows, by):
        places, apart = x.places(part[x.name]), style.apart(ax, shift)
        error = np.array([(part.rate - part.low).clip(lower=0), (part.high - part.rate).clip(lower=0)])
        ax.errorbar(places, part.rate, error, capsize=1.5, elinewidth=0.8, label=name, transform=apart, **look)
        shown = part[part.n != rows.n.mode()[0]]
        for place, high, n in zip(x.places(shown[x.name]), shown.high, shown.n, strict=True):
            ax.annotate(
                str(n),
                (place, high),
                (shift, 2),
                textcoords="offset points",
                ha="center",
                fontsize=5.5,
                color="#444444",
            )
    x.dress(ax)
    ax.set_title(f"n = {rows.n.mode()[0]} per point" + (" unless stated" if rows.n.nunique() > 1 else ""), fontsize=7)
    ax.set(ylabel="share generalized", ylim=(-0.04, 1.1), xlim=x.edges[[0, -1]])
    ax.set_yticks(*style.QUARTERS)


def draw_steps(ax: Axes, rows: pd.DataFrame, x: Axis, by: str | None, name: str) -> None:
    """Median steps with their intervals; an open triangle at the budget where it was not reached."""
    budget = rows.budget.max()
    for _, part, look, shift in _lines(rows, by):
        apart = style.apart(ax, shift)
        part = part[part.step.notna()].reset_index(drop=True)
        places, reached = x.places(part[x.name]), np.isfinite(part.step.to_numpy())
        seen = part[reached]
        if len(seen):
            error = bars(seen.step, seen.step_low, seen.step_high, budget)
            ax.errorbar(places[reached], seen.step, error, capsize=1.5, elinewidth=0.8, transform=apart, **look)
        blank = {"linestyle": "none", "marker": "^", "fillstyle": "none", "color": look["color"], "clip_on": False}
        if not reached.all():  # an unclipped line without points would claim room at the sheet's corner
            ax.plot(places[~reached], np.full((~reached).sum(), budget), transform=apart, **blank)
    ax.axhline(budget, color=style.GRAY, linewidth=0.6, linestyle="--")
    ax.set_yscale("log")
    plain_log(ax.yaxis)
    known = rows[["step", "step_low"]]  # of few trials the interval is open below, and the median the lowest mark
    low = known.where(known > 0).min().min()
    ax.set_ylim(min(budget / 10, low if np.isfinite(low) else budget) * 0.8, budget * 1.25)
    x.dress(ax)
    ax.set(ylabel=name, xlim=x.edges[[0, -1]])


def bars(middle: pd.Series, low: pd.Series, high: pd.Series, budget: float) -> np.ndarray:
    """Lengths [2, n] of the bars below and above each median. An end that censoring leaves open stops at the
    budget; where both ends are open (too few trials) there is no bar."""
    few = np.isneginf(low)
    below = (middle - low.clip(upper=budget)).clip(lower=0).mask(few, 0)
    return np.array([below, (high.clip(upper=budget) - middle).clip(lower=0).mask(few, 0)])


def open_medians(low: pd.Series) -> str:
    """What a caption says where a median's interval has no lower end, because its trials are too few."""
    return "A median of fewer than six trials has no bar: its 95 % interval is open" if np.isneginf(low).any() else ""


def _numbers(cell: pd.DataFrame, delay: bool) -> tuple[Any, ...]:
    known = decided(cell)
    rate = wilson(int(known.grok_step.notna().sum()), len(known))
    time = _delay(cell) if delay else grok_time(cell).median
    head = int(known.grok_step.notna().sum()), len(known), rate.value, rate.low, rate.high
    return *head, time.value, time.low, time.high, float(cell.steps.max())


def _delay(cell: pd.DataFrame) -> Any:
    """Of the trials that memorized; one that has not generalized is censored at the steps it ran on."""
    own = cell[cell.memorization_step.notna()]
    waited = (own.grok_step.fillna(followed(own)) - own.memorization_step).clip(lower=0)
    return kaplan_meier(waited, own.grok_step.notna())[1]


def _lines(rows: pd.DataFrame, by: str | None) -> list[tuple[str, pd.DataFrame, dict[str, Any], float]]:
    parts = list(rows.groupby(by)) if by else [("", rows)]
    colors = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE)
    return [
        (
            f"{(by or '').replace('_', ' ')} {text(value)}" if by and by != "task" else text(value),
            part,
            {"color": colors[i % LINES], "marker": MARKS[i % LINES], "linestyle": ("-", "--", "-.", ":")[i % LINES]},
            3.0 * (i - (len(parts) - 1) / 2),
        )
        for i, (value, part) in enumerate(parts)
    ]


@style.applied()
def figure(rows: pd.DataFrame, x: Axis, by: str | None, words: str, ylabel: str) -> Figure:
    """Share generalized beside its step, or delay, with the words below."""
    sheet, axes = style.sheet(1, 2, style.DOUBLE, 60 * style.MM, words)
    draw_rates(axes[0, 0], rows, x, by)
    draw_steps(axes[0, 1], rows, x, by, ylabel)
    if by:
        handles, names = axes[0, 0].get_legend_handles_labels()
        sheet.legend(handles, names, loc="outside upper left", ncols=4)
    return sheet
