"""The replication report: every published claim beside what the recorded trials say, with a verdict.

``phasemap figures replicate`` writes it; no number in it is typed. The claims stand in ``claims.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasemap.plan.stack import seconds

from . import caption, style
from .claims import ASKED, CLAIMS, COMPUTED, MECHANISM, PUBLISHED, Claim
from .findings import (
    CHECKED,
    DOES_NOT,
    NOT_MEASURED,
    OTHER,
    REPLICATES,
    UNDECIDED,
    Finding,
    Summary,
    files,
    summarize,
    trials_of,
)
from .statistics import Estimate
from .trial_tables import gathered, in_store, keep

COLORS = {REPLICATES: style.GREEN, DOES_NOT: style.ORANGE, UNDECIDED: style.GRAY, NOT_MEASURED: "#cccccc"}
VERDICTS = (REPLICATES, DOES_NOT, UNDECIDED, NOT_MEASURED, CHECKED)
KINDS_OF_EVIDENCE = {
    PUBLISHED: "At the published settings",
    OTHER: "The published network at other settings",
    MECHANISM: "The mechanism at a smaller scale",
    COMPUTED: "Computed from the task",
    ASKED: "Asked here: without a published value, or of another network",
}
DECIMALS = {"accuracy": 3, "optimizer steps": 0, "components": 1, "dimensions": 1, "oscillations": 1, "weight decay": 4}
STORY = (4, 4)  # lines of what holds, and of what does not


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
        keep(table, paths[-1])
    sheets = {"overview": overview(summary)} | {f.claim.name: figure(f) for f in _drawn(summary)}
    return paths + [_save(sheet, pictures / f"{name}.png") for name, sheet in sheets.items()]


def report(summary: Summary) -> str:
    """The page in Markdown."""
    head = ["claim", "published", "measured", "n", "counts as replicated", "verdict"]
    lines = [
        "# Replication of the published claims",
        "",
        "Written by `phasemap figures replicate` from the recorded trials; no number here is typed by hand.",
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
    """What replicates, what does not, what is not measured: ten lines."""
    lines = []
    for verdict_, most, word in zip((REPLICATES, DOES_NOT), STORY, ("Replicates", "Does not replicate"), strict=True):
        findings = [f for f in summary.findings if f.verdict == verdict_ and f.kind not in (ASKED, COMPUTED)]
        findings.sort(key=lambda finding: finding.kind != PUBLISHED)
        lines += [f"- **{word}.** {_sentence(f)}" for f in _one_of_each_chapter(findings)[:most]]
    for verdict_, words in ((UNDECIDED, "Too few trials to decide"), (NOT_MEASURED, "Not measured")):
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
    head, rows = ["", *VERDICTS, "in all"], []
    for kind, words in KINDS_OF_EVIDENCE.items():
        verdicts = [f.verdict for f in summary.findings if f.kind == kind]
        if verdicts:
            rows.append([words, *(str(verdicts.count(v)) for v in VERDICTS), str(len(verdicts))])
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
    for file in files(name for claim in CLAIMS for name in claim.spaces):
        trials = trials_of(file)
        missing = [trial for trial in trials if trial.id not in summary.recorded]
        if missing:
            steps, hours = sum(trial.steps for trial in missing), seconds(missing) / 3600 / 2
            command = f"`phasemap sweep search_spaces/{file.name}`"
            rows.append(
                [
                    command,
                    f"{len(missing):,} of {len(trials):,}",
                    f"{steps:,}",
                    f"{hours:,.1f}" if hours >= 0.1 else "< 0.1",
                ]
            )
    if not rows:
        return []
    head = ["command", "trials not run", "trial-steps", "hours on 2 cores, uncompiled, to a factor of two"]
    return ["## What is not measured yet", "", *_table(head, rows), ""]


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
    beyond: dict[float, list[str]] = {}  # values off the scale, by where they are marked
    for point in points:
        spot = min(max(point, -1.4), 2.4)
        ax.plot(spot, y - 0.22, "D", color=style.PURPLE, markersize=3, fillstyle="none", markeredgewidth=0.7)
        if spot != point:
            beyond.setdefault(spot, []).append(f"{point * (claim.high - claim.low) + claim.low:.3g}")
    for spot, values in beyond.items():
        place = (spot, y - 0.22)
        ax.annotate(", ".join(values), place, (3, 0), textcoords="offset points", va="center", fontsize=5)
    ours = finding.kind == PUBLISHED
    _draw_estimate(ax, Estimate(value, low, high, measured.n), y, COLORS[finding.verdict], (-1.5, 2.5), ours)
    ax.annotate(
        f"n = {measured.n}, {finding.verdict}" + (f", {OTHER}" if finding.kind == OTHER else ""),
        (1.03, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=6,
    )


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
