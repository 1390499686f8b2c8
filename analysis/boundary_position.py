"""Boundary position: where along the first axis generalization becomes as likely as not, with its interval.

One row per boundary and value of the second axis; a line without a crossing gets a row that
says on which side it lies, and how many of the trials near it generalized. The trials are those of
``probability_map.py``; the boundaries are read from its fit with lapse rates, see ``phasemap.maps.phase_map``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, style
from .axis import Axis, label, plain_log, text
from .probability_map import LEVEL, Fit, fit, natural_axes, ordered, slices
from .statistics import decided, wilson

COLUMNS = ["boundary", "position", "low", "high", "n", "trials", "generalized", "rate", "rate_low", "rate_high"]
OUTSIDE = (  # benchmarks/interval_coverage.py
    "Boundaries within 5 % of an end of the axis are mostly not found: P is then known only over the stretch named"
)
REACH = 0.05  # of a continuous second axis: trials so near to a line speak for it
FEWEST = 20  # or so many


@dataclass(frozen=True)
class Summary:
    """``table``: the other axis, boundary ("start" or "end" of generalization as the axis rises, or
    "none: P < 0.5" or "none: P > 0.5" where the fit crosses nowhere), position, low, high (90 %; -inf or
    inf where the interval reaches the end of what was tried; without a position the stretch that holds no
    boundary), n (trials within one lengthscale), and of the trials near the line: trials, generalized, rate,
    rate_low, rate_high (Wilson, 95 %)."""

    table: pd.DataFrame
    along: Axis
    other: Axis | None
    caption: str

    @property
    def sentences(self) -> list[str]:
        """The result in words, one per row."""
        return [_sentence(row, self.along, self.other) for row in self.table.to_dict("records")]


def summarize(table: pd.DataFrame, along: str, other: str | None = None) -> Summary:
    """Every place along an axis where the probability of generalization crosses 0.5, at values of the other."""
    names = [n for n in (along, other) if n]
    fitted = fit(table, names)
    if not ordered(fitted.axes[0]):
        raise style.Absent(f"a boundary position needs an axis of numbers, {along} has words")
    values = slices(fitted.axes[1], most=12) if other else [None]
    rows = [row for value in values for row in _rows(table, fitted, value)]
    columns = [*([other] if other else []), *COLUMNS]
    positions = pd.DataFrame(rows)[columns]
    words = caption.join(
        f"{label(along)} at which the fitted probability of generalization is 0.5; bars: {100 * LEVEL:.0f} % intervals "
        "(joint draws of the fit, averaged over lapse rates); an arrow: the interval reaches the end of the values "
        f"tried; {'above: ' if other else ''}n, the trials within one lengthscale",
        OUTSIDE,
        _no_crossing(fitted.axes[1] if other else None) if positions.position.isna().any() else "",
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, tuple(names)),
    )
    return Summary(positions, fitted.axes[0], fitted.axes[1] if other else None, words)


def of_sweep(sweep: Sweep) -> Summary:
    """Along the first axis of numbers, at the values of the next axis."""
    summary = summarize(sweep.finished, *natural_axes(sweep)[:2])
    if summary.table.position.isna().all():
        raise style.Absent("; ".join(summary.sentences))
    return summary


def draw(ax: Axes, summary: Summary) -> None:
    """Position against the other axis; one row of positions when there is none."""
    crossings = summary.table.dropna(subset="position")
    for i, (kind, rows) in enumerate(crossings.groupby("boundary", sort=False)):
        color, marker = ((style.BLUE, "o"), (style.ORANGE, "s"))[i % 2]
        _draw_rows(
            ax,
            summary,
            rows,
            color,
            marker,
            3.0 * i - 1.5,
            f"generalization {'starts' if kind == 'start' else 'ends'}",
        )
    _dress(ax, summary)


@style.applied()
def figure(summary: Summary) -> Figure:
    """One panel."""
    height = (58 if summary.other else 34) * style.MM
    sheet, axes = style.sheet(width=style.SINGLE, height=height, caption=summary.caption)
    draw(axes[0, 0], summary)
    handles, names = axes[0, 0].get_legend_handles_labels()
    sheet.legend(handles, names, loc="outside upper right", ncols=2)
    return sheet


def _rows(table: pd.DataFrame, fitted: Fit, value: object) -> Iterator[dict[str, object]]:
    along, other = fitted.axes[0], fitted.axes[1] if len(fitted.axes) > 1 else None
    own = decided(table if other is None else near(table, other, value))
    won = int(own.grok_step.notna().sum())
    rate = wilson(won, len(own))
    common: dict[str, object] = {} if other is None else {other.name: value}
    common |= {"trials": len(own), "generalized": won, "rate": rate.value, "rate_low": rate.low, "rate_high": rate.high}
    fixed = {} if other is None else {other.name: other.places([value])[0] if ordered(other) else value}
    hits, trials = fitted.grokked.hits[:, 1].sum(), fitted.grokked.counts.sum()
    line = (along.name, [1], fixed)
    boundaries = fitted.grokked.boundaries(*line, LEVEL) if 0 < hits < trials else []
    for boundary in boundaries:
        ends = {"low": _value(boundary.low, along), "high": _value(boundary.high, along)}
        found = {"position": _value(boundary.position, along), **ends, "n": boundary.n}
        yield common | {"boundary": "start" if boundary.rises else "end", **found}
    if not boundaries:
        likely = hits > 0 and (hits == trials or fitted.grokked.likely(*line))
        clear = fitted.grokked.clear(*line, LEVEL) if 0 < hits < trials else None
        low, high = (_value(end, along) for end in clear) if clear else (math.nan, math.nan)
        ends = {"position": math.nan, "low": low, "high": high}
        yield common | {"boundary": f"none: P {'>' if likely else '<'} 0.5", **ends, "n": 0}


def near(table: pd.DataFrame, other: Axis, value: Any) -> pd.DataFrame:
    """The trials at a value of the other axis; of a continuous one, the nearest ``FEWEST`` and all that lie
    within a share ``REACH`` of its length."""
    if not other.continuous:
        return table[table[other.name] == value]
    places = [np.asarray(other.places(v), float) for v in (table[other.name], [value], other.values)]
    at, line, ends = (np.log(p) if other.scale == "log" else p for p in places)
    distance = np.abs(at - line) / np.ptp(ends)
    return table[distance <= max(REACH, np.sort(distance)[:FEWEST][-1])]


def _value(place: float, along: Axis) -> float:
    """The field value of a place; an open end stays infinite."""
    if along.scale != "ordinal" or math.isinf(place):
        return float(place)
    return float(np.interp(place, range(len(along.values)), np.array(along.values, float)))


def _sentence(row: dict[str, Any], along: Axis, other: Axis | None) -> str:
    at = "" if other is None else f" at {other.name.replace('_', ' ')} {text(row[other.name])}"
    if math.isnan(row["position"]):
        rate = f"rate {row['rate']:.2f} [{row['rate_low']:.2f}, {row['rate_high']:.2f}]"
        return f"no crossing found{at}: {_side(row)}, {rate}"
    ends = ", ".join("open" if math.isinf(row[end]) else f"{row[end]:.3g}" for end in ("low", "high"))
    what = f"critical {along.name.replace('_', ' ')}{at} ({row['boundary']} of generalization)"
    return f"{what}: {row['position']:.3g} [{ends}], n = {row['n']}"


def _side(row: dict[str, Any]) -> str:
    """ "P < 0.5, surely below 3 (2 of 40 generalized)" """
    low, high = row["low"], row["high"]
    bounds = [f"{word} {end:.3g}" for word, end in (("above", low), ("below", high)) if not math.isinf(end)]
    where = f", surely {' and '.join(bounds)}" if bounds else " everywhere"
    if math.isnan(low):
        where = " everywhere" if row["generalized"] in (0, row["trials"]) else ", nowhere surely"
    return f"{row['boundary'].removeprefix('none: ')}{where} ({row['generalized']} of {row['trials']} generalized)"


def _no_crossing(other: Axis | None) -> str:
    """What a caption says of the lines without a position."""
    whose = "at this value" if other and not other.continuous else "nearest to the line" if other else "of the sweep"
    return f"Where no crossing is found, the trials {whose} are counted"


def _draw_rows(
    ax: Axes, summary: Summary, rows: pd.DataFrame, color: str, marker: str, shift: float, name: str
) -> None:
    along, other = summary.along, summary.other
    first, last = min(along.values), max(along.values)
    places = other.places(rows[other.name]) if other else np.zeros(len(rows))
    low, high = rows.low.clip(lower=first), rows.high.clip(upper=last)
    error = np.array([rows.position - low, high - rows.position])
    if other is None:
        ax.errorbar(rows.position, places, xerr=error, fmt=marker, color=color, capsize=2, label=name)
        return
    look: dict[str, Any] = {"color": color, "transform": style.apart(ax, shift)}
    ax.errorbar(places, rows.position, error, fmt=f"{marker}-", capsize=2, elinewidth=0.9, label=name, **look)
    for opened, end, arrow in ((np.isinf(rows.low), first, "v"), (np.isinf(rows.high), last, "^")):
        if opened.any():  # an unclipped line without points would claim room at the sheet's corner
            ax.plot(places[opened], np.full(opened.sum(), end), arrow, markersize=4, clip_on=False, **look)
    above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    for place, n in rows.assign(place=places).groupby("place").n:
        counts, line = ", ".join(map(str, n)), 1 + 6.5 * (shift > 0)  # a line of its own for each kind of boundary
        ax.annotate(counts, (place, 1.0), (0, line), ha="center", va="bottom", fontsize=6, color=color, **above)


def _dress(ax: Axes, summary: Summary) -> None:
    along, other = summary.along, summary.other
    side = "y" if other else "x"
    if along.scale == "log":
        getattr(ax, f"set_{side}scale")("log")
        plain_log(getattr(ax, f"{side}axis"))
    getattr(ax, f"set_{side}label")(along.critical)
    ends = np.array([min(along.values), max(along.values)], float)
    room = (0.85, 1.18) if along.scale == "log" else (1.0, 1.0)
    getattr(ax, f"set_{side}lim")(ends[0] * room[0], ends[1] * room[1])
    if other is None:
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        return
    other.dress(ax)
    ax.set_xlim(*other.edges[[0, -1]])
    for row in summary.table[summary.table.position.isna()].to_dict("records"):
        place = other.places([row[other.name]])[0]
        middle = along.between(ends[0], ends[1], 0.5)
        ax.text(
            place,
            middle,
            _side(row).replace(", ", ",\n").replace(" and ", "\nand ").replace(" (", "\n("),
            rotation=90,
            ha="center",
            va="center",
            fontsize=6,
            color=style.GRAY,
        )
