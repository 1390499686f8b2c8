"""Grok step law: how the grok step scales with each axis, from trials that generalized and those that did not (yet).

    log(grok step) = constant + sum of exponent * log(axis) + an offset for each word + scatter * a normal number

A lognormal accelerated failure time model, see ``lognormal.py``. A grok step is known to lie after the evaluation
before it, and a trial without one is censored where it was last followed. The interval of an exponent is that of its
profile likelihood, at the limit that makes it Student's where every step is known; ``benchmarks/interval_coverage.py``
measures how often it holds the truth.

**Trials that never can generalize bias it.** The law takes a censored trial for one that would have generalized later.
Where a share of them never would (above a critical weight decay, say), the exponents follow where those trials stand,
the scatter grows, and predictions are too late. The panel of residuals shows it: at predictions far below the steps
run, censored marks float above the points, with a gap between; where all would generalize the points fill the space
up to the marks. The caption says how large a share that never generalizes fits best, and how surely it is not 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phasemap.plan.evaluations import previous_evaluation
from phasemap.record.reader import Sweep
from phasemap.words import count

from . import caption, style
from .axis import Axis, axis_of, fitted_log, has_words, in_order, label, map_axes, text, without_logarithm
from .likelihood import SURE, p_value, ratio_test, verdict
from .lognormal import Times, Undetermined
from .statistics import LEVEL, followed

SCATTER, STRAIGHT = "scatter", "p of a straight line"  # quantities of the whole law
NEVER, NO_NEVER = "share that never generalizes", "p of no such share"
FEWEST = 10  # trials that generalized
TICKS = 12  # values of an axis that are named; more of them have round numbers instead
PLACES = 9  # along the line, at which it has an interval
FAR = 100  # times the steps seen, up to which predictions are drawn
NORMAL = 1.96  # scatters that hold 95 % of the trials
KNOWN: dict[str, Any] = {"marker": "o", "color": "#222222"}
CENSORED: dict[str, Any] = {"marker": "^", "color": style.ORANGE, "fillstyle": "none"}
SPREAD = 0.3  # of the distance of neighboring values, that marks are set apart


@dataclass(frozen=True)
class Summary:
    """``table``: axis, word, quantity, value, low, high (95 %). Quantities: the exponent of each axis of numbers, the
    factor of each word against the first, the grok step at the middle of the axes, the scatter of its logarithm, the
    p-value of a straight line, the likeliest share of trials that never generalize and the p-value of none.

    ``trials``: the axes, value (grok step, or the steps after which it was not there), censored (bool), prediction
    (median, steps), residual (in scatters; at least this where censored) and middle (bool: at the middle of all axes
    but x, or every trial where few are). ``line``: x, step, low, high (95 %) there.
    """

    table: pd.DataFrame
    trials: pd.DataFrame
    line: pd.DataFrame
    x: Axis
    at: str  # the middle of the other axes, in words
    caption: str

    def value(self, quantity: str) -> float:
        """A quantity that the whole law has one of."""
        return float(self.table.value[self.table.quantity == quantity].iloc[0])


def summarize(table: pd.DataFrame, axes: Sequence[str], x: str | None = None) -> Summary:
    """The law of the named axes over the finished trials (columns grok_step, steps_run, steps, phase, evaluate_every,
    log_spaced and the axes); ``x``: the axis of the left panel, the strongest if not given.

    Raises:
        Absent: an axis has values that no law can have, or too few trials generalized.
    """
    reasons = [reason for name in axes if (reason := _refused(table, name))]
    if reasons:
        raise style.Absent(f"{'; '.join(reasons)}: leave out the axis, or these trials")
    return _summarize(table, axes, x, [])


def of_sweep(sweep: Sweep, x: str | None = None) -> Summary:
    """Over every axis that varies and has logarithms or words; the caption names those left out."""
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    map_axes(sweep, x)
    if x and (reason := without_logarithm(sweep.finished, x)):
        raise style.Absent(reason)
    refused = {name: _refused(sweep.finished, name) for name in sweep.cell_axes}
    reasons = [reason for reason in refused.values() if reason]
    return _summarize(sweep.finished, [name for name, reason in refused.items() if not reason], x, reasons)


def draw(ax: Axes, summary: Summary) -> None:
    """The left panel: grok steps against the axis, and the line of the law at the middle of the other axes."""
    trials, line, x = summary.trials, summary.line, summary.x
    factor = math.exp(NORMAL * summary.value(SCATTER))
    ax.set_yscale("log")
    ax.set_ylim(trials.value.min() / 1.3, trials.value.max() * 1.3)  # first: the line may end far beyond the steps run
    wide: dict[str, Any] = {"color": style.BLUE, "linewidth": 0}
    ax.fill_between(line.x, line.step / factor, line.step * factor, alpha=0.10, zorder=1, **wide)
    ax.fill_between(line.x, line.low, line.high, alpha=0.35, zorder=1, **wide)
    ax.plot(line.x, line.step, color=style.BLUE, zorder=3)
    for own, strength, look in _shown(trials):
        ax.plot(_apart(own, x), own.value, zorder=2, alpha=strength, **look)
    fitted_log(ax.yaxis)
    x.dress(ax)
    ax.set_xlim(*x.edges[[0, -1]])
    if x.continuous:
        fitted_log(ax.xaxis)
    ax.set_ylabel(label("grok_step"))


@style.applied()
def figure(summary: Summary) -> Figure:
    """The law beside its residuals."""
    sheet, axes = style.sheet(1, 2, style.DOUBLE, 68 * style.MM, summary.caption)
    draw(axes[0, 0], summary)
    _draw_residuals(axes[0, 1], summary)
    sheet.legend(handles=list(_handles(summary)), loc="outside upper left", ncols=3)
    return sheet


@dataclass(frozen=True)
class _Column:
    """A column of the design: the logarithm of an axis against its ``middle``, or whether its word is this one."""

    axis: str
    middle: Any = None
    word: Any = None

    def of(self, trials: pd.DataFrame) -> np.ndarray:
        values = trials[self.axis]
        return np.log(values.to_numpy(float) / self.middle) if self.middle else (values == self.word).to_numpy(float)


@dataclass(frozen=True)
class _Law:
    """Trials, and the columns behind the constant that explain their times."""

    trials: pd.DataFrame
    columns: tuple[_Column, ...]

    @cached_property
    def times(self) -> Times:
        design = [np.ones(len(self.trials)), *(column.of(self.trials) for column in self.columns)]
        return Times(*_interval(self.trials), np.column_stack(design)).checked()

    @property
    def numbers(self) -> dict[str, int]:
        """Axes of numbers, and their columns of the design."""
        return {column.axis: i for i, column in enumerate(self.columns, 1) if column.middle}

    @property
    def strongest(self) -> str:
        """The axis of numbers over which the grok step changes most."""
        effects = np.abs(self.times.fit.coefficients) * np.ptp(self.times.design, axis=0)
        return max(self.numbers, key=lambda name: float(effects[self.numbers[name]]))

    def beside(self, x: str) -> dict[str, Any]:
        """The middle of the other axes of numbers, and the first word of each axis of words."""
        first = {column.axis: in_order(self.trials, column.axis)[0] for column in self.columns if not column.middle}
        return {c.axis: c.middle for c in self.columns if c.middle and c.axis != x} | first

    def table(self) -> pd.DataFrame:
        names = ["axis", "word", "quantity", "value", "low", "high"]
        return pd.DataFrame(self._rows(), columns=names)

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        times = self.times
        for i, column in enumerate(self.columns, 1):
            ends = times.ends(i, LEVEL)
            if column.middle:
                yield column.axis, None, "exponent", *ends
            else:
                yield column.axis, column.word, "factor", *np.exp(ends)
        yield None, None, "grok step at the middle", *np.exp(times.ends(0, LEVEL))
        known = times.design[times.known]
        bent = [i for i in self.numbers.values() if len(np.unique(known[:, i])) > 2]  # two values have no curve
        share, gain = times.never()
        for quantity, value in (
            (SCATTER, times.fit.scatter),
            (STRAIGHT, times.straight(bent)),
            (NEVER, share),
            (NO_NEVER, ratio_test(gain) / 2),  # halved: no share below 0 could fit better
        ):
            yield None, None, quantity, value, math.nan, math.nan

    def line(self, x: str) -> pd.DataFrame:
        """At places along x, ``beside`` it."""
        column, rows = self.numbers[x], []
        for place in np.geomspace(self.trials[x].min(), self.trials[x].max(), PLACES):
            at = np.zeros(1 + len(self.columns))
            at[column] = math.log(place / self.columns[column - 1].middle)
            rows.append((place, *np.exp(self.times.along(at).ends(0, LEVEL))))
        return pd.DataFrame(rows, columns=["x", "step", "low", "high"])

    def residuals(self, x: str) -> pd.DataFrame:
        """A known step counts as the middle of the two evaluations between which it lies."""
        times, beside = self.times, self.beside(x)
        mean, known = times.design @ times.fit.coefficients, times.known
        middle = np.where(known, np.log((np.exp(times.low) + np.exp(times.high)) / 2), times.low)
        there = (self.trials[list(beside)] == pd.Series(beside)).all(axis=1)
        return self.trials[list(dict.fromkeys(column.axis for column in self.columns))].assign(
            value=self.trials.grok_step.where(known, np.exp(times.low)),
            censored=~known,
            prediction=np.exp(mean),
            residual=(middle - mean) / times.fit.scatter,
            middle=there if there.sum() >= FEWEST else True,
        )


def _summarize(table: pd.DataFrame, axes: Sequence[str], x: str | None, left_out: Sequence[str]) -> Summary:
    trials, lost = _informative(table, axes)
    left_out = [*left_out, *lost]
    law = _Law(trials, tuple(_columns(trials, axes)))
    if not law.numbers or (x and x not in law.numbers):
        wanted = f"{x} to vary" if x else "an axis of numbers above 0 that varies"
        raise style.Absent("; ".join([f"a law of the grok step needs {wanted}", *left_out]))
    least, known = max(FEWEST, 2 * len(law.columns) + 4), int(trials.grok_step.notna().sum())
    if known < least:
        raise style.Absent(f"a law of the grok step needs {least} trials or more that generalized, {known} did")
    try:
        strongest = law.strongest
    except Undetermined as reason:
        raise style.Absent(f"there is no law of the grok step: {reason}") from reason
    x = x or strongest
    axis = axis_of(trials, x)
    axis = replace(axis, scale="log", continuous=axis.continuous or len(axis.values) > TICKS)
    at = ", ".join(f"{name.replace('_', ' ')} {text(value)}" for name, value in law.beside(x).items())
    summary = Summary(law.table(), law.residuals(x), law.line(x), axis, f" at {at}" if at else "", "")
    return replace(summary, caption=_caption(summary, table, left_out))


def _refused(table: pd.DataFrame, name: str) -> str:
    """Why an axis has no place in a law; words have."""
    if has_words(table, name):
        return f"{name} is not set in every trial" if table[name].isna().any() else ""
    return without_logarithm(table, name)


def _informative(table: pd.DataFrame, axes: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The trials that bear on the law, and a sentence on each group of the others.

    Where no trial with a word generalized, or none beside one value of an axis of numbers, their likeliest grok step
    is at infinity: they add nothing.
    """
    reasons = []
    for name in axes:
        won = table[name][table.grok_step.notna()].unique()
        if len(won) == 1 or (len(won) and has_words(table, name)):
            kept = table[name].isin(won)
            values = ", ".join(text(value) for value in in_order(table[~kept], name))
            reasons += [f"none of the {count(int((~kept).sum()), 'trial')} with {name} {values} generalized"] * (
                not kept.all()
            )
            table = table[kept]
    return table, reasons


def _columns(trials: pd.DataFrame, axes: Sequence[str]) -> Iterator[_Column]:
    for name in axes:
        values, won = in_order(trials, name), sorted(trials[name][trials.grok_step.notna()])
        if has_words(trials, name):
            yield from (_Column(name, word=value) for value in values[1:])
        elif len(values) > 1 and won:
            yield _Column(name, middle=won[len(won) // 2])


def _interval(trials: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the steps between which each trial generalized, two [n]; the second is infinite if it did not."""
    seen = trials.grok_step.notna()
    before = [
        previous_evaluation(row, int(row.grok_step)) if known else 0
        for row, known in zip(trials.itertuples(), seen, strict=True)
    ]
    with np.errstate(divide="ignore"):  # before the first evaluation: no step is too early
        low = np.log(np.where(seen, before, followed(trials)).astype(float))
    return low, np.log(trials.grok_step.fillna(math.inf).to_numpy(float))


def _shown(trials: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, float, dict[str, Any]]]:
    """Trials that look alike, censored ones first, how strong they are, and their look."""
    for known, look in ((False, CENSORED), (True, KNOWN)):
        own = trials[trials.censored != known]
        for middle, strength in ((False, 0.15), (True, 0.8)):
            some = own[own.middle == middle]
            if len(some):
                yield some, strength, {"markersize": 2.6, "linestyle": "", "markeredgewidth": 0.5, **look}


def _apart(own: pd.DataFrame, x: Axis) -> np.ndarray:
    """Coordinates of trials, set apart where many share a value."""
    gaps = np.diff(np.log(x.values))
    reach = 0.0 if len(x.values) > len(own) / 2 else SPREAD * float(gaps.min())
    return own[x.name].to_numpy(float) * np.exp(np.random.default_rng(0).uniform(-reach, reach, len(own)))


def _draw_residuals(ax: Axes, summary: Summary) -> None:
    for level, dash in ((0.0, "-"), (NORMAL, "--"), (-NORMAL, "--")):
        ax.axhline(level, color=style.GRAY, linewidth=0.6, linestyle=dash, zorder=0)
    for own, _, look in _shown(_near(summary.trials).assign(middle=True)):
        faint = min(0.8, max(0.2, 8 / math.sqrt(len(own))))
        ax.plot(own.prediction, own.residual, alpha=faint, **look)
    ax.set_xscale("log")
    fitted_log(ax.xaxis)
    ax.set(xlabel=f"predicted {label('grok_step')}", ylabel="residual (scatters)")


def _near(trials: pd.DataFrame) -> pd.DataFrame:
    """Those predicted within ``FAR`` of the steps seen: beyond, a residual says nothing that others do not."""
    return trials[trials.prediction.between(trials.value.min() / FAR, trials.value.max() * FAR)]


def _handles(summary: Summary) -> Iterator[Line2D]:
    yield Line2D([], [], color=style.BLUE, label=f"law{summary.at}")
    censored = int(summary.trials.censored.sum())
    look: dict[str, Any] = {"linestyle": "", "markersize": 3.5, "markeredgewidth": 0.7}
    yield Line2D([], [], label=f"generalized ({len(summary.trials) - censored})", **look, **KNOWN)
    if censored:
        yield Line2D([], [], label=f"not generalized after so many steps ({censored})", **look, **CENSORED)


def _caption(summary: Summary, table: pd.DataFrame, left_out: Sequence[str]) -> str:
    trials, names = summary.trials, tuple(summary.table["axis"].dropna())
    far = len(trials) - len(_near(trials))
    return caption.join(
        "Lines: log grok step = a + Σ b log axis with lognormal scatter, the likeliest law of "
        f"{len(trials)} trials, {trials.censored.sum()} of them censored at the steps they ran; a grok step lies "
        "between two evaluations",
        f"95 % profile-likelihood intervals: {'; '.join(terms(summary.table))}",
        f"Scatter: a factor of {math.exp(summary.value(SCATTER)):.3g}",
        _verdict(summary),
        f"Left: dark band, the line's interval; light, 95 % of the trials{_strong(trials)}",
        "Right: the residual of a censored trial is at least where its mark stands" if trials.censored.any() else "",
        f"Not shown there: {far} trials predicted {FAR} times beyond the steps seen" if far else "",
        _never(summary),
        f"Left out: {'; '.join(left_out)}" if left_out else "",
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, names),
    )


def terms(rows: pd.DataFrame) -> Iterator[str]:
    """Each exponent and factor of a summary's table with its interval, in words."""
    for row in rows[rows["axis"].notna()].to_dict("records"):
        word = f" {text(row['word'])}" if row["quantity"] == "factor" else ""
        name = f"{row['quantity']} of {row['axis'].replace('_', ' ')}{word}"
        yield f"{name} {row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


def _strong(trials: pd.DataFrame) -> str:
    return "" if trials.middle.all() else "; strong marks: trials at the values that the line is drawn for"


def _verdict(summary: Summary) -> str:
    p = summary.value(STRAIGHT)
    if math.isnan(p):
        return "Whether the law is straight in the logarithms cannot be tested with so few values"
    return f"By a likelihood ratio against squares, a straight line in the logarithms is {verdict(p)}"


def _never(summary: Summary) -> str:
    share, p = summary.value(NEVER), summary.value(NO_NEVER)
    what = "The law is biased by trials that never generalize"
    return f"{what}: with a share of {share:.2f} of them it fits better ({p_value(p)})" if p < SURE else ""
