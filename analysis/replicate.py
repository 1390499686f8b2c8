"""The replication report: every published claim beside what the recorded trials say, with a verdict.

``python -m analysis replicate`` writes it; no number in it is typed. The claims stand in ``claims.py``.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.fields import Fault
from phasemap.plan.outcome import DEFINITION_VERSIONS, EVENTS, other_definitions
from phasemap.plan.space_file import explain, load
from phasemap.plan.stack import seconds
from phasemap.plan.trial import FIELDS, KINDS, Trial
from phasemap.record.reader import COLUMNS, experiments, read, typed_fields

from . import caption, style
from .axis import text
from .claims import ASKED, CLAIMS, COMPUTED, MECHANISM, PUBLISHED, Claim
from .measures import NOTHING, chosen
from .statistics import Estimate

SPACES = Path(__file__).parents[1] / "search_spaces"
REPLICATES, DOES_NOT, UNDECIDED, NOT_MEASURED = "replicates", "does not", "undecided at this n", "not measured"
COLORS = {REPLICATES: style.GREEN, DOES_NOT: style.ORANGE, UNDECIDED: style.GRAY, NOT_MEASURED: "#cccccc"}
OTHER = "other settings"
OBSERVING = {  # fields that say how long a trial runs and what is looked at besides
    *("seed", "steps", "probe_every", "log_spaced", "probes", "phases", "delay_limit"),
}
ENDING = {"evaluate_every", "stop_when_settled", "settle_evaluations"}  # say where evaluations stand, and the end
KINDS_OF_EVIDENCE = {
    PUBLISHED: "At the published settings",
    OTHER: "The published network at other settings",
    MECHANISM: "The mechanism at a smaller scale",
    COMPUTED: "Computed from the task",
    ASKED: "Asked here, without a published value",
}
DECIMALS = {"accuracy": 3, "optimizer steps": 0, "components": 1, "dimensions": 1, "oscillations": 1, "weight decay": 4}
STORY = (4, 4)  # lines of what holds, and of what does not


@dataclass(frozen=True)
class Finding:
    """One claim as measured: the estimate (n = 0: no trials), the trials behind it, the settings in which they differ
    from the published ones, and the verdict."""

    claim: Claim
    measured: Estimate
    trials: pd.DataFrame
    other_settings: str
    verdict: str

    @property
    def kind(self) -> str:
        """One of ``KINDS_OF_EVIDENCE``."""
        return OTHER if self.claim.kind == PUBLISHED and self.other_settings else self.claim.kind


@dataclass(frozen=True)
class Summary:
    """``table``: a row for each claim. ``recorded``: ids of all finished trials at hand."""

    table: pd.DataFrame
    findings: tuple[Finding, ...]
    recorded: frozenset[str]


def summarize(tables: Mapping[str, pd.DataFrame]) -> Summary:
    """From the finished trials of each sweep (name -> tidy table)."""
    findings = tuple(_finding(claim, tables) for claim in CLAIMS)
    recorded = frozenset(trial for table in tables.values() for trial in table.trial)
    return Summary(pd.DataFrame([_row(f) for f in findings]), findings, recorded)


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
    here = in_store(tracking_uri)
    tables = gathered(pictures, here)
    summary = summarize(tables)
    paths = [out / "replication.md", pictures / "replication.csv"]
    paths[0].write_text(report(summary), encoding="utf-8")
    summary.table.to_csv(paths[1], index=False)
    for name, table in here.items():
        paths.append(pictures / f"trials_{name}.csv")
        _keep(table, paths[-1])
    sheets = {"overview": overview(summary)} | {f.claim.name: figure(f) for f in _drawn(summary)}
    return paths + [_save(sheet, pictures / f"{name}.png") for name, sheet in sheets.items()]


def in_store(tracking_uri: str | None = None) -> dict[str, pd.DataFrame]:
    """The finished trials in this store of each experiment that a claim speaks of, where there are any."""
    if not tracking_uri and "MLFLOW_TRACKING_URI" not in os.environ and not Path("mlflow.db").exists():
        return {}  # no store is named, and this folder has none: the tables beside the report alone
    here = set(experiments(tracking_uri))
    tables = {name: read(name, tracking_uri, everything=True).finished for name in sorted(_spaces() & here)}
    return {name: table for name, table in tables.items() if len(table)}


def gathered(folder: Path, here: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The trials of this store, and those that other machines left in the tables beside the report, each once."""
    tables = {}
    for name in sorted(_spaces()):
        file = folder / f"trials_{name}.csv"
        parts = [here[name]] if name in here else []
        parts += [kept(file)] if file.exists() else []
        if parts:
            tables[name] = pd.concat(parts, ignore_index=True).drop_duplicates("trial", ignore_index=True)
    return tables


def _spaces() -> set[str]:
    return {name for claim in CLAIMS for name in claim.spaces}


def kept(file: Path) -> pd.DataFrame:
    """A table as ``write`` left it, perhaps years ago: fields that it does not know have their defaults, and outcomes
    that meant something else then are absent and named in ``redefined``."""
    table = pd.read_csv(file, dtype=dict.fromkeys(KINDS, str))
    for name in (name for name in table if KINDS.get(name) is str):  # no probe is a choice; else an empty cell is of
        table[name] = table[name].fillna("" if name == "probes" else FIELDS[name].default)  # a trial before the field
    versions = table.pop("definitions") if "definitions" in table else pd.Series(None, table.index, dtype=object)
    table["redefined"] = None
    for recorded, rows in table.groupby(versions.fillna("")):
        older = other_definitions(recorded)
        table.loc[rows.index, [*(older & set(table))]] = math.nan
        table.loc[rows.index, "redefined"] = ",".join(sorted(older)) or None
    return typed_fields(table.reindex(columns=[*COLUMNS, *(name for name in table if name not in COLUMNS)]))


def _keep(here: pd.DataFrame, file: Path) -> None:
    """Adds trials to a table. The rows of others stay as they are, with the definitions that they were recorded by."""
    versions = here.redefined.fillna("").map(
        lambda older: json.dumps({name: n for name, n in DEFINITION_VERSIONS.items() if name not in older.split(",")})
    )
    fresh = here.drop(columns=["run_id", "redefined"]).dropna(axis=1, how="all").assign(definitions=versions)
    if file.exists():
        before = pd.read_csv(file, dtype=str, keep_default_na=False)
        fresh = pd.concat([fresh, before[~before.trial.isin(fresh.trial)]], ignore_index=True)
    fresh.to_csv(file, index=False)


def report(summary: Summary) -> str:
    """The page in Markdown."""
    head = ["claim", "published", "measured", "n", "counts as replicated", "verdict"]
    lines = [
        "# Replication of the published claims",
        "",
        "Written by `python -m analysis replicate` from the recorded trials; no number here is typed by hand.",
        "",
        *_story(summary),
        "",
        "![All measured claims, each on its own scale](replication/overview.png)",
        "",
        *_counts(summary),
        "",
        "A claim replicates when the whole 95 % interval of the measurement lies in the range that counts as "
        "replicating it, does not when none of it does, and is undecided otherwise. Shares: Wilson; medians: order "
        "statistics, or Kaplan–Meier for steps, where trials without the event are censored at the steps they ran; "
        "differences: Newcombe. A median of fewer than six trials has an open interval. A few seeds cannot show "
        "'never' or 'always': a third and two thirds of the trials stand for them. A verdict speaks of the steps "
        "that its claim names: a trial that has generalized is not undone by a longer budget, and one that has not "
        "may still do so. Ranges of numbers, mostly: steps, counts and jumps, those of the published runs, or half to "
        "twice a single one; components and exponents, a quarter to either side; accuracies, at least 0.95 where 1 is "
        "published, 0.05 around chance where chance is, at most 0.02 where a value near 0 is. "
        "What is computed from a task is checked, not estimated. Trials run at other settings "
        "than the published ones are named as such: their verdict speaks of these settings alone. "
        + _by_chance(summary.findings),
        "",
    ]
    for chapter in dict.fromkeys(f.claim.chapter for f in summary.findings):
        rows = [_cells(f) for f in summary.findings if f.claim.chapter == chapter]
        lines += [f"## {chapter}", "", *_table(head, rows), ""]
    lines += [*_not_run(summary), "## Sources", "", *_sources(summary), "", "## A figure for each claim", ""]
    lines += [f"### {f.claim.claim}\n\n![{f.claim.name}](replication/{f.claim.name}.png)\n" for f in _drawn(summary)]
    return "\n".join(lines)


def _drawn(summary: Summary) -> list[Finding]:
    return [f for f in summary.findings if f.measured.n and f.claim.kind != COMPUTED]


def _story(summary: Summary) -> list[str]:
    """What holds, what does not, what nobody knows yet: ten lines."""
    lines = []
    for verdict_, most, word in zip((REPLICATES, DOES_NOT), STORY, ("Holds", "Does not hold"), strict=True):
        findings = [f for f in summary.findings if f.verdict == verdict_ and f.kind not in (ASKED, COMPUTED)]
        lines += [f"- **{word}.** {_sentence(f)}" for f in _one_of_each_chapter(findings)[:most]]
    for verdict_, words in ((UNDECIDED, "Too few trials to decide"), (NOT_MEASURED, "Nobody knows yet")):
        names = [f.claim.name.replace("_", " ") for f in summary.findings if f.verdict == verdict_]
        if names:
            lines.append(f"- **{words}** ({len(names)}): {', '.join(names)}.")
    return lines


def _one_of_each_chapter(findings: list[Finding]) -> list[Finding]:
    """The first of each chapter, then the second of each, so that no chapter fills the story."""
    seen: dict[str, int] = {}
    rank = {}
    for finding in findings:
        chapter = finding.claim.chapter
        rank[finding.claim.name] = seen[chapter] = seen.get(chapter, -1) + 1
    return sorted(findings, key=lambda finding: rank[finding.claim.name])


def _sentence(finding: Finding) -> str:
    claim = finding.claim
    published = "; ".join(filter(None, (claim.published.strip("–"), claim.logs and f"logs: {claim.logs}")))
    measurement = f"measured {_measured(finding)}, n = {finding.measured.n}, {finding.kind}"
    return f"{claim.claim} ({f'published: {published}; ' if published else ''}{measurement})."


def _counts(summary: Summary) -> list[str]:
    """How many of each kind of evidence came out how."""
    head, rows = ["", *COLORS, "in all"], []
    for kind, words in KINDS_OF_EVIDENCE.items():
        verdicts = [f.verdict for f in summary.findings if f.kind == kind]
        if verdicts:
            rows.append([words, *(str(verdicts.count(v)) for v in COLORS), str(len(verdicts))])
    return _table(head, rows)


def _by_chance(findings: Iterable[Finding]) -> str:
    decided = sum(f.verdict in (REPLICATES, DOES_NOT) and not f.claim.fact for f in findings)
    chance = f"up to {0.05 * decided:.1f} are expected to be wrong by chance; they are not corrected for their number."
    return f"Of {decided} verdicts by 95 % intervals {chance}"


def _sources(summary: Summary) -> list[str]:
    by_source: dict[str, list[str]] = {}
    for finding in summary.findings:
        by_source.setdefault(finding.claim.source, []).append(finding.claim.name)
    return [f"- {source}: {', '.join(names)}" for source, names in by_source.items() if source != "–"]


def _not_run(summary: Summary) -> list[str]:
    """The search spaces with trials that nobody has recorded, what they cost, and the command; counted, not typed."""
    rows = []
    for file in _files(name for claim in CLAIMS for name in claim.spaces):
        trials = _trials(file)
        missing = [trial for trial in trials if trial.id not in summary.recorded]
        if missing:
            steps, hours = sum(trial.steps for trial in missing), seconds(missing) / 3600 / 2
            command = f"`python -m phasemap.sweep search_spaces/{file.name}`"
            rows.append([command, f"{len(missing):,} of {len(trials):,}", f"{steps:,}", f"{hours:,.1f}"])
    if not rows:
        return []
    head = ["command", "trials not run", "trial-steps", "hours on 2 cores, roughly"]
    return ["## What is not measured yet", "", *_table(head, rows), ""]


def _files(names: Iterable[str]) -> list[Path]:
    """The search spaces of these names; two files may feed one sweep, each named after it."""
    known = {file.stem: file for file in sorted(SPACES.glob("*.py"))}
    return [
        known[stem]
        for name in dict.fromkeys(names)
        for stem in (name, f"{name}_small", f"{name}_large")
        if stem in known
    ]


@cache
def _trials(file: Path) -> list[Trial]:
    """None of a file whose library is not installed here; a line says so."""
    try:
        return load(file).trials()
    except Fault as fault:
        print(explain(f"{file.name}: left out", fault), file=sys.stderr)
        return []


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def draw(ax: Axes, finding: Finding) -> None:
    """Range that replicates (shaded), published values, measurement with interval, single trials below it."""
    claim, measured = finding.claim, finding.measured
    values = _values(finding)
    edge = _edges(
        [claim.low, claim.high, measured.value, measured.low, measured.high, *values, *claim.points], claim.unit
    )
    ax.axvspan(max(claim.low, edge[0]), min(claim.high, edge[1]), color=style.BLUE, alpha=0.15, linewidth=0)
    rows = {1.0: "measured"}
    if values:
        ax.plot(values, [0.0] * len(values), "|", color="#333333", markersize=9, markeredgewidth=0.8)
        rows[0.0] = f"trials ({len(values)})"
    if claim.points:
        ax.plot(claim.points, [2.0] * len(claim.points), "D", color=style.PURPLE, markersize=4, fillstyle="none")
        rows[2.0] = "published"
    _draw_estimate(ax, measured, 1.0, COLORS[finding.verdict], edge)
    ax.set(ylim=(min(rows) - 0.6, max(rows) + 0.6), xlim=edge, xlabel=claim.unit)
    ax.set_yticks(sorted(rows), [rows[y] for y in sorted(rows)])
    if claim.unit == "optimizer steps":
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


@style.applied()
def figure(finding: Finding) -> Figure:
    """One claim."""
    claim = finding.claim
    words = caption.join(
        f"{claim.claim}. Published: {claim.published}{f' (logs: {claim.logs})' if claim.logs else ''}. Shaded: counts "
        f"as replicated ({_span(claim)}). Measured: {_measured(finding)}, n = {finding.measured.n}: {finding.verdict}",
        f"Ticks: {claim.shown.replace('_', ' ')} of the trials that have it" if _values(finding) else "",
        "Diamonds: published values" if claim.points else "",
        finding.other_settings,
    )
    sheet, axes = style.sheet(width=style.SINGLE, height=36 * style.MM, caption=words)
    draw(axes[0, 0], finding)
    return sheet


@style.applied()
def overview(summary: Summary) -> Figure:
    """All measured claims, each on its own scale: the shaded range becomes 0 to 1."""
    findings = _drawn(summary)
    if not findings:
        return style.notice("No recorded trial speaks to a published claim yet.", "replication")
    words = (
        "Each measurement with its 95 % interval (dot), and the published values (diamonds), on the scale of its "
        "claim: the shaded stretch is the range that counts as replicated. An arrow: the interval goes on; a large one "
        "with a number: the value itself lies there. Filled dots: at the published settings; open ones: the mechanism "
        "at a smaller scale, or other settings."
    )
    chapters = dict.fromkeys(f.claim.chapter for f in findings)
    lines = len(findings) + len(chapters)
    sheet, axes = style.sheet(1, 1, style.DOUBLE, (12 + 4.6 * lines) * style.MM, words)
    ax, ticks = axes[0, 0], {}
    ax.axvspan(0, 1, color=style.BLUE, alpha=0.15, linewidth=0)
    y = 0
    for chapter in chapters:
        ax.annotate(chapter, (-1.45, y), va="center", fontsize=7, fontweight="bold")
        for finding in (f for f in findings if f.claim.chapter == chapter):
            y += 1
            ticks[y] = finding.claim.name.replace("_", " ")
            _overview_row(ax, finding, y)
        y += 1
    ax.set_yticks([*ticks], [*ticks.values()], fontsize=6.5)
    ax.set(xlim=(-1.5, 2.5), ylim=(lines - 0.4, -0.6))
    ax.set_xticks([0, 1], ["low end", "high end"])
    return sheet


def _overview_row(ax: Axes, finding: Finding, y: int) -> None:
    claim, measured = finding.claim, finding.measured
    low, value, high, *points = (
        (v - claim.low) / (claim.high - claim.low)
        for v in (measured.low, measured.value, measured.high, *sorted(set(claim.points)))
    )
    for point in points:
        spot = min(max(point, -1.4), 2.4)
        ax.plot(spot, y - 0.22, "D", color=style.PURPLE, markersize=3, fillstyle="none", markeredgewidth=0.7)
        if spot != point:
            ax.annotate(f"{point * (claim.high - claim.low) + claim.low:.3g}", (spot, y - 0.22), fontsize=5)
    ours = finding.kind == PUBLISHED
    _draw_estimate(ax, Estimate(value, low, high, measured.n), y, COLORS[finding.verdict], (-1.5, 2.5), ours)
    ax.annotate(
        f"n = {measured.n}, {finding.verdict}" + (f", {OTHER}" if finding.kind == OTHER else ""),
        (1.03, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=6,
    )


def _finding(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> Finding:
    if claim.fact:
        return _checked(claim, claim.fact())
    own = [chosen(tables[name], claim.select) for name in claim.spaces if name in tables]
    own = [trials for trials in own if len(trials)]
    if not own or not claim.measure:
        return Finding(claim, NOTHING, pd.DataFrame(), "", NOT_MEASURED)
    trials = _each_seed_once(pd.concat(own, ignore_index=True), claim.shown)
    measured = claim.measure(trials)
    outcome = verdict(measured, claim.low, claim.high)
    return Finding(claim, measured, trials, _differences(trials, claim) if measured.n else "", outcome)


def _each_seed_once(trials: pd.DataFrame, shown: str) -> pd.DataFrame:
    """Of trials that differ only in how long they ran and what was looked at, the longest: their steps are the same
    ones. One in which the number shown was measured goes before, unless its absence says that nothing happened."""
    seen = trials[shown].notna() if shown and shown not in EVENTS else True
    order = trials.assign(seen=seen).sort_values(["seen", "steps"], ascending=False, kind="stable").index
    moving = [name for name in FIELDS if name == "seed" or name not in OBSERVING | ENDING]
    return trials.loc[order].drop_duplicates(moving).sort_index().reset_index(drop=True)


def _checked(claim: Claim, values: list[float]) -> Finding:
    """A fact holds if every value computed lies in its range; it has no interval."""
    measured = Estimate(values[0], min(values), max(values), len(values))
    outcome = REPLICATES if claim.low <= measured.low and measured.high <= claim.high else DOES_NOT
    return Finding(claim, measured, pd.DataFrame(), "", outcome)


def _differences(trials: pd.DataFrame, claim: Claim) -> str:
    """The settings in which the trials differ from the published ones; of what a claim does not name, from those of its
    search spaces."""
    parts = []
    for name, values in (_of_spaces(claim.spaces) | {name: (one,) for name, one in claim.settings.items()}).items():
        got = [v for v in sorted(trials[name].unique().tolist()) if v not in values]
        if got and name not in claim.select:
            instead = ", ".join(text(v) for v in values)
            parts.append(f"{name.replace('_', ' ')} {', '.join(text(v) for v in got)} instead of {instead}")
    return f"At other settings: {'; '.join(parts)}" if parts else ""


@cache
def _of_spaces(names: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    """What the trials of these search spaces have of each field that moves a training step."""
    trials = [trial for file in _files(names) for trial in _trials(file)]
    values = {name: {getattr(trial, name, FIELDS[name].default) for trial in trials} for name in KINDS}
    return {name: tuple(sorted(found)) for name, found in values.items() if name not in OBSERVING and None not in found}


def _row(finding: Finding) -> dict[str, Any]:
    claim, measured = finding.claim, finding.measured
    return {
        "name": claim.name,
        "chapter": claim.chapter,
        "claim": claim.claim,
        "source": claim.source,
        "published": claim.published,
        "logs": claim.logs,
        "kind": finding.kind,
        "measured": measured.value,
        "low": measured.low,
        "high": measured.high,
        "n": measured.n,
        "range_low": claim.low,
        "range_high": claim.high,
        "other_settings": finding.other_settings,
        "verdict": finding.verdict,
    }


def _cells(finding: Finding) -> list[str]:
    claim = finding.claim
    published = claim.published + (f"<br>logs: {claim.logs}" if claim.logs else "")
    measured = _measured(finding) if finding.measured.n else "–"
    other = f"<br>{finding.other_settings}" if finding.other_settings else ""
    sure = f"**{finding.verdict}**" + ("" if finding.kind == PUBLISHED else f"<br>{finding.kind}")
    return [claim.claim, published, measured + other, str(finding.measured.n), _span(claim), sure]


def _measured(finding: Finding) -> str:
    measured, unit = finding.measured, finding.claim.unit
    if finding.claim.kind == COMPUTED:
        return f"{_number(measured.value, unit)}, computed"
    low, high = _number(measured.low, unit), _number(measured.high, unit)
    if math.isinf(measured.low):
        high = high.replace("not reached", "open")  # too few trials, whatever they reached
    return f"{_number(measured.value, unit)} [{low}, {high}]"


def _span(claim: Claim) -> str:
    return f"{_number(claim.low, claim.unit)} to {_number(claim.high, claim.unit)}"


def _number(value: float, unit: str) -> str:
    if math.isinf(value):
        return "not reached" if value > 0 and unit == "optimizer steps" else "open"
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
    low = min(finite) - room
    return low if min(finite) < 0 else max(low, 0.0), max(finite) + room


def _draw_estimate(
    ax: Axes, estimate: Estimate, height: float, color: str, edge: tuple[float, float], filled: bool = True
) -> None:
    low, high = max(estimate.low, edge[0]), min(estimate.high, edge[1])
    if low <= high:
        ax.plot([low, high], [height] * 2, color=color, linewidth=1.2, solid_capstyle="butt")
    for inside, end, arrow in ((estimate.low >= edge[0], low, "<"), (estimate.high <= edge[1], high, ">")):
        spot = min(max(end, edge[0]), edge[1])
        ax.plot(spot, height, "|" if inside else arrow, color=color, markersize=5, clip_on=False)
    if edge[0] <= estimate.value <= edge[1]:
        ax.plot(estimate.value, height, "o", color=color, markersize=4.5, markerfacecolor=color if filled else "white")
    elif math.isfinite(estimate.value):  # beyond the scale: it must not look as if nothing was measured
        side = 0 if estimate.value < edge[0] else 1
        ax.plot(edge[side], height, "<>"[side], color=color, markersize=7, clip_on=False, zorder=4)
        where: dict[str, Any] = {"xytext": (6 - 12 * side, 4), "textcoords": "offset points", "fontsize": 5.5}
        ax.annotate(
            f"at {estimate.value:.3g}", (edge[side], height), ha="right" if side else "left", color=color, **where
        )


@style.applied()
def _save(sheet: Figure, path: Path) -> Path:
    sheet.savefig(path)
    return path
