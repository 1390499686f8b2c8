"""Boundary position: where along the first axis grokking becomes as likely as not, with its interval.

One row per boundary and value of the second axis; a line without a boundary gets a row that says on
which side it lies. The fit is that of ``probability_map.py``; nothing is fitted here.
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

from phasemap.maps.phase_map import Boundary
from phasemap.record.reader import Sweep

from . import caption, style
from .axis import Axis, label, plain_log, text
from .probability_map import LEVEL, Fit, fit, natural_axes, ordered, slices


@dataclass(frozen=True)
class Summary:
    """``table``: the other axis, boundary ("start" or "end" of grokking as the axis rises, or the
    words "none: all grok" or "none: none groks"), position, low, high (90 %; -inf or inf where the
    interval reaches the end of what was tried), n (trials within one lengthscale), trials (on the line)."""

    table: pd.DataFrame
    along: Axis
    other: Axis | None
    caption: str

    @property
    def sentences(self) -> list[str]:
        """The result in words, one per row."""
        return [_sentence(row, self.along, self.other) for row in self.table.to_dict("records")]


def summarise(table: pd.DataFrame, along: str, other: str | None = None) -> Summary:
    """Every place along an axis where the probability of grokking crosses 0.5, at values of the other."""
    names = [n for n in (along, other) if n]
    fitted = fit(table, names)
    if not ordered(fitted.axes[0]):
        raise style.Absent(f"a boundary position needs an axis of numbers, {along} has words")
    values = slices(fitted.axes[1], most=12) if other else [None]
    rows = [row for value in values for row in _rows(table, fitted, value)]
    columns = [*([other] if other else []), "boundary", "position", "low", "high", "n", "trials"]
    words = caption.join(
        f"{label(along)} at which the fitted probability of grokking is 0.5; bars: {100 * LEVEL:.0f} % intervals "
        "(joint draws of the fit); an arrow: the interval reaches the end of the values tried; numbers: trials "
        "within one lengthscale",
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, tuple(names)),
    )
    found = pd.DataFrame(rows)[columns]
    return Summary(found, fitted.axes[0], fitted.axes[1] if other else None, words)


def of_sweep(sweep: Sweep) -> Summary:
    """Along the first axis of numbers, at the values of the next axis."""
    summary = summarise(sweep.finished, *natural_axes(sweep)[:2])
    if summary.table.position.isna().all():
        raise style.Absent("no boundary: " + "; ".join(dict.fromkeys(summary.table.boundary)))
    return summary


def draw(ax: Axes, summary: Summary) -> None:
    """Position against the other axis; one row of positions when there is none."""
    found = summary.table.dropna(subset="position")
    for i, (kind, rows) in enumerate(found.groupby("boundary", sort=False)):
        colour, marker = ((style.BLUE, "o"), (style.ORANGE, "s"))[i % 2]
        _draw_rows(
            ax, summary, rows, colour, marker, 3.0 * i - 1.5, f"grokking {'starts' if kind == 'start' else 'ends'}"
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
    other = fitted.axes[1] if len(fitted.axes) > 1 else None
    own = table if other is None or other.continuous else table[table[other.name] == value]
    common: dict[str, object] = {} if other is None else {other.name: value}
    common["trials"] = len(own)
    hits = fitted.grokked.hits[:, 1].sum()
    mixed = 0 < hits < fitted.grokked.counts.sum()
    fixed = {} if other is None else {other.name: other.places([value])[0] if ordered(other) else value}
    along = fitted.axes[0]
    found = fitted.grokked.boundaries(along.name, [1], fixed, LEVEL) if mixed else []
    for boundary in found:
        yield common | {"boundary": "start" if boundary.rises else "end", **_interval(boundary, along)}
    if not found:
        side = "all grok" if own.grok_step.notna().mean() > 0.5 else "none groks"
        empty = dict.fromkeys(("position", "low", "high"), math.nan)
        yield common | {"boundary": f"none: {side}", **empty, "n": 0}


def _interval(boundary: Boundary, along: Axis) -> dict[str, float | int]:
    """Field values; an end of the interval at the end of the axis is open."""
    first, last = along.places(along.values)[[0, -1]]
    reach = 1e-6 * (last - first)
    low = -math.inf if boundary.low <= first + reach else _value(boundary.low, along)
    high = math.inf if boundary.high >= last - reach else _value(boundary.high, along)
    return {"position": _value(boundary.position, along), "low": low, "high": high, "n": boundary.n}


def _value(place: float, along: Axis) -> float:
    if along.scale != "ordinal":
        return float(place)
    return float(np.interp(place, range(len(along.values)), np.array(along.values, float)))


def _sentence(row: dict, along: Axis, other: Axis | None) -> str:
    at = "" if other is None else f" at {other.name.replace('_', ' ')} {text(row[other.name])}"
    if math.isnan(row["position"]):
        return f"no boundary{at} ({row['boundary'].removeprefix('none: ')}, {row['trials']} trials)"
    ends = ", ".join("open" if math.isinf(row[end]) else f"{row[end]:.3g}" for end in ("low", "high"))
    told = f"critical {along.name.replace('_', ' ')}{at} ({row['boundary']} of grokking)"
    return f"{told}: {row['position']:.3g} [{ends}], n = {row['n']}"


def _draw_rows(
    ax: Axes, summary: Summary, rows: pd.DataFrame, colour: str, marker: str, shift: float, name: str
) -> None:
    from matplotlib.transforms import ScaledTranslation

    along, other = summary.along, summary.other
    first, last = min(along.values), max(along.values)
    places = other.places(rows[other.name]) if other else np.zeros(len(rows))
    low, high = rows.low.clip(lower=first), rows.high.clip(upper=last)
    error = np.array([rows.position - low, high - rows.position])
    if other is None:
        ax.errorbar(rows.position, places, xerr=error, fmt=marker, color=colour, capsize=2, label=name)
        return
    apart = ax.transData + ScaledTranslation(shift / 72, 0, ax.figure.dpi_scale_trans)  # type: ignore[union-attr]
    look: dict[str, Any] = {"color": colour, "transform": apart}
    ax.errorbar(places, rows.position, error, fmt=f"{marker}-", capsize=2, elinewidth=0.9, label=name, **look)
    for opened, end, arrow in ((np.isinf(rows.low), first, "v"), (np.isinf(rows.high), last, "^")):
        if opened.any():  # an unclipped line without points would claim room at the sheet's corner
            ax.plot(places[opened], np.full(opened.sum(), end), arrow, markersize=4, clip_on=False, **look)
    for place, top, n in zip(places, high, rows.n, strict=True):
        ax.annotate(
            str(n), (place, top), (shift, 3), textcoords="offset points", ha="center", fontsize=5.5, color=colour
        )


def _dress(ax: Axes, summary: Summary) -> None:
    along, other = summary.along, summary.other
    side = "y" if other else "x"
    if along.scale == "log":
        getattr(ax, f"set_{side}scale")("log")
        plain_log(getattr(ax, f"{side}axis"))
    getattr(ax, f"set_{side}label")(f"critical {along.label}")
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
        place, told = other.places([row[other.name]])[0], row["boundary"].removeprefix("none: ")
        middle = along.between(ends[0], ends[1], 0.5)
        ax.text(place, middle, told, rotation=90, ha="center", va="center", fontsize=6, color=style.GREY)
