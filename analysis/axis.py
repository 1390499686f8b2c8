"""An axis of a sweep on paper: its values, its scale, its name with unit, its ticks.

Decides how values are placed; knows nothing about what is drawn there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from phasemap.maps.axes import FACTOR, spacing
from phasemap.plan.outcome import EVENTS
from phasemap.plan.trial import FIELDS, KINDS
from phasemap.record.reader import Sweep
from phasemap.words import did_you_mean

UNITS = {
    "weight_decay": "",
    "width": "units",
    "depth": "layers",
    "heads": "",
    "bottleneck": "units",
    "batch_size": "examples",
    "data_fraction": "share of examples",
    "label_noise": "share of training labels",
    "relevant": "bits",
    "context": "tokens",
    "steps": "optimizer steps",
    "warmup": "optimizer steps",
    "decay_switch": "optimizer steps",
    "train_seconds": "s",
    **dict.fromkeys(EVENTS, "optimizer steps"),
}


@dataclass(frozen=True)
class Axis:
    """Sorted values [n] of a field and where they stand: on a "log" or "linear" scale, or one
    after the other ("ordinal": words, or values such as 0 that a log scale has no place for)."""

    name: str
    values: tuple[Any, ...]
    scale: str
    continuous: bool = False  # nearly every trial has a value of its own: points, not cells

    @property
    def label(self) -> str:
        return label(self.name)

    @property
    def critical(self) -> str:
        """Label of its critical values; a long one in two lines, or it would be longer than a small figure's side."""
        whole = f"critical {self.label}"
        return whole.replace(" (", "\n(") if len(whole) > 30 else whole

    def evenly(self) -> Axis:
        """The same values one after the other: cells of one size, whatever lies between their values."""
        return self if self.continuous else replace(self, scale="ordinal")

    @property
    def edges(self) -> np.ndarray:
        """Borders [n + 1] of the cells, halfway between neighbors on the scale."""
        places = self.places(self.values)
        flat = np.log(places) if self.scale == "log" else places
        gaps = np.diff(flat) if len(flat) > 1 else np.ones(1)
        inner = (flat[:-1] + flat[1:]) / 2
        borders = np.concatenate([[flat[0] - gaps[0] / 2], inner, [flat[-1] + gaps[-1] / 2]])
        return np.exp(borders) if self.scale == "log" else borders

    def places(self, values: Iterable[Any]) -> np.ndarray:
        """Coordinates of values on the axis."""
        listed = list(values)
        if self.scale == "ordinal":
            return np.array([self.values.index(v) for v in listed], float)
        return np.asarray(listed, float)

    def between(self, low: float, high: float, share: float) -> float:
        """The coordinate at this share of the way from low to high, on the scale."""
        return float(low * (high / low) ** share) if self.scale == "log" else low + (high - low) * share

    def dress(self, ax: Axes, side: str = "x", name: bool = True) -> None:
        """Sets scale, ticks at the values tried and the label of the "x" or "y" side."""
        if self.scale == "log":
            getattr(ax, f"set_{side}scale")("log")
        if self.continuous and self.scale == "log":
            plain_log(getattr(ax, f"{side}axis"))
        if not self.continuous:
            step = math.ceil(len(self.values) / 10)
            shown = self.values[::step]
            axis = getattr(ax, f"{side}axis")
            axis.set_ticks(self.places(shown), [text(v) for v in shown])
            axis.set_minor_locator(NullLocator())
        if name:
            getattr(ax, f"set_{side}label")(self.label)


def axis_of(table: pd.DataFrame, name: str) -> Axis:
    """The axis that the values in the table's column form."""
    values = in_order(table, name)
    if has_words(table, name):
        return Axis(name, values, "ordinal")
    if len(values) > 12 and len(values) > len(table) / 2:
        return Axis(name, values, "log" if _drawn_in_the_logarithm(values) else "linear", continuous=True)
    kind = spacing(values)
    return Axis(name, values, "ordinal" if kind == "rank" else kind)


def has_words(table: pd.DataFrame, name: str) -> bool:
    """Whether the values in the table's column have no order: words, or truths."""
    return not pd.api.types.is_numeric_dtype(table[name]) or pd.api.types.is_bool_dtype(table[name])


def without_logarithm(table: pd.DataFrame, name: str) -> str:
    """Why the values in the table's column have no logarithm; the empty text if they have."""
    if has_words(table, name):
        return f"{name} has words"
    if not (table[name] > 0).all():
        return f"{name} has values of 0 or less, or none, and these have no logarithm"
    return ""


def map_axes(sweep: Sweep, x: str | None = None, y: str | None = None) -> tuple[str, ...]:
    """The axes of a map, its panels' last: those named, then the first others that vary, three in all.

    Raises:
        ValueError: a name that is no axis of the sweep, or one named twice.
    """
    known = [name for name in sweep.axes if sweep.trials[name].nunique() > 1]
    for side, name in (("x", x), ("y", y)):
        if name and name not in known:
            near, listed = did_you_mean(name, known), ", ".join(known) or "none"
            raise ValueError(f"{side}: must be an axis of {sweep.name} that varies, got {name!r}{near}; use {listed}")
    if x and x == y:
        raise ValueError(f"y: must be another axis than x, got {y!r} for both; change one of them")
    others = [name for name in sweep.cell_axes if name not in (x, y)]
    sides = [name or (others.pop(0) if others else None) for name in (x, y)]
    return tuple(name for name in (*sides, *others[:1]) if name)


def with_ratios(sweep: Sweep, *names: str | None) -> Sweep:
    """The sweep with a column for each name that is a ratio of two others, such as "width/modulus": an axis in place of
    the numerator. The denominator stays one, so that no cell mixes its values.

    Raises:
        ValueError: a ratio of what are no columns of positive numbers.
    """
    for name in filter(None, names):
        over, slash, under = name.partition("/")
        if not slash or name in sweep.trials:
            continue
        for part in (over, under):
            if part not in sweep.trials or without_logarithm(sweep.trials, part):
                known = [one for one in KINDS if one in sweep.trials and not without_logarithm(sweep.trials, one)]
                near = did_you_mean(part, known)
                raise ValueError(
                    f"{name}: must be a ratio of two columns of positive numbers, got {part!r}{near}; use one"
                )
        trials = sweep.trials.assign(**{name: sweep.trials[over] / sweep.trials[under]})
        trials.attrs = sweep.trials.attrs
        axes = tuple(name if one == over else one for one in sweep.axes)
        sweep = replace(sweep, trials=trials, axes=axes if over in sweep.axes else (name, *axes))
    return sweep


def in_order(table: pd.DataFrame, name: str) -> tuple[Any, ...]:
    """The values in the table's column: numbers by size, words as their field lists them (fp32 before bf16)."""
    choices = FIELDS[name].choices if name in FIELDS else ()
    listed = {value: i for i, value in enumerate(choices)}
    return tuple(sorted(table[name].dropna().unique().tolist(), key=lambda v: (listed.get(v, len(listed)), v)))


def plain_log(axis: XAxis | YAxis) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: short(value))
    axis.set_minor_formatter(NullFormatter())


def fitted_log(axis: XAxis | YAxis) -> None:
    """As ``plain_log``, with other ticks where these would be one or two, or too many, between the limits set."""
    plain_log(axis)
    low, high = axis.get_view_interval()
    if high < 5 * low:
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
    if high > 1_000 * low:
        axis.set_major_locator(LogLocator(numticks=7))


def label(name: str) -> str:
    """The field's name for a reader, with its unit."""
    unit = UNITS.get(name, "")
    return f"{name.replace('_', ' ')} ({unit})" if unit else name.replace("_", " ")


def text(value: object) -> str:
    """A value as short as it can be written."""
    if isinstance(value, float) and not float(value).is_integer():
        return f"{value:.3g}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{int(value):,}"
    return str(value).replace("_", " ")


def short(number: float) -> str:
    """1,500 as "1.5k", 2,000,000 as "2M", 0.0000012 as "1.2e-6"."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if size <= abs(number) < 1e9:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}".replace("e-0", "e-").replace("e+", "e").replace("e0", "e")


def _drawn_in_the_logarithm(values: Sequence[float]) -> bool:
    """Of values drawn at random: whether their middle is nearer to the geometric than to the arithmetic one."""
    low, high = values[0], values[-1]
    return low > 0 and high >= FACTOR * low and float(np.median(values)) < (low + high) / 2 * 0.6
