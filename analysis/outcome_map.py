"""Outcome map: the median of any recorded number in each cell, each of its trials, and how many have no number.

A step that the budget can cut off (``EVENTS``) is censored where it did not happen, so a cell can honestly read
"> budget". Any other number has the median of the trials that have it; the others are counted and shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from phasemap.plan.outcome import DEFINITIONS, EVENTS, WORDS
from phasemap.record.reader import OUTCOMES, Sweep, own_numbers
from phasemap.words import did_you_mean

from . import caption, style
from .axis import Axis, axis_of, fitted_log, label, map_axes, short, text
from .cell import cells
from .rate_and_step import bars, open_medians
from .statistics import event_time, is_redefined, median, reached

MAP = matplotlib.colormaps["cividis"]
SHARES = {"accuracy", "agrees", "ceiling", "overlap", "purity", "score", "share", "sparsity"}  # words of their names
DECADE = 10  # from medians this many times apart on, colors and lines of other numbers are on a log scale
NUMBERS = ["median", "low", "high", "lower_quartile", "upper_quartile", "n", "known", "censored", "missing", "budget"]
LATER: dict[str, Any] = {"facecolor": "white", "hatch": "//////", "edgecolor": "#9a9a9a"}
NONE: dict[str, Any] = {"facecolor": "white", "hatch": "xxxxxx", "edgecolor": "#c9a2a2"}
LATER_POINT: dict[str, Any] = {"marker": "^", "color": "#555555", "fillstyle": "none"}
NONE_POINT: dict[str, Any] = {"marker": "x", "color": "#b0413e"}
NARROW = 1.5  # a log scale of colors reaches so far, at least
LONGEST = 6  # characters in a cell
SMALLEST = 4.5  # points of a text: cells too narrow for it have none
STRIP = (0.09, 0.32)  # of a cell's height
CENSORED, MISSING = "not within the steps run", "no number"


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per cell: its axes, median with the ends of its 95 % interval and quartiles (infinite where
    open or not reached), n (trials), of these known, censored and missing, and budget (steps).

    ``trials`` has the axes, value and censored (bool) of each trial. With a continuous axis each trial is a cell.
    """

    table: pd.DataFrame
    trials: pd.DataFrame
    outcome: str
    x: Axis
    y: Axis | None
    facet: str | None
    caption: str

    @property
    def event(self) -> bool:
        return self.outcome in EVENTS

    @property
    def continuous(self) -> bool:
        return self.x.continuous or bool(self.y and self.y.continuous)

    @property
    def share(self) -> bool:
        """Whether it is a share, an accuracy or a score from 0 to 1."""
        return not SHARES.isdisjoint(self.outcome.split("_")) and bool(self.trials.value.dropna().between(0, 1).all())

    @property
    def log(self) -> bool:
        low, high = style.value_range(self.table["median"])
        return not self.share and bool(self.trials.value.min() > 0) and (self.event or high >= DECADE * low)

    @property
    def norm(self) -> Normalize:
        """Of a share from 0 to 1, else from the smallest to the largest quartile or median of a cell: few trials lie
        beyond. No step lies beyond the budget."""
        if self.share:
            return Normalize(0, 1)
        low, high = style.value_range(self.table[["lower_quartile", "median", "upper_quartile"]].to_numpy().ravel())
        if self.log:
            top = max(high, low * NARROW)
            top = min(top, float(self.table.budget.max())) if self.event else top
            return LogNorm(min(low, top / NARROW), top)
        return Normalize(low, high if high > low else low + 1)

    def written(self, value: float) -> str:
        """A value in a cell, in six characters where three digits need more."""
        if self.share:
            return f"{value:.2f}"
        words = short(value), f"{value:.2g}", f"{value:.1e}".replace("e-0", "e-")
        return next((word for word in words if len(word) <= LONGEST), words[-1])

    def panels(self) -> list[tuple[str, Summary]]:
        """One summary per value of the facet, with its title."""
        name = self.facet
        if name is None:
            return [("", self)]
        return [
            (
                f"{name.replace('_', ' ')} {text(value)}",
                replace(self, table=part, trials=self.trials[self.trials[name] == value], facet=None),
            )
            for value, part in self.table.groupby(name)
        ]


def numbers(table: pd.DataFrame) -> list[str]:
    """Every outcome that is a number, those of the user's probes first."""
    return [*own_numbers(table), *(name for name in OUTCOMES if name not in WORDS and name in table)]


def natural(table: pd.DataFrame) -> list[str]:
    """The outcomes that are drawn if none is named: what the user's probes measured, or else the accuracy."""
    return own_numbers(table) or ["final_test_accuracy"]


def check(table: pd.DataFrame, outcome: str) -> None:
    """Raises ValueError unless the outcome is a number of these trials."""
    known = numbers(table)
    if outcome not in known:
        met = [name for name in known if table[name].notna().any()]
        near = did_you_mean(outcome, known)
        raise ValueError(f"outcome: must be a recorded number, got {outcome!r}{near}; there are {', '.join(met)}")


def summarize(table: pd.DataFrame, outcome: str, x: str, y: str | None = None, facet: str | None = None) -> Summary:
    """An outcome per cell of the finished trials in the table (columns outcome, steps_run, steps, phase, the axes).

    Raises:
        ValueError: there is no such outcome.
        Absent: no trial has it.
    """
    if table.empty:
        raise style.Absent("no finished trial yet")
    check(table, outcome)
    table = table.assign(censored=_censored(table, outcome))
    if not (table[outcome].notna() | table.censored).any():
        meaning = f" ({DEFINITIONS[outcome]})" if outcome in DEFINITIONS else ""
        raise style.Absent(f"no finished trial has a {outcome}{meaning}")
    keys = [k for k in (x, y, facet) if k]
    rows = [(*place, *_numbers(cell, outcome)) for place, cell in table.groupby(keys)]
    by_cell = pd.DataFrame(rows, columns=[*keys, *NUMBERS])
    axes = axis_of(table, x), axis_of(table, y) if y else None
    if y and not any(a and a.continuous for a in axes):
        axes = axes[0].evenly(), axes[1].evenly() if axes[1] else None
    trials = table[[*keys, "censored"]].assign(value=table[outcome])
    summary = Summary(by_cell, trials, outcome, *axes, facet, "")
    return replace(summary, caption=_caption(summary, table, tuple(keys)))


def of_sweep(sweep: Sweep, outcome: str | None = None, x: str | None = None, y: str | None = None) -> Summary:
    """The axes named, then the first others that vary, three in all."""
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    names = map_axes(sweep, x, y)
    if not names:
        raise style.Absent("a map needs an axis besides the seed")
    return summarize(sweep.finished, outcome or natural(sweep.finished)[0], *names)


def draw(ax: Axes, summary: Summary) -> None:
    """One panel: the first facet of the summary."""
    _draw_panel(ax, summary.panels()[0][1], summary, 6)


@style.applied()
def figure(summary: Summary) -> Figure:
    """All panels with one color bar."""
    panels, across = summary.panels(), 1 if summary.continuous else len(summary.x.values)
    rows, columns = style.grid(len(panels), most=max(1, min(4, 20 // across)))
    width = style.DOUBLE if columns > 1 else style.MIDDLE if len(panels) > 1 or across > 5 else style.SINGLE
    height = (62 if len(panels) == 1 else 55 * rows) * style.MM
    sheet, axes = style.sheet(rows, columns, width, height, summary.caption, sharex=True, sharey=True)
    cell = 72 * (0.78 * width / columns - 0.2) / across  # its width in points
    longest = max(len(_word(row, summary)) for row in summary.table.to_dict("records"))
    size = min(8.0, 0.27 * cell, 1.55 * cell / longest)
    for ax, (title, panel) in zip(axes.flat, panels, strict=False):
        _draw_panel(ax, panel, summary, size)
        ax.set_title(title)
    for ax in axes.flat:
        ax.label_outer()
    style.hide_rest(axes, len(panels))
    if summary.y is not None:
        _bar(sheet, axes, summary)
    handles = axes[0, 0].get_legend_handles_labels()[0] or list(_handles(summary))
    if handles:
        sheet.legend(handles=handles, loc="outside upper right", ncols=4, columnspacing=1.2)
    return sheet


def _censored(table: pd.DataFrame, outcome: str) -> pd.Series:
    """The trials in which the event did not happen within the steps run; without inner strides there is no takeover."""
    if outcome not in EVENTS:
        return pd.Series(False, table.index)
    able = table.both_strides_score.notna() if outcome == "takeover_step" else True
    return table[outcome].isna() & ~is_redefined(table, outcome) & able


def _numbers(cell: pd.DataFrame, outcome: str) -> tuple[float, ...]:
    own = cell[cell[outcome].notna() | cell.censored]
    if outcome in EVENTS:
        time = event_time(own, outcome)
        middle, budget = time.median, time.budget
        quartiles = [reached(time.curve, share) for share in (0.25, 0.75)]
    else:
        middle, budget = median(own[outcome]), math.nan
        quartiles = list(np.quantile(own[outcome], (0.25, 0.75))) if len(own) else [math.nan, math.nan]
    censored = int(own.censored.sum())
    counts = len(cell), len(own) - censored, censored, len(cell) - len(own)
    return middle.value if len(own) else math.nan, middle.low, middle.high, *quartiles, *counts, budget


def _draw_panel(ax: Axes, panel: Summary, whole: Summary, size: float) -> None:
    """``whole``: the summary of all panels, which colors and counts are compared in."""
    if panel.y is None:
        (_draw_dots if panel.continuous else _draw_line)(ax, panel, whole)
    elif panel.continuous:
        _draw_points(ax, panel, panel.y, whole)
    else:
        _draw_cells(ax, panel, panel.y, whole, size)


def _draw_cells(ax: Axes, panel: Summary, y: Axis, whole: Summary, size: float) -> None:
    x, norm = panel.x, whole.norm
    places = panel.trials.groupby([x.name, y.name])
    for row, cell in cells(ax, panel.table, x, y):
        has = math.isfinite(row["median"])
        look = {"facecolor": MAP(norm(row["median"]))} if has else LATER if row["budget"] > 0 else NONE
        ink = style.ink(look["facecolor"])
        cell.fill(ax, **look, linewidth=0)
        cell.fill(ax, fill=False, edgecolor="white", linewidth=1)
        own = _looks(places.get_group((row[x.name], row[y.name])), norm)
        spread = any(one != own[0] for one in own)
        if spread:
            cell.strip(ax, own, STRIP, ink)
        if size >= SMALLEST:
            counted = _uncommon(row, whole.table)
            up = 0.5 + 0.1 * spread - 0.04 * counted
            _write(ax, cell.at(0.5, up), _word(row, whole), has, color=ink, fontsize=size)
            if counted:
                corner = {"ha": "right", "va": "top", "fontsize": max(SMALLEST, 0.6 * size)}
                _write(ax, cell.at(0.97, 0.97), _count(row, whole.table), has, color=ink, **corner)


def _write(ax: Axes, at: tuple[float, float], words: str, has: bool, **look: Any) -> None:
    """Words in a cell, on white where it has no color."""
    box = None if has else {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    ax.text(*at, words, **{"ha": "center", "va": "center", "bbox": box, **look})


def _word(row: dict[Any, Any], whole: Summary) -> str:
    """The median in a cell."""
    if math.isfinite(row["median"]):
        return whole.written(row["median"])
    return f">{short(row['budget'])}" if row["budget"] > 0 else "none"


def _uncommon(row: dict[Any, Any], table: pd.DataFrame) -> bool:
    """Whether a cell says how many trials it has: it is not the usual number, or some have no value."""
    return bool(row["missing"] or row["n"] != table.n.mode()[0])


def _count(row: dict[Any, Any], table: pd.DataFrame) -> str:
    """n, or "4/5" in a map where some trials have no number."""
    return f"{row['n'] - row['missing']}/{row['n']}" if table.missing.any() else str(row["n"])


def _looks(trials: pd.DataFrame, norm: Normalize) -> list[dict[str, Any]]:
    """Colors of a cell's trials from the smallest value to the largest, then those later than the steps run, then
    those without a number."""
    values = [{"facecolor": MAP(norm(v))} for v in np.sort(trials.value.dropna())]
    censored = int(trials.censored.sum())
    return [*values, *[LATER] * censored, *[NONE] * (len(trials) - len(values) - censored)]


def _draw_points(ax: Axes, panel: Summary, y: Axis, whole: Summary) -> None:
    x, own = panel.x, panel.trials
    known = own[own.value.notna()]
    look: dict[str, Any] = {"c": known.value, "cmap": MAP, "norm": whole.norm, "edgecolor": "#333333", "linewidth": 0.4}
    ax.scatter(x.places(known[x.name]), y.places(known[y.name]), s=18, **look)
    for rows, point in ((own[own.censored], LATER_POINT), (own[own.value.isna() & ~own.censored], NONE_POINT)):
        places = x.places(rows[x.name]), y.places(rows[y.name])
        ax.plot(*places, linestyle="", markersize=4, markeredgewidth=0.7, **point)
    x.dress(ax)
    y.dress(ax, "y")


def _draw_dots(ax: Axes, panel: Summary, whole: Summary) -> None:
    """Along one continuous axis: each trial."""
    _draw_trials(ax, panel, whole)
    _dress(ax, panel, whole, "")


def _draw_line(ax: Axes, panel: Summary, whole: Summary) -> None:
    """Along one axis: medians with their intervals, and each trial."""
    rows, x = panel.table, panel.x
    budget = whole.table.budget.max()
    _draw_trials(ax, panel, whole)
    shown = rows[rows["median"].notna()]
    places, has = x.places(shown[x.name]), np.isfinite(shown["median"].to_numpy())
    middle = shown["median"].where(has, budget)
    if whole.event:
        lengths = bars(middle, shown.low, shown.high, budget)
    else:
        closed = np.isfinite(shown.low)
        lengths = np.array([(middle - shown.low).where(closed, 0), (shown.high - middle).where(closed, 0)])
    ax.errorbar(places, middle, lengths, fmt="none", ecolor=style.BLUE, elinewidth=0.9, capsize=2)
    line = "-" if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in x.values) else ""
    ax.plot(places[has], middle[has], f"o{line}", color=style.BLUE, label="median")
    if not has.all():
        ax.plot(places[~has], middle[~has], "^", color=style.BLUE, fillstyle="none", label="median not reached")
    for row in rows.to_dict("records"):
        place = x.places([row[x.name]])[0], 1.0
        above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        ax.annotate(_count(row, whole.table), place, (0, 1), ha="center", fontsize=6.5, **above)
    ax.set_xlim(*x.edges[[0, -1]])
    _dress(ax, panel, whole, "median ")


def _draw_trials(ax: Axes, panel: Summary, whole: Summary) -> None:
    """Each trial: a dot at its value, an open triangle at the budget where the step is later, a cross at the foot
    where there is no number."""
    own, budget, places = panel.trials, whole.table.budget.max(), panel.x.places(panel.trials[panel.x.name])
    look: dict[str, Any] = {"linestyle": "", "markersize": 3.5, "zorder": 1}
    ax.plot(places, own.value, marker=".", color=style.GRAY, label="trials", **look)
    late, missing = own.censored.to_numpy(), (own.value.isna() & ~own.censored).to_numpy()
    if late.any():
        ax.plot(places[late], np.full(late.sum(), budget), label=CENSORED, **look, **LATER_POINT)
    if missing.any():
        foot = np.full(missing.sum(), 0.03)
        ax.plot(places[missing], foot, transform=ax.get_xaxis_transform(), label=MISSING, **look, **NONE_POINT)


def _dress(ax: Axes, panel: Summary, whole: Summary, what: str) -> None:
    if whole.event:
        ax.axhline(whole.table.budget.max(), color=style.GRAY, linewidth=0.6, linestyle="--")
    if whole.log:
        ax.set_yscale("log")
        fitted_log(ax.yaxis)
    if whole.share:
        ax.set_ylim(-0.04, 1.06)
        ax.set_yticks(*style.QUARTERS)
    panel.x.dress(ax)
    ax.set_ylabel(_label(whole.outcome, what))


def _label(outcome: str, what: str) -> str:
    return f"{what}{label(outcome)}".replace(" (", "\n(")


def _bar(sheet: Figure, axes: np.ndarray, summary: Summary) -> None:
    known, values = summary.table["median"], summary.trials.value
    if not np.isfinite(known).any() or values.nunique() == 1:
        return
    norm = summary.norm
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    beyond = ends[bool(values.min() < norm.vmin), bool(values.max() > norm.vmax)]
    bar = sheet.colorbar(ScalarMappable(norm, MAP), ax=axes, shrink=0.9, extend=beyond)
    bar.set_label(_label(summary.outcome, "" if summary.continuous else "median "))
    bar.outline.set_visible(False)
    if summary.log:
        fitted_log(bar.ax.yaxis)
    if summary.share:
        bar.ax.set_yticks(*style.QUARTERS)


def _handles(summary: Summary) -> Iterator[Artist]:
    """What stands for the trials without a value, where there are any."""
    for count, name, look, point in (
        (summary.table.censored.sum(), CENSORED, LATER, LATER_POINT),
        (summary.table.missing.sum(), MISSING, NONE, NONE_POINT),
    ):
        if count and summary.continuous:
            yield Line2D([], [], linestyle="", label=name, **point)
        elif count:
            yield Patch(label=name, linewidth=0.4, **look)


def _caption(summary: Summary, table: pd.DataFrame, keys: Sequence[str]) -> str:
    values, points = summary.trials.value, summary.continuous
    constant = values.nunique() == 1 and values.notna().all()
    return caption.join(
        _what(summary),
        f"It is {summary.written(values.iloc[0])} in every trial" if constant else "" if points else _spread(summary),
        _missing(summary),
        _meaning(summary.outcome, table),
        "" if points else caption.seeds(summary.table.n),
        caption.sizes(table),
        caption.pooled(table, tuple(keys)),
    )


def _what(summary: Summary) -> str:
    name = summary.outcome.replace("_", " ")
    if summary.continuous:
        return f"{name}; each point is a trial"
    if not summary.event:
        return f"Median {name} of the trials of a cell"
    hatched = "; a hatched cell: fewer than half are estimated to reach it" if summary.y else ""
    return f"Kaplan–Meier median of the {name}; a trial without it is censored at the steps it ran{hatched}"


def _spread(summary: Summary) -> str:
    if summary.y is None:
        return caption.join("Bars: 95 % intervals of the medians; above: n", open_medians(summary.table.low))
    return "Strips: the trials of a cell, smallest first. Intervals of the medians and quartiles stand in the CSV"


def _missing(summary: Summary) -> str:
    rows, where = summary.table, "In the corner" if summary.y else "Above"
    if not rows.missing.any():
        uneven = summary.y and not summary.continuous and rows.n.nunique() > 1
        return f"{where}: n where it is not {rows.n.mode()[0]}" if uneven else ""
    left = f"{rows.missing.sum()} of {rows.n.sum()} trials have no {summary.outcome.replace('_', ' ')}"
    return left if summary.continuous else f"{left} and are in no median. {where}: trials with a number / n"


def _meaning(outcome: str, table: pd.DataFrame) -> str:
    if outcome == "grok_step":
        return caption.grokked(table)  # with the thresholds used
    return f"{outcome.replace('_', ' ')}: {DEFINITIONS[outcome]}" if outcome in DEFINITIONS else ""
