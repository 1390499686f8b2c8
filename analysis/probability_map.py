"""Probability map: how likely a trial is to generalize at each point of one or two axes, and how sure that is.

Contours at 0.1, 0.5 and 0.9 with the band of the middle one, the trials themselves, and the entropy
of the phases. The fit is ``phasemap.maps.phase_map``; the positions as numbers: ``boundary_position.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from phasemap.maps import axes as coordinates
from phasemap.maps.phase_map import PhaseMap
from phasemap.record.reader import Sweep

from . import caption, style
from .axis import Axis, axis_of, label, text

LEVEL = 0.9  # mass of bands and intervals read off the fit
LINES = (0.1, 0.5, 0.9)
ROW = 8  # trials of one place that stand side by side
WIDE, HIGH = 0.84, 0.6  # of their block, in gaps between neighboring values
EDGE = 0.025  # of an axis: room for marks at its ends, at least
LINE, ROW_DEEP, DEEP = 0.05, 0.05, 0.3  # of the strips beyond 0 and 1 of a curve: room, each row, all rows at most
FINE = 41  # lattice points along an axis
CHANCE = LinearSegmentedColormap.from_list("chance", ["#ffffff", "#8fb8d8"])
DOUBT = LinearSegmentedColormap.from_list("doubt", ["#ffffff", "#b9b3c9", "#4b3f66"])


@dataclass(frozen=True)
class Fit:
    """Phase maps over the named axes: of generalized (1) against not (0), and of all phases."""

    axes: tuple[Axis, ...]
    grokked: PhaseMap
    phases: PhaseMap


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per lattice point: the axes (an ordinal one as its rank, from 0), the
    probability of generalization with low and high end of its 90 % band, and the entropy of the phases in
    bits. ``trials`` has the axes of each trial, its seed, its phase and whether it generalized."""

    table: pd.DataFrame
    trials: pd.DataFrame
    x: Axis
    y: Axis | None
    facet: str | None
    caption: str

    def panels(self) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
        """Title, lattice and trials of each panel; a trial stands in the panel nearest to it."""
        if self.facet is None:
            return [("", self.table, self.trials)]
        name, shown = self.facet, list(self.table[self.facet].unique())
        ends: Any = self.trials[name]
        if shown and isinstance(shown[0], (int, float, np.number)):
            ends = ends.map(lambda v: min(shown, key=lambda s: abs(s - v)))
        parts = self.table.groupby(name, sort=False)
        return [(f"{name.replace('_', ' ')} {text(v)}", part, self.trials[ends == v]) for v, part in parts]


def ordered(axis: Axis) -> bool:
    """Whether the values stand in an order, as numbers do and words do not."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in axis.values)


def natural_axes(sweep: Sweep) -> list[str]:
    """The axes that vary, ordered ones first."""
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    axes = [axis_of(sweep.finished, name) for name in sweep.cell_axes]
    if not any(ordered(a) for a in axes):
        raise style.Absent("a probability map needs an axis of numbers besides the seed")
    return [a.name for a in sorted(axes, key=lambda a: not ordered(a))]


def fit(table: pd.DataFrame, names: Sequence[str]) -> Fit:
    """Over the trials of a table (columns phase, grok_step and the named ones); other axes are pooled."""
    table = style.with_phases(table)
    axes = tuple(axis_of(table, name) for name in names)
    on = coordinates.Axes(tuple(_map_axis(a) for a in axes))
    places = [list(a.places(table[a.name])) if ordered(a) else table[a.name].tolist() for a in axes]
    columns = [o.unit(place) for o, place in zip(on.axes, places, strict=True)]
    points = np.stack(columns, 1)
    grokked = PhaseMap.fit(points, table.grok_step.notna().astype(int).tolist(), on, phases=(0, 1))
    return Fit(axes, grokked, PhaseMap.fit(points, table.phase.tolist(), on, phases=_met(table)))


def summarize(table: pd.DataFrame, x: str, y: str | None = None, facet: str | None = None) -> Summary:
    """Probabilities and entropy on a lattice of x (and y), at each value of the facet."""
    names = [n for n in (x, y, facet) if n]
    fitted = fit(table, names)
    axes = dict(zip(names, fitted.axes, strict=True))
    lines = {n: lattice(axes[n]) for n in (x, y) if n} | ({facet: slices(axes[facet])} if facet else {})
    spots = pd.MultiIndex.from_product(list(lines.values()), names=list(lines)).to_frame(index=False)
    points = np.stack([on.unit(spots[on.name].tolist()) for on in fitted.grokked.axes.axes], 1)
    low, middle, high = fitted.grokked.band(points, [1], LEVEL) if _mixed(fitted) else [_certain(fitted, points)] * 3
    cells = spots.assign(probability=middle, low=low, high=high, entropy=fitted.phases.entropy(points))
    trials = table.loc[table.phase.notna(), [*names, "seed", "phase"]].assign(grokked=table.grok_step.notna())
    return Summary(cells, trials, axes[x], axes[y] if y else None, facet, _caption(table, tuple(names)))


def of_sweep(sweep: Sweep) -> Summary:
    """The first two axes of numbers, and panels over a third axis."""
    names = natural_axes(sweep)
    if len(names) > 1 and not ordered(axis_of(sweep.finished, names[1])):
        return summarize(sweep.finished, names[0], None, names[1])
    return summarize(sweep.finished, *names[:3])


def lattice(axis: Axis) -> np.ndarray:
    """Evenly spaced coordinates from the first to the last value of an ordered axis."""
    first, *_, last = axis.places(axis.values).tolist()
    return np.geomspace(first, last, FINE) if axis.scale == "log" else np.linspace(first, last, FINE)


def slices(axis: Axis, most: int = 6) -> list[Any]:
    """The values at which a map is cut: those tried, or three spread over a long or continuous axis."""
    if not axis.continuous and (len(axis.values) <= most or not ordered(axis)):
        return list(axis.values)
    return [axis.values[round(share * (len(axis.values) - 1))] for share in (1 / 6, 1 / 2, 5 / 6)]


def draw(ax: Axes, summary: Summary) -> None:
    """Probability of generalization in the first panel."""
    _, cells, trials = summary.panels()[0]
    (_draw_chance if summary.y else _draw_curve)(ax, summary, cells, trials)


@style.applied()
def figure(summary: Summary) -> Figure:
    """Probability and entropy of every panel."""
    panels = summary.panels()
    if summary.y is None:
        return _curves(summary, panels)
    shape = (1, 2) if len(panels) == 1 else (2, len(panels))
    height = (62 if len(panels) == 1 else 104) * style.MM
    sheet, axes = style.sheet(*shape, style.DOUBLE, height, summary.caption, sharex=True, sharey=True)
    rows = axes.reshape(2, len(panels))
    most = max(float(summary.table.entropy.max()), 1.0)
    for (title, cells, trials), upper, lower in zip(panels, *rows, strict=True):
        _draw_chance(upper, summary, cells, trials)
        _draw_doubt(lower, summary, cells, trials, most)
        upper.set_title(title or "probability of generalization", fontsize=7.5)
        lower.set_title("" if title else "entropy of the phases", fontsize=7.5)
    for ax in axes.flat:
        ax.label_outer()
    several = len(panels) > 1  # else the title says what the bar shows, and the next panel would seem to have its label
    _bar(sheet, rows[0], CHANCE, 1.0, "probability of generalization" if several else "")
    _bar(sheet, rows[1], DOUBT, most, "entropy (bits)" if several else "bits")
    handles = [*_phase_handles(summary.trials), *_line_handles()]
    sheet.legend(handles=handles, loc="outside upper left", ncols=5, fontsize=6.5, columnspacing=1.2, handletextpad=0.5)
    return sheet


def _draw_chance(ax: Axes, summary: Summary, cells: pd.DataFrame, trials: pd.DataFrame) -> None:
    chance, low, high = (_grid(cells, k) for k in ("probability", "low", "high"))
    x, y = _mesh(cells, summary)
    ax.pcolormesh(x, y, chance, cmap=CHANCE, vmin=0, vmax=1, shading="gouraud", rasterized=True, zorder=0)
    doubt = np.minimum(high - 0.5, 0.5 - low)  # above 0 where the band holds 0.5
    if doubt.max() > 0:
        ax.contourf(x, y, doubt, [0, 1], colors="none", hatches=["//////"], zorder=1)
    for line, dash, width in zip(LINES, (":", "-", "--"), (0.9, 1.5, 0.9), strict=True):
        if chance.min() < line < chance.max():
            ax.contour(x, y, chance, [line], colors="#1a1a1a", linestyles=dash, linewidths=width, zorder=2)
    _draw_trials(ax, summary, trials)


def _draw_doubt(ax: Axes, summary: Summary, cells: pd.DataFrame, trials: pd.DataFrame, most: float) -> None:
    entropy = _grid(cells, "entropy")
    ax.pcolormesh(*_mesh(cells, summary), entropy, cmap=DOUBT, vmin=0, vmax=most, shading="gouraud", rasterized=True)
    _draw_trials(ax, summary, trials)


def _draw_trials(ax: Axes, summary: Summary, trials: pd.DataFrame) -> None:
    assert summary.y is not None
    blocks = _blocks(trials, [summary.x.name, summary.y.name])
    summary.x.dress(ax)
    summary.y.dress(ax, "y")
    ax.set_xlim(*_room(summary.x, WIDE * (blocks.wide > 1)))
    ax.set_ylim(*_room(summary.y, HIGH * (blocks.rows > 1)))
    size = _size(ax, summary.x, blocks.wide)
    for phase, (color, marker) in style.looks(style.phases_of(trials)).items():
        own = trials[trials.phase == phase]
        x = _moved(summary.x, own, WIDE * blocks.across[own.index])
        y = _moved(summary.y, own, HIGH * blocks.up[own.index])
        look: dict[str, Any] = {"marker": marker, "color": color, "edgecolor": "#222222", "zorder": 3}
        ax.scatter(x, y, s=size, linewidth=min(0.4, size / 20), **look)
    ax.set_facecolor(style.NOTHING)
    ax.spines[:].set_visible(False)


@dataclass(frozen=True)
class _Blocks:
    """Trials of one place as rows of marks, ``wide`` at most: where each stands, from -0.5 to 0.5 of a block."""

    across: pd.Series
    up: pd.Series
    wide: int
    rows: int


def _blocks(trials: pd.DataFrame, keys: list[str]) -> _Blocks:
    """Those that share the keys' values side by side, by phase; more than ``ROW`` of them in rows of one length."""
    places = trials.sort_values("phase").groupby(keys)
    order = places.cumcount().reindex(trials.index)
    count = places.phase.transform("size").reindex(trials.index)
    rows = -(-int(count.max()) // ROW)
    wide = -(-int(count.max()) // rows)
    row = order // wide
    beside = (count - row * wide).clip(upper=wide)  # in its row
    return _Blocks((order % wide - (beside - 1) / 2) / wide, ((-(-count // wide) - 1) / 2 - row) / rows, wide, rows)


def _flat(axis: Axis) -> np.ndarray:
    """Coordinates of its values where they are drawn at even distances."""
    places = axis.places(axis.values)
    return np.log(places) if axis.scale == "log" else places


def _moved(axis: Axis, own: pd.DataFrame, gaps: pd.Series) -> np.ndarray:
    """Coordinates of trials, so many gaps of neighboring values away from their own."""
    places, away = axis.places(own[axis.name]), np.diff(_flat(axis)).min() * gaps.to_numpy(float)
    return places * np.exp(away) if axis.scale == "log" else places + away


def _room(axis: Axis, gaps: float) -> tuple[float, float]:
    """Ends of a panel that holds the marks at the first and the last value."""
    flat = _flat(axis)
    room = max(EDGE * np.ptp(flat), 0 if axis.continuous else gaps / 2 * np.diff(flat).min())
    low, high = flat[0] - room, flat[-1] + room
    return (math.exp(low), math.exp(high)) if axis.scale == "log" else (low, high)


def _size(ax: Axes, axis: Axis, wide: int) -> float:
    """Area of marks (points^2) of which so many stand side by side at a value of the horizontal axis."""
    if wide == 1:
        return 15.0
    panel = 0.85 * 72 * ax.get_position().width * ax.figure.get_figwidth()  # type: ignore[union-attr]
    flat = _flat(axis)
    pitch = WIDE * np.diff(flat).min() / (np.ptp(flat) + WIDE * np.diff(flat).min()) * panel / wide
    return float(np.clip(0.9 * pitch**2, 2.0, 15.0))


def _curves(summary: Summary, panels: list[tuple[str, pd.DataFrame, pd.DataFrame]]) -> Figure:
    rows, columns = style.grid(len(panels), most=3)
    width = style.SINGLE if len(panels) == 1 else style.DOUBLE
    sheet, axes = style.sheet(rows, columns, width, 55 * rows * style.MM, summary.caption, sharex=True, sharey=True)
    for ax, (title, cells, trials) in zip(axes.flat, panels, strict=False):
        _draw_curve(ax, summary, cells, trials)
        ax.set_title(title)
        ax.label_outer()
    style.hide_rest(axes, len(panels))
    sheet.legend(handles=_phase_handles(summary.trials), loc="outside upper left", ncols=2, fontsize=6.5)
    return sheet


def _draw_curve(ax: Axes, summary: Summary, cells: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Along one axis: the probability with its band; the trials stand at 1 (generalized) or 0."""
    x = summary.x
    ax.fill_between(cells[x.name], cells.low, cells.high, color=style.BLUE, alpha=0.18, linewidth=0)
    ax.plot(cells[x.name], cells.probability, color=style.BLUE)
    ax.axhline(0.5, color=style.GRAY, linewidth=0.6, linestyle=":")
    blocks = _blocks(trials, [x.name, "grokked"])
    x.dress(ax)
    ax.set_xlim(*_room(x, WIDE))
    size = min(9.0, _size(ax, x, blocks.wide))
    deep = min(DEEP, ROW_DEEP * blocks.rows)  # of the rows beyond 0 and 1
    for low, high in ((-LINE - deep, 0), (1, 1 + LINE + deep)):
        ax.axhspan(low, high, color=style.NOTHING, linewidth=0, zorder=0)
    for phase, (color, marker) in style.looks(style.phases_of(trials)).items():
        own = trials[trials.phase == phase]
        middle = np.where(own.grokked, 1 + (LINE + deep) / 2, -(LINE + deep) / 2)
        look: dict[str, Any] = {"marker": marker, "color": color, "edgecolor": "#222222", "zorder": 3}
        ax.scatter(
            _moved(x, own, WIDE * blocks.across[own.index]),
            middle + deep * blocks.up[own.index],
            s=size,
            linewidth=0.3,
            **look,
        )
    ax.set(ylabel="probability of generalization", ylim=(-LINE - deep, 1 + LINE + deep))
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.spines["left"].set_bounds(0, 1)


def _bar(sheet: Figure, axes: np.ndarray, colors: LinearSegmentedColormap, most: float, name: str) -> None:
    bar = sheet.colorbar(ScalarMappable(Normalize(0, most), colors), ax=list(axes), aspect=25, pad=0.015)
    bar.set_label(name, fontsize=7)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6.5)
    if colors is CHANCE:
        bar.set_ticks([0, *LINES, 1])


def _phase_handles(trials: pd.DataFrame) -> list[Artist]:
    counts = trials.phase.value_counts()
    look: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "#222222", "markeredgewidth": 0.4}
    return [
        Line2D([], [], marker=marker, color=color, label=f"{p} ({counts[p]})", **look)
        for p, (color, marker) in style.looks(style.phases_of(trials)).items()
        if p in counts
    ]


def _line_handles() -> list[Artist]:
    looks: list[dict[str, Any]] = [{"linestyle": d, "linewidth": w} for d, w in ((":", 0.9), ("-", 1.5), ("--", 0.9))]
    lines = [
        Line2D([], [], color="#1a1a1a", label=f"P = {line}", **look) for line, look in zip(LINES, looks, strict=True)
    ]
    band = Patch(facecolor="white", edgecolor="#555555", hatch="//////", linewidth=0.4, label="90 % band of P = 0.5")
    return [*lines, band]


def _grid(cells: pd.DataFrame, key: str) -> np.ndarray:
    return cells[key].to_numpy().reshape(FINE, FINE).T


def _mesh(cells: pd.DataFrame, summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    assert summary.y is not None
    return cells[summary.x.name].unique(), cells[summary.y.name].unique()


def _map_axis(axis: Axis) -> coordinates.Axis:
    if not ordered(axis):
        return coordinates.Axis(axis.name, choices=axis.values)
    ends = axis.places(axis.values)
    return coordinates.Axis(axis.name, float(ends[0]), float(ends[-1]), log=axis.scale == "log")


def _mixed(fitted: Fit) -> bool:
    hits = fitted.grokked.hits[:, 1].sum()
    return 0 < hits < fitted.grokked.counts.sum()


def _certain(fitted: Fit, points: np.ndarray) -> np.ndarray:
    return np.full(len(points), float(fitted.grokked.hits[:, 1].any()))


def _met(table: pd.DataFrame) -> list[str]:
    return [p for p in style.phases_of(table) if p in set(table.phase)]


def _marks(table: pd.DataFrame, names: tuple[str, ...]) -> str:
    """What a caption says of where the trials stand."""
    where = "" if len(names) > 1 else " beyond 1 if it generalized, below 0 if not"
    beside = "; seeds of one cell stand side by side, at its values" if table.duplicated(list(names)).any() else ""
    return f"Each mark is a trial,{where}{beside}" if where else f"Each mark is a trial{beside}"


def _caption(table: pd.DataFrame, names: tuple[str, ...]) -> str:
    return caption.join(
        f"Probability that a trial generalizes within the steps run, against {', '.join(label(n) for n in names)}: "
        "logistic Gaussian process (Matérn 5/2, Laplace) on the single trials; "
        + (
            "hatched: the 90 % band of the contour 0.5, not an interval of the probability. Entropy: of all phases"
            if len(names) > 1
            else "shaded: 90 % band of the places where it is 0.5, not an interval of the probability"
        ),
        _marks(table, names),
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, names),
    )
