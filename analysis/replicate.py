"""The replication report: every published claim beside what the recorded trials say, with a verdict.

``python -m analysis replicate`` writes it; no number in it is typed. The claims stand in ``claims.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.plan.outcome import DEFINITION_VERSIONS, other_definitions
from phasemap.plan.space import load
from phasemap.plan.stack import seconds
from phasemap.plan.trial import KINDS
from phasemap.record.reader import COLUMNS, experiments, read, typed_fields

from . import caption, style
from .axis import text
from .claims import CLAIMS, Claim, chosen
from .statistics import Estimate

SPACES = Path(__file__).parents[1] / "search_spaces"
REPLICATES, DOES_NOT, UNDECIDED, NOT_MEASURED = "replicates", "does not", "undecided at this n", "not measured"
COLOURS = {REPLICATES: style.GREEN, DOES_NOT: style.ORANGE, UNDECIDED: style.GREY, NOT_MEASURED: "#cccccc"}
DECIMALS = {"accuracy": 3, "optimiser steps": 0, "components": 1, "dimensions": 1, "oscillations": 1}


@dataclass(frozen=True)
class Finding:
    """One claim as measured: the experiment, the estimate (n = 0: no trials), the single trials behind it, the
    settings in which they differ from the published ones, and the verdict."""

    claim: Claim
    experiment: str
    measured: Estimate
    trials: pd.DataFrame
    other_settings: str
    verdict: str


@dataclass(frozen=True)
class Summary:
    """``table``: a row per claim."""

    table: pd.DataFrame
    findings: tuple[Finding, ...]


def summarise(tables: Mapping[str, pd.DataFrame]) -> Summary:
    """From the finished trials of each experiment (name -> tidy table)."""
    findings = tuple(_finding(claim, tables) for claim in CLAIMS)
    return Summary(pd.DataFrame([_row(f) for f in findings]), findings)


def verdict(measured: Estimate, low: float, high: float) -> str:
    """Replicates: the whole interval lies in the range. Does not: none of it does. Else undecided."""
    if measured.n == 0:
        return NOT_MEASURED
    if low <= measured.low and measured.high <= high:
        return REPLICATES
    return DOES_NOT if measured.high < low or measured.low > high else UNDECIDED


def write(out: Path, tracking_uri: str | None = None) -> list[Path]:
    """``replication.md`` in the folder; beside it its table and the trials as CSV, and a figure per claim."""
    pictures = out / "replication"
    pictures.mkdir(parents=True, exist_ok=True)
    tables = gathered(pictures, tracking_uri)
    summary = summarise(tables)
    paths = [out / "replication.md", pictures / "replication.csv"]
    paths[0].write_text(report(summary), encoding="utf-8")
    summary.table.to_csv(paths[1], index=False)
    for name, table in tables.items():
        paths.append(pictures / f"trials_{name}.csv")
        _keep(table, paths[-1])
    sheets = {"overview": overview(summary)} | {f.claim.name: figure(f) for f in summary.findings if f.measured.n}
    return paths + [_save(sheet, pictures / f"{name}.png") for name, sheet in sheets.items()]


def gathered(folder: Path, tracking_uri: str | None = None) -> dict[str, pd.DataFrame]:
    """The finished trials of every experiment that a claim speaks of: those of this store, and those that other
    machines left in the tables beside the report, each trial once."""
    try:
        here = set(experiments(tracking_uri))
    except ValueError:
        if tracking_uri:
            raise
        here = set()  # no store in this folder: the tables alone
    tables = {}
    for name in sorted({name for claim in CLAIMS for name in claim.experiments}):
        found = [read(name, tracking_uri, everything=True).finished] if name in here else []
        file = folder / f"trials_{name}.csv"
        found += [kept(file)] if file.exists() else []
        if found:
            tables[name] = pd.concat(found, ignore_index=True).drop_duplicates("trial", ignore_index=True)
    return tables


def kept(file: Path) -> pd.DataFrame:
    """A table as ``write`` left it, perhaps years ago: fields that it does not know have their defaults, and outcomes
    that meant something else then are absent."""
    table = pd.read_csv(file, dtype=dict.fromkeys(KINDS, str))
    words = [name for name in table if KINDS.get(name) is str]
    table[words] = table[words].fillna("")  # no probe is a choice, and no field without a value
    versions = table.pop("definitions") if "definitions" in table else pd.Series(None, table.index, dtype=object)
    for recorded, rows in table.groupby(versions.fillna("")):
        table.loc[rows.index, [*(other_definitions(recorded) & set(table))]] = math.nan
    return typed_fields(table.reindex(columns=[*COLUMNS, *(name for name in table if name not in COLUMNS)]))


def _keep(table: pd.DataFrame, file: Path) -> None:
    versions = json.dumps(DEFINITION_VERSIONS)
    table.dropna(axis=1, how="all").drop(columns="run_id").assign(definitions=versions).to_csv(file, index=False)


def report(summary: Summary) -> str:
    """The page in Markdown."""
    counts = summary.table.verdict.value_counts()
    told = ", ".join(f"{counts.get(v, 0)} {v}" for v in COLOURS)
    head = ["claim", "source", "published", "measured", "n", "counts as replicated", "verdict"]
    table = _table(head, [_cells(f) for f in summary.findings])
    pictures = [
        f"### {f.claim.claim}\n\n![{f.claim.name}](replication/{f.claim.name}.png)\n"
        for f in summary.findings
        if f.measured.n
    ]
    return "\n".join(
        [
            "# Replication of the published claims",
            "",
            "Written by `python -m analysis replicate` from the recorded trials; no number here is typed by hand.",
            "",
            f"{len(summary.findings)} claims: {told}.",
            "",
            "A claim replicates when the whole 95 % interval of the measurement lies in the range that counts as "
            "replicating it, does not when none of it does, and is undecided otherwise. Shares: Wilson; medians: order "
            "statistics, or Kaplan–Meier for steps, where trials without the event are censored at the steps they ran; "
            "differences: Newcombe. A median of fewer than six trials has an open interval. Trials run at other "
            "settings than the published ones are named as such: their verdict speaks of these settings only.",
            "",
            *table,
            "",
            "![overview](replication/overview.png)",
            "",
            *_not_run(summary),
            "## A figure per claim",
            "",
            *pictures,
        ]
    )


def _not_run(summary: Summary) -> list[str]:
    """The search spaces that were not run as published, and what they cost; both counted, not typed."""
    rows = []
    for name in dict.fromkeys(name for claim in CLAIMS for name in claim.experiments):
        measured = [f for f in summary.findings if f.experiment == name]
        if measured and not any(f.other_settings for f in measured):
            continue
        how = "at other settings" if measured else "not at all"
        for file in sorted(SPACES.glob(f"{name}*.py")):
            trials = load(file).trials()
            steps, hours = sum(trial.steps for trial in trials), seconds(trials) / 3600 / 2
            rows.append([f"`{file.stem}`", how, str(len(trials)), f"{steps:,}", f"{hours:,.1f}"])
    if not rows:
        return []
    head = ["search space", "run", "trials", "trial-steps", "hours on 2 cores, roughly"]
    return ["## What was not run as published", "", *_table(head, rows), ""]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def draw(ax: Axes, finding: Finding) -> None:
    """Range that replicates (shaded), measurement with interval, single trials below it."""
    claim, found = finding.claim, finding.measured
    values = _values(finding)
    edge = _edges([claim.low, claim.high, found.value, found.low, found.high, *values], claim.unit)
    ax.axvspan(max(claim.low, edge[0]), min(claim.high, edge[1]), color=style.BLUE, alpha=0.15, linewidth=0)
    if len(values):
        ax.plot(values, [0.0] * len(values), "|", color="#333333", markersize=9, markeredgewidth=0.8)
    _draw_estimate(ax, found, 1.0, COLOURS[finding.verdict], edge)
    ax.set(ylim=(-0.6, 1.6), xlim=edge, xlabel=claim.unit)
    rows = {0.0: f"trials ({len(values)})", 1.0: "measured"}
    ax.set_yticks([y for y in rows if y or len(values)], [n for y, n in rows.items() if y or len(values)])
    if claim.unit == "optimiser steps":
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


@style.applied()
def figure(finding: Finding) -> Figure:
    """One claim."""
    claim = finding.claim
    words = caption.join(
        f"{claim.claim}. Published: {claim.published}. Shaded: counts as replicated ({_span(claim)}). Measured: "
        f"{_told(finding)}, n = {finding.measured.n}: {finding.verdict}",
        f"Ticks: {claim.shown.replace('_', ' ')} of the trials that have it" if len(_values(finding)) else "",
        finding.other_settings,
    )
    sheet, axes = style.sheet(width=style.SINGLE, height=30 * style.MM, caption=words)
    draw(axes[0, 0], finding)
    return sheet


@style.applied()
def overview(summary: Summary) -> Figure:
    """All measured claims, each on its own scale: the shaded range becomes 0 to 1."""
    found = [f for f in summary.findings if f.measured.n]
    if not found:
        return style.notice("No recorded trial speaks to a published claim yet.", "replication")
    words = (
        "Each measurement with its 95 % interval, on the scale of its claim: the shaded stretch is the range that "
        "counts as replicated. An arrow: the interval goes on; a large one with a number: the value itself lies there."
    )
    sheet, axes = style.sheet(1, 1, style.DOUBLE, (12 + 5 * len(found)) * style.MM, words)
    ax = axes[0, 0]
    ax.axvspan(0, 1, color=style.BLUE, alpha=0.15, linewidth=0)
    for i, finding in enumerate(found):
        claim, measured = finding.claim, finding.measured
        low, value, high = (
            (v - claim.low) / (claim.high - claim.low) for v in (measured.low, measured.value, measured.high)
        )
        _draw_estimate(ax, Estimate(value, low, high, measured.n), i, COLOURS[finding.verdict], (-1.5, 2.5))
        ax.annotate(
            f"n = {measured.n}, {finding.verdict}" + (", other settings" if finding.other_settings else ""),
            (1.03, i),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=6,
        )
    ax.set_yticks(range(len(found)), [f.claim.name.replace("_", " ") for f in found], fontsize=6.5)
    ax.set(xlim=(-1.5, 2.5), ylim=(len(found) - 0.4, -0.6))
    ax.set_xticks([0, 1], ["low end", "high end"])
    return sheet


def _finding(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> Finding:
    own = {name: chosen(tables[name], claim.select) for name in claim.experiments if name in tables}
    name = next((name for name, trials in own.items() if len(trials)), None)
    if name is None:
        return Finding(claim, "", Estimate(math.nan, -math.inf, math.inf, 0), pd.DataFrame(), "", NOT_MEASURED)
    trials, measured = own[name], claim.measure(own[name])
    found = verdict(measured, claim.low, claim.high)
    return Finding(claim, name, measured, trials, _differences(trials, claim), found)


def _differences(trials: pd.DataFrame, claim: Claim) -> str:
    """The settings in which the trials differ from the published ones."""
    parts = []
    for name, value in claim.settings.items():
        got = [v for v in sorted(trials[name].unique().tolist()) if v != value]
        if got and name not in claim.select:
            parts.append(f"{name.replace('_', ' ')} {', '.join(text(v) for v in got)} instead of {text(value)}")
    return f"At other settings: {'; '.join(parts)}" if parts else ""


def _row(finding: Finding) -> dict[str, Any]:
    claim, measured = finding.claim, finding.measured
    return {
        "name": claim.name,
        "claim": claim.claim,
        "source": claim.source,
        "published": claim.published,
        "measured": measured.value,
        "low": measured.low,
        "high": measured.high,
        "n": measured.n,
        "range_low": claim.low,
        "range_high": claim.high,
        "other_settings": finding.other_settings,
        "verdict": finding.verdict,
        "experiment": finding.experiment,
    }


def _cells(finding: Finding) -> list[str]:
    claim = finding.claim
    told = _told(finding) if finding.measured.n else "–"
    other = f"<br>{finding.other_settings}" if finding.other_settings else ""
    sure = f"**{finding.verdict}**" + (" (at these settings)" if other and finding.verdict != NOT_MEASURED else "")
    return [claim.claim, claim.source, claim.published, told + other, str(finding.measured.n), _span(claim), sure]


def _told(finding: Finding) -> str:
    measured, unit = finding.measured, finding.claim.unit
    low, high = _number(measured.low, unit), _number(measured.high, unit)
    return f"{_number(measured.value, unit)} [{low}, {high}]"


def _span(claim: Claim) -> str:
    return f"{_number(claim.low, claim.unit)} to {_number(claim.high, claim.unit)}"


def _number(value: float, unit: str) -> str:
    if math.isinf(value):
        return "not reached" if value > 0 and unit == "optimiser steps" else "open"
    return f"{value:,.{DECIMALS.get(unit, 2)}f}"


def _values(finding: Finding) -> list[float]:
    shown = finding.claim.shown
    same = shown and (finding.claim.unit != "share of trials")
    return finding.trials[shown].dropna().tolist() if same and len(finding.trials) else []


def _edges(numbers: list[float], unit: str) -> tuple[float, float]:
    if "share" in unit or unit == "accuracy":
        return (-1.05, 1.05) if "difference" in unit else (-0.03, 1.03)
    finite = [n for n in numbers if math.isfinite(n)]
    room = 0.08 * (max(finite) - min(finite))
    return max(min(finite) - room, 0.0), max(finite) + room


def _draw_estimate(ax: Axes, found: Estimate, height: float, colour: str, edge: tuple[float, float]) -> None:
    low, high = max(found.low, edge[0]), min(found.high, edge[1])
    if low <= high:
        ax.plot([low, high], [height] * 2, color=colour, linewidth=1.2, solid_capstyle="butt")
    for inside, end, arrow in ((found.low >= edge[0], low, "<"), (found.high <= edge[1], high, ">")):
        spot = min(max(end, edge[0]), edge[1])
        ax.plot(spot, height, "|" if inside else arrow, color=colour, markersize=5, clip_on=False)
    if edge[0] <= found.value <= edge[1]:
        ax.plot(found.value, height, "o", color=colour, markersize=4.5)
    elif math.isfinite(found.value):  # beyond the scale: it must not look as if nothing was measured
        side = 0 if found.value < edge[0] else 1
        ax.plot(edge[side], height, "<>"[side], color=colour, markersize=7, clip_on=False, zorder=4)
        where: dict[str, Any] = {"xytext": (6 - 12 * side, 4), "textcoords": "offset points", "fontsize": 5.5}
        ax.annotate(
            f"at {found.value:.3g}", (edge[side], height), ha="right" if side else "left", color=colour, **where
        )


@style.applied()
def _save(sheet: Figure, path: Path) -> Path:
    sheet.savefig(path)
    return path
