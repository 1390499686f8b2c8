"""The one style of every figure: colors, sizes, fonts, and the sheet they are drawn on.

No numbers are made here. Figures are built on ``matplotlib.figure.Figure`` directly, so that
drawing leaves no pyplot state behind and needs no display.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from phasemap.plan.phases import PHASES

from .statistics import decided

MM = 1 / 25.4
SINGLE, MIDDLE, DOUBLE = 89 * MM, 120 * MM, 183 * MM  # column widths of journals, inches

# Lightness falls from the first to the last (CIE L* 91, 74, 58, 46, 29, 7): the order survives a
# gray printer and the three common color-vision deficiencies.
PHASE_COLORS = {
    "comprehension": "#f7e58b",
    "grokking": "#4fc9a4",
    "memorization": "#d2702b",
    "confusion": "#5a67b8",
    "collapse": "#7b1f58",
    "diverged": "#161616",
}
PHASE_MARKERS = {
    "comprehension": "o",
    "grokking": "^",
    "memorization": "s",
    "confusion": "X",
    "collapse": "v",
    "diverged": "P",
}
OTHERS = ("#f7e58b", "#4fc9a4", "#d2702b", "#5a67b8", "#7b1f58", "#9ad0f5", "#b9b9b9", "#2f6b3c")  # a user's phases
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0b5fa5", "#d9701e", "#0f8a6c", "#8d4a9e", "#8a8a8a"  # lines of different kinds
NOTHING = "#f1f1f1"  # where no trial stands
QUARTERS = [0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"]  # ticks of a share, and their labels
WORD_COLORS = (BLUE, ORANGE, GREEN, PURPLE, "#a0522d", "#d4a017", "#4a4a4a", "#c2447a")  # words have no order
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2.5, 1)), (0, (8, 2)))
DASHES += ((0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (3, 3)), (0, (10, 1.5, 3, 1.5)))
MARKERS = "os^DvPX<>*"
RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",  # text stays text
    "savefig.dpi": 200,
}
_shown: ContextVar[bool] = ContextVar("captions_shown", default=True)
applied = partial(matplotlib.rc_context, RC)  # `@applied()` on a function, or `with applied():`


@contextmanager
def captions(shown: bool) -> Iterator[None]:
    """Whether sheets made inside have their words below them; ``summary.caption`` holds the words anyway."""
    token = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(token)


class Absent(ValueError):
    """A figure that this sweep cannot have; the message is what the figure says instead."""


def steps_along(ax: Axes) -> None:
    """Optimizer steps as the horizontal axis; numbers of six digits and more stand apart."""
    ax.set_xlabel("optimizer steps")
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def with_phases(table: pd.DataFrame) -> pd.DataFrame:
    """The trials with a phase. One that stopped before a threshold could be read has none.

    Raises:
        Absent: there are none.
    """
    if table.empty:
        raise Absent("no finished trial yet")
    known = decided(table)
    if known.empty:
        raise Absent("no trial has a phase: each ended before this threshold could be read")
    return known


def sheet(
    rows: int = 1, columns: int = 1, width: float = SINGLE, height: float = 60 * MM, caption: str = "", **share: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns panels, ``height`` inches of them, and its caption below, in which no line ends
    between a sign and its number.

    Returns the figure and the axes, [rows, columns].
    """
    whole = re.sub(r" ([=≥<]) ", "\u00a0\\1\u00a0", caption if _shown.get() else "")
    lines = [line.replace("\u00a0", " ") for line in textwrap.wrap(whole, int(width / MM * 0.84))]
    foot = (len(lines) * 2.9 + 2) * MM if lines else 0.0
    layout = ConstrainedLayoutEngine(rect=(0, foot / (height + foot), 1, height / (height + foot)))
    figure = Figure(figsize=(width, height + foot), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, **share)
    figure.text(
        1.5 * MM / width, 1.2 * MM / (height + foot), "\n".join(lines), fontsize=6, va="bottom", color="#333333"
    )
    return figure, axes


def grid(panels: int, most: int = 5) -> tuple[int, int]:
    """Rows and columns that hold so many panels, at most ``most`` side by side."""
    columns = min(panels, most)
    return -(-panels // columns), columns


def colors(values: Sequence[Any]) -> list[Any]:
    """One per value: shades where the values are numbers, which have an order; colors that have none for words."""
    if len(values) == 1:
        return [BLUE]
    if all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in values):
        return list(shades(len(values)))
    return [WORD_COLORS[i % len(WORD_COLORS)] for i in range(len(values))]


def shades(count: int) -> list[tuple[float, ...]]:
    """Colors of ordered values, dark to light, safe for color-blind readers (viridis)."""
    return [tuple(c) for c in matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, count))]


def phases_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The phases that trials of a table may have, in their order: those of the sweep's rule, and what else is there."""
    known = tuple(table.attrs.get("phases", PHASES))
    return (*known, *sorted(set(table.phase.dropna()) - set(known)))


def looks(phases: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Color and marker of each phase; those of a user's rule take theirs in turn."""
    own = [phase for phase in phases if phase not in PHASE_COLORS]
    known = {phase: (PHASE_COLORS[phase], PHASE_MARKERS[phase]) for phase in phases if phase in PHASE_COLORS}
    taken = [*zip(*known.values(), strict=True)] or [(), ()]
    colors = [color for color in OTHERS if color not in taken[0]]
    markers = [marker for marker in MARKERS if marker not in taken[1]]
    others = {phase: (colors[i % len(colors)], markers[i % len(markers)]) for i, phase in enumerate(own)}
    return {phase: (known | others)[phase] for phase in phases}


def ink(color: Any) -> str:
    """Black or white, whichever is read more easily on the color."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return "white" if np.dot(channels, (0.2126, 0.7152, 0.0722)) < 0.2 else "#222222"  # WCAG 2, relative luminance


def phase_legend(ax: Axes, counts: dict[str, int], points: bool = False, **where: Any) -> None:
    """The phases present, each with its number of trials, as points or as patches."""
    handles: list[Artist] = []
    for phase, (color, marker) in looks(list(counts)).items():
        name = f"{phase} ({counts[phase]})"
        if points and counts[phase]:
            look: dict[str, Any] = {"linestyle": "none", "marker": marker, "markeredgecolor": "#333333"}
            handles.append(Line2D([], [], color=color, markeredgewidth=0.4, label=name, **look))
        elif counts[phase]:
            handles.append(Patch(facecolor=color, edgecolor="#444444", linewidth=0.4, label=name))
    ax.legend(handles=handles, title="phase (trials)", title_fontsize=7, alignment="left", **where)


def apart(ax: Axes, points: float) -> Transform:
    """Data coordinates, so many points further right: marks at one value stand beside each other."""
    return ax.transData + ScaledTranslation(points / 72, 0, ax.figure.dpi_scale_trans)


def hide_rest(axes: np.ndarray, used: int) -> None:
    """Removes the panels of a sheet beyond the first ``used``."""
    for ax in axes.flat[used:]:
        ax.set_visible(False)


@applied()
def notice(text: str, title: str = "") -> Figure:
    """A figure that says in words why there is nothing to see."""
    figure, axes = sheet(width=SINGLE, height=45 * MM)
    axes[0, 0].axis("off")
    axes[0, 0].text(0.5, 0.5, "\n".join(textwrap.wrap(text, 48)), ha="center", va="center", color="#333333")
    axes[0, 0].set_title(title)
    return figure


def mark_unfinished(figure: Figure, progress: str) -> None:
    """Writes between panels and caption that the sweep is not whole, if so: no legend lies there."""
    engine = figure.get_layout_engine()
    if not progress or not isinstance(engine, ConstrainedLayoutEngine):
        return
    (width, height), (x, foot, wide, high) = figure.get_size_inches(), engine.get()["rect"]
    lines = textwrap.wrap(progress, int(width / MM * 0.66))
    more = (1 + 3 * len(lines)) * MM
    whole = height + more
    figure.set_size_inches(width, whole)
    engine.set(rect=(x, (foot * height + more) / whole, wide, high * height / whole))
    for words in figure.texts:
        words.set_y(words.get_position()[1] * height / whole)
    line = (foot * height + 1.5 * MM) / whole
    figure.text(1.5 * MM / width, line, "\n".join(lines), fontsize=7, va="bottom", color="#a3261b")


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest finite value, (0, 1) when there is none."""
    finite = [v for v in values if np.isfinite(v)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)
