"""Reverse scaling: success rate and final test accuracy against the number of trained weights.

One panel per value of a control axis (learning rate, weight decay, ...), because a larger model
that fails at one setting may only need another one: nothing is pooled over the control.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.record.reader import Sweep

from . import caption, style
from .axis import Axis, axis_of, label, plain_log, text
from .statistics import rate_difference, wilson

SIZES = ("width", "depth", "heads", "bottleneck")  # the axes that change the number of weights


@dataclass(frozen=True)
class Summary:
    """``table`` has a row per size (and control value): successes, n, rate, low, high, and the
    quartiles final_low, final_median, final_high of the final test accuracy. ``trials`` has the
    final accuracy of each trial behind it."""

    table: pd.DataFrame
    trials: pd.DataFrame
    x: Axis
    control: str | None
    caption: str

    def verdicts(self) -> dict[object, str]:
        """Of each control value: whether the largest size succeeds less often than the smallest, with the difference of
        their shares (Newcombe, 95 %)."""
        words = {}
        for value, rows in self.table.groupby(self.control) if self.control else [("", self.table)]:
            small, large = rows.sort_values(self.x.name).iloc[[0, -1]].to_dict("records")
            change = rate_difference(large["successes"], large["n"], small["successes"], small["n"])
            word = "reversed" if change.high < 0 else "not reversed" if change.low > 0 else "undecided"
            words[value] = f"{word} ({change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}])"
        return words

    def panels(self) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
        """Title, rows and trials of each panel."""
        if self.control is None:
            return [(self.verdicts()[""], self.table, self.trials)]
        own, words = dict(list(self.trials.groupby(self.control))), self.verdicts()
        name = self.control.replace("_", " ")
        return [(f"{name} {text(v)}\n{words[v]}", part, own[v]) for v, part in self.table.groupby(self.control)]


def summarize(table: pd.DataFrame, control: str | None = None, size: str = "parameters") -> Summary:
    """Rates (Wilson 1927) and quartiles per size and control value."""
    table = style.with_phases(table)
    keys = [k for k in (control, size) if k]
    groups = table.groupby(keys)
    rows = groups.agg(successes=("grok_step", "count"), n=("phase", "count")).reset_index()
    estimates = [wilson(int(k), int(n)) for k, n in zip(rows.successes, rows.n, strict=True)]
    quartiles = groups.final_test_accuracy.quantile([0.25, 0.5, 0.75]).unstack()
    quartiles.columns = ["final_low", "final_median", "final_high"]
    rows = rows.assign(
        rate=[e.value for e in estimates], low=[e.low for e in estimates], high=[e.high for e in estimates]
    )
    rows = rows.merge(quartiles.reset_index(), on=keys)
    words = caption.join(
        "Share of trials that generalized within the steps run (circles; bars: 95 % Wilson intervals) and test "
        "accuracy at the last step (crosses: one per trial; dashed: median)",
        "Above: the share at the largest size minus that at the smallest (Newcombe, 95 %); reversed: negative",
        f"{caption.seeds(rows.n).replace('cell', 'point')}",
        caption.grokked(table),
        caption.sizes(table),
        caption.pooled(table, (*keys, *SIZES)),
    )
    return Summary(rows, table[[*keys, "final_test_accuracy"]], axis_of(rows, size), control, words)


def of_sweep(sweep: Sweep) -> Summary:
    """The size axes become the number of weights; the first other axis is the control."""
    names = sweep.cell_axes
    if sweep.finished.empty:
        raise style.Absent("no finished trial yet")
    if not set(names) & set(SIZES):
        raise style.Absent("reverse scaling needs an axis that changes the model's size, such as width or depth")
    control = next((n for n in names if n not in SIZES), None)
    if any(axis_of(sweep.finished, n).continuous for n in names):
        raise style.Absent("reverse scaling needs several trials per size and control value")
    return summarize(sweep.finished, control)


def draw(ax: Axes, summary: Summary) -> None:
    """The first panel of the summary."""
    _, rows, trials = summary.panels()[0]
    _draw_panel(ax, summary.x, rows, trials)


@style.applied()
def figure(summary: Summary) -> Figure:
    """A panel per control value and one legend."""
    panels = summary.panels()
    rows, columns = style.grid(len(panels), most=4)
    width = style.MIDDLE if len(panels) == 1 else style.DOUBLE
    height = (56 if len(panels) == 1 else 48 * rows) * style.MM
    sheet, axes = style.sheet(rows, columns, width, height, summary.caption, sharex=True, sharey=True)
    for ax, (title, part, trials) in zip(axes.flat, panels, strict=False):
        _draw_panel(ax, summary.x, part, trials)
        ax.set_title(title, fontsize=7 if len(panels) < 4 else 6)  # four stand side by side
        ax.label_outer()
        ax.xaxis.label.set_fontsize(7)
    style.hide_rest(axes, len(panels))
    handles, names = axes[0, 0].get_legend_handles_labels()
    sheet.legend(handles, names, loc="outside upper right", ncols=3)
    return sheet


def _draw_panel(ax: Axes, x: Axis, rows: pd.DataFrame, trials: pd.DataFrame) -> None:
    places = x.places(rows[x.name])
    dots = x.places(trials[x.name])
    ax.plot(dots, trials.final_test_accuracy, "x", color=style.ORANGE, markersize=3.2, alpha=0.75, zorder=2)
    ax.plot(places, rows.final_median, "--", color=style.ORANGE, label="final test accuracy (median; x: trials)")
    error = np.array([(rows.rate - rows.low).clip(lower=0), (rows.high - rows.rate).clip(lower=0)])
    ax.errorbar(
        places,
        rows.rate,
        error,
        fmt="o-",
        color=style.BLUE,
        capsize=1.5,
        elinewidth=0.8,
        label="share generalized (95 %)",
    )
    ax.set_xscale("log")
    plain_log(ax.xaxis)
    ax.set(
        xlabel="parameters (trained weights)" if x.name == "parameters" else label(x.name),
        ylabel="share or accuracy",
        ylim=(-0.04, 1.06),
    )
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
