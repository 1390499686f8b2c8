"""A cell of a map on paper: its box, and the strip at its foot with a piece for each of its trials.

Decides where things stand in a cell; what they show is up to the figures that use this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from . import style
from .axis import Axis

MARGIN = 0.08  # of a cell's width beside its strip
MANY = 12  # pieces of a strip, above which lines between them would hide them


@dataclass(frozen=True)
class Cell:
    """The box from (left, low) to (right, high) in coordinates of two axes; places in it are shares of its sides."""

    x: Axis
    y: Axis
    left: float
    right: float
    low: float
    high: float

    def at(self, across: float, up: float) -> tuple[float, float]:
        """Coordinates of a place in the cell."""
        return self.x.between(self.left, self.right, across), self.y.between(self.low, self.high, up)

    def fill(
        self, ax: Axes, across: tuple[float, float] = (0, 1), up: tuple[float, float] = (0, 1), **look: Any
    ) -> None:
        """Draws a part of the cell, all of it by default."""
        (left, low), (right, high) = self.at(across[0], up[0]), self.at(across[1], up[1])
        ax.add_patch(Rectangle((left, low), right - left, high - low, **look))

    def strip(
        self,
        ax: Axes,
        looks: Sequence[Mapping[str, Any]],
        up: tuple[float, float] = (0.10, 0.42),
        frame: str = "#222222",
    ) -> None:
        """A framed row of pieces, one per look."""
        ends = [MARGIN + (1 - 2 * MARGIN) * i / len(looks) for i in range(len(looks) + 1)]
        line = {"edgecolor": "white", "linewidth": 0.5 if len(looks) <= MANY else 0}
        for across, look in zip(pairwise(ends), looks, strict=True):
            self.fill(ax, across, up, **{**line, **look})
        self.fill(ax, (ends[0], ends[-1]), up, fill=False, edgecolor=frame, linewidth=0.5)


def cells(ax: Axes, table: pd.DataFrame, x: Axis, y: Axis) -> Iterator[tuple[dict[Any, Any], Cell]]:
    """Dresses the axes for a map; then each row of the table with its cell."""
    x.dress(ax)
    y.dress(ax, "y")
    ax.set(xlim=x.edges[[0, -1]], ylim=y.edges[[0, -1]], facecolor=style.NOTHING)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=2)
    spans = dict(zip(x.values, pairwise(x.edges), strict=True))
    rises = dict(zip(y.values, pairwise(y.edges), strict=True))
    for row in table.to_dict("records"):
        yield row, Cell(x, y, *spans[row[x.name]], *rises[row[y.name]])
