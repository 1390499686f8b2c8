"""Critical law: how the critical value of one axis scales with another, at each edge of generalization.

    log(critical value) = a + b * log(other axis)

The critical value is where the probability of generalization passes 0.5. The law is fitted to the trials themselves,
see ``edge.py``, and not to positions read off a map, so that lines on which nothing generalizes count too: they say
where the start and the end of generalization meet. The positions of ``boundary_position.py``, which know of no law,
stand beside it. Intervals are those of profile likelihoods, 90 % as the positions';
``benchmarks/interval_coverage.py`` measures how often they hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phasemap.record.reader import Sweep

from . import boundary_position, caption, style
from .axis import Axis, axis_of, fitted_log, in_order, map_axes, text, without_logarithm
from .edge import Edges, Problem, Trials
from .likelihood import SURE, verdict
from .probability_map import LEVEL
from .statistics import decided

PLACES = 9  # along a continuous axis, at which the law is read off
FINE = 200  # places along a line, at which its highest probability is looked for
NONE: dict[str, Any] = {"marker": "x", "linestyle": "", "color": style.GRAY, "markersize": 3.5, "markeredgewidth": 0.8}
OPEN: dict[str, Any] = {"markersize": 3.8, "markerfacecolor": "white", "markeredgewidth": 0.9}
ROOM = 2.0  # above and below all marks
LOOKS = {"start": (style.BLUE, "o", -1.5), "end": (style.ORANGE, "s", 1.5)}


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per edge and value of the other axis: boundary ("start" or "end" of generalization as the
    axis rises); position with low and high (90 %; 0 or infinite where open) by the law; inside (bool: the law passes
    0.5 there, within the values tried); the law's exponent with exponent_low and exponent_high (90 %), and straight,
    the p-value of a straight line (NaN with two values of the other axis); alone, alone_low and alone_high: the
    position fitted without the law, where there is one. ``lines`` has all of these, see ``boundary_position.py``."""

    table: pd.DataFrame
    lines: pd.DataFrame
    along: Axis
    other: Axis
    caption: str

    @property
    def laws(self) -> pd.DataFrame:
        """A row per edge: boundary, exponent with its ends, straight."""
        columns = ["boundary", "exponent", "exponent_low", "exponent_high", "straight"]
        return self.table[columns].drop_duplicates("boundary")


def summarize(table: pd.DataFrame, along: str, other: str) -> Summary:
    """The law of the critical values of one axis against another, over the trials (columns phase, grok_step, the axes).

    Raises:
        Absent: an axis has no logarithms, or the trials show no edge within the values tried.
    """
    trials = decided(table)
    reasons = [reason for name in (along, other) if (reason := without_logarithm(trials, name))]
    if reasons:
        raise style.Absent(f"a critical law needs two axes of numbers above 0: {'; '.join(reasons)}")
    values = _values(trials, other)
    middle = (math.log(values[0]) + math.log(values[-1])) / 2
    problem, edges = _likeliest(_pooled(trials, along, other, middle), along)
    rows = [row for side in edges.sides for row in _rows(problem, edges, side, along, other, values, middle)]
    places = pd.DataFrame(rows)
    known = places[places.groupby("boundary").inside.transform("sum") > 1]
    if known.empty:
        raise style.Absent(f"no edge lies within the values of {along} tried at two values of {other} or more")
    lines = boundary_position.summarize(table, along, other).table
    alone = lines.rename(columns={"position": "alone", "low": "alone_low", "high": "alone_high"})
    known = known.merge(alone[["boundary", other, "alone", "alone_low", "alone_high"]], "left", ["boundary", other])
    first, second = (replace(axis_of(trials, name), scale="log") for name in (along, other))
    summary = Summary(known, lines, first, second, "")
    return replace(summary, caption=_caption(summary, table, edges))


def exponent(table: pd.DataFrame, along: str, other: str, side: str, level: float) -> tuple[float, float, float]:
    """The exponent of the law at one side of generalization, "start" or "end", with its interval of that level.

    Raises:
        Absent: as ``summarize``, or the trials show no edge at that side.
    """
    trials = decided(table)
    problem, edges = _likeliest(_pooled(trials, along, other, 0.0), along)
    if side not in edges.sides:
        raise style.Absent(f"the trials show no {side} of generalization along {along}")
    return edges.of(side, "slope"), *problem.interval(edges, side, "slope", level)


def of_sweep(sweep: Sweep, x: str | None = None, y: str | None = None) -> Summary:
    """The critical values of ``y``, the first axis of numbers if not given, against ``x``, the next one."""
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    map_axes(sweep, x, y)
    fit = [name for name in sweep.cell_axes if not without_logarithm(sweep.finished, name)]
    others = [name for name in fit if name not in (x, y)]
    along = y or (others.pop(0) if others else None)
    other = x or (others.pop(0) if others else None)
    if along is None or other is None:
        reasons = [without_logarithm(sweep.finished, name) for name in sweep.cell_axes if name not in fit]
        raise style.Absent("; ".join(["a critical law needs two axes of numbers above 0", *reasons]))
    return summarize(sweep.finished, along, other)


def draw(ax: Axes, summary: Summary) -> None:
    """The line of each law with its band, and the positions fitted without it."""
    along, other = summary.along, summary.other
    for side, rows in summary.table.drop_duplicates(["boundary", other.name]).groupby("boundary", sort=False):
        color = LOOKS[str(side)][0]
        places, inside = rows[other.name].to_numpy(float), rows.inside.to_numpy()
        # 0 or infinite where it is open, which has no place on a log scale
        low, high = rows.low.clip(lower=min(along.values) / 10), rows.high.clip(upper=10 * max(along.values))
        ax.fill_between(places, low, high, where=inside, color=color, alpha=0.2, linewidth=0)
        ax.plot(places, rows.position, color=color, linewidth=0.8, linestyle=(0, (3, 2)))
        ax.plot(places, rows.position.where(rows.inside), color=color)
    for side in LOOKS:
        _draw_alone(ax, summary, side)
    ax.set_yscale("log")
    other.dress(ax)
    ax.set_ylim(*_limits(summary))
    ax.set_xlim(*other.edges[[0, -1]])
    fitted_log(ax.yaxis)
    ax.set_ylabel(along.critical)
    none = summary.lines[summary.lines.position.isna()]
    if len(none):
        foot = np.full(len(none), 0.03)
        ax.plot(none[other.name], foot, transform=ax.get_xaxis_transform(), **NONE)


@style.applied()
def figure(summary: Summary) -> Figure:
    """One panel."""
    sheet, axes = style.sheet(width=style.SINGLE, height=66 * style.MM, caption=summary.caption)
    draw(axes[0, 0], summary)
    sheet.legend(handles=list(_handles(summary)), loc="outside upper left")
    return sheet


def _values(trials: pd.DataFrame, name: str) -> list[float]:
    """The values tried, or places spread evenly over a continuous axis."""
    tried = in_order(trials, name)
    if len(tried) < 2:
        raise style.Absent(f"a critical law needs two values of {name} or more, there is {len(tried)}")
    return list(tried) if not axis_of(trials, name).continuous else np.geomspace(tried[0], tried[-1], PLACES).tolist()


def _pooled(trials: pd.DataFrame, along: str, other: str, middle: float) -> Trials:
    """Trials of one point together, in logarithms; the other axis is counted from its middle."""
    points = trials.assign(won=trials.grok_step.notna()).groupby([along, other]).won.agg(["sum", "size"]).reset_index()
    hits, counts = points["sum"].to_numpy(float), points["size"].to_numpy(float)
    return Trials(np.log(points[along].to_numpy(float)), np.log(points[other].to_numpy(float)) - middle, hits, counts)


def _likeliest(trials: Trials, along: str) -> tuple[Problem, Edges]:
    """A start, an end, or both, whichever explains the trials best for its parameters (Schwarz 1978, Ann. Stat. 6:461).

    Raises:
        Absent: a constant rate does as well.
    """
    n, won = trials.counts.sum(), trials.hits.sum()
    if won in (0, n):
        raise style.Absent(f"{'every' if won else 'no'} trial generalized: there is no edge")
    if len(np.unique(trials.along)) < 2:
        raise style.Absent(f"a critical law needs two values of {along} or more, there is one")
    constant = won * math.log(won / n) + (n - won) * math.log1p(-won / n) - math.log(n) / 2
    problems = [Problem(trials, sides) for sides in (("start",), ("end",), ("start", "end"))]
    solved = [(problem, problem.solve()) for problem in problems]
    scores = [edges.height - (3 * len(edges.sides) + 2) * math.log(n) / 2 for _, edges in solved]
    if max(scores) <= constant:
        raise style.Absent(f"no edge along {along}: a constant rate explains the trials as well")
    return solved[int(np.argmax(scores))]


def _rows(
    problem: Problem, edges: Edges, side: str, along: str, other: str, values: list[float], middle: float
) -> Iterator[dict[str, object]]:
    tried = problem.trials.along.min(), problem.trials.along.max()
    reach = tried[1] - tried[0]
    law = {"exponent": edges.of(side, "slope")}
    law |= dict(zip(("exponent_low", "exponent_high"), problem.interval(edges, side, "slope", LEVEL), strict=True))
    law |= {"straight": problem.straight(edges, side) if len(values) > 2 else math.nan}
    for value in values:
        across = math.log(value) - middle
        ends = problem.place(edges, side, across, LEVEL, (tried[0] - reach, tried[1] + reach))
        line = np.linspace(*tried, FINE)
        crosses = edges.probability(line, np.full(FINE, across)).max() > 0.5 and tried[0] < ends[0] < tried[1]
        position = dict(zip(("position", "low", "high"), np.exp(ends).tolist(), strict=True))
        yield {"boundary": side, other: value, **position, "inside": bool(crosses), **law}


def _draw_alone(ax: Axes, summary: Summary, side: str) -> None:
    """Positions fitted without the law, with bars; an arrow where the interval is open."""
    color, marker, shift = LOOKS[side]
    rows = summary.lines[summary.lines.boundary == side]
    first, last = min(summary.along.values), max(summary.along.values)
    if rows.empty:
        return
    places, middle = rows[summary.other.name].to_numpy(float), rows.position.to_numpy()
    low, high = rows.low.clip(lower=first), rows.high.clip(upper=last)
    look: dict[str, Any] = {"color": color, "transform": style.apart(ax, shift), **OPEN}
    ax.errorbar(places, middle, np.array([middle - low, high - middle]), fmt=marker, capsize=2, elinewidth=0.9, **look)
    for opened, end, arrow in ((np.isinf(rows.low), first, "v"), (np.isinf(rows.high), last, "^")):
        if opened.any():  # a line without points would claim room
            ax.plot(places[opened], np.full(opened.sum(), end), arrow, **look)


def _limits(summary: Summary) -> tuple[float, float]:
    """Room for the marks and for the law where it has a region, within the values tried."""
    law, tried = summary.table[summary.table.inside], summary.along.values
    shown = pd.concat([law.position, law.low, law.high, *(summary.lines[c] for c in ("position", "low", "high"))])
    shown = shown[np.isfinite(shown)].clip(min(tried), max(tried))
    return max(shown.min() / ROOM, min(tried) * 0.85), min(shown.max() * ROOM, max(tried) * 1.18)


def _handles(summary: Summary) -> Iterator[Line2D]:
    laws = {row["boundary"]: row for row in summary.laws.to_dict("records")}
    for side, (color, marker, _) in LOOKS.items():
        if side in laws:
            refused = ", refused" if laws[side]["straight"] < SURE else ""
            yield Line2D([], [], color=color, marker=marker, label=f"{side}: {_exponent(laws[side])}{refused}", **OPEN)
        elif (summary.lines.boundary == side).any():
            yield Line2D([], [], color=color, marker=marker, linestyle="", label=f"{side}: no law", **OPEN)
    if summary.lines.position.isna().any():
        yield Line2D([], [], label="no crossing", **NONE)


def _exponent(row: dict[str, Any]) -> str:
    return f"exponent {row['exponent']:.2f} [{row['exponent_low']:.2f}, {row['exponent_high']:.2f}]"


def _caption(summary: Summary, table: pd.DataFrame, edges: Edges) -> str:
    along, other = summary.along.name.replace("_", " "), summary.other.name.replace("_", " ")
    outside, inside = edges.lapses
    return caption.join(
        f"{summary.along.label} at which the probability of generalization passes 0.5, at its start and its end. "
        f"Lines: {along} = constant × {other}^exponent, fitted to the trials as logistic edges (lapse rates "
        f"{outside:.2f} outside, {inside:.2f} inside) with {100 * LEVEL:.0f} % profile-likelihood intervals; dashed "
        "where the law passes 0.5 nowhere within the values tried",
        f"A straight line against log {other}: {', '.join(_verdict(row) for row in summary.laws.to_dict('records'))}",
        f"Marks: positions fitted without the law, with their {100 * LEVEL:.0f} % intervals",
        failures(summary),
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, (summary.along.name, summary.other.name)),
    )


def _verdict(row: dict[str, Any]) -> str:
    p = row["straight"]
    return f"{row['boundary']} {'cannot be tested with two values' if math.isnan(p) else verdict(p)}"


def failures(summary: Summary) -> str:
    """Where the law and the positions fitted without it disagree."""
    rows, lines, other = summary.table, summary.lines, summary.other.name
    off = rows[(rows.alone_high < rows.low) | (rows.alone_low > rows.high)]
    empty = lines[other][lines.position.isna()]
    lost = sorted(set(rows[other][rows.inside]) & set(empty))
    where = [f"the {side} at {', '.join(text(v) for v in part[other])}" for side, part in off.groupby("boundary")]
    where += [f"{', '.join(text(v) for v in lost)}, where there is no crossing"] if lost else []
    return f"The law misses, by {other.replace('_', ' ')}: {'; '.join(where)}" if where else ""
