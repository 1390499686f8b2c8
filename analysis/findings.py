"""From claims and recorded trials to findings: each claim as measured, with its verdict. ``replicate.py`` writes the
report of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from phasemap.fields import Fault
from phasemap.plan.outcome import EVENTS
from phasemap.plan.space_file import explain, load
from phasemap.plan.trial import FIELDS, KINDS, Trial

from .axis import text
from .claims import CLAIMS, PUBLISHED, Claim
from .measures import NOTHING, chosen
from .statistics import Estimate

SPACES = Path(__file__).parents[1] / "search_spaces"
REPLICATES, DOES_NOT, UNDECIDED, NOT_MEASURED = "replicates", "does not", "undecided at this n", "not measured"
CHECKED = "checked"  # a computed fact that holds, whatever was read into it
OTHER = "other settings"
OBSERVING = {  # fields that say how long a trial runs and what is looked at besides
    *("seed", "steps", "probe_every", "log_spaced", "probes", "phases", "delay_limit"),
}
ENDING = {"evaluate_every", "stop_when_settled", "settle_evaluations"}  # say where evaluations stand, and the end


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
    ones, or begin at the same weights where two kinds of machines ran them, and no second seed. One in which the number
    shown was measured goes before, unless its absence says that nothing happened."""
    seen = trials[shown].notna() if shown and shown not in EVENTS else True
    order = trials.assign(seen=seen).sort_values(["seen", "steps"], ascending=False, kind="stable").index
    moving = [name for name in FIELDS if name == "seed" or name not in OBSERVING | ENDING]
    return trials.loc[order].drop_duplicates(moving).sort_index().reset_index(drop=True)


def _checked(claim: Claim, values: list[float]) -> Finding:
    """A fact holds if every value computed lies in its range; it has no interval."""
    measured = Estimate(values[0], min(values), max(values), len(values))
    outcome = CHECKED if claim.low <= measured.low and measured.high <= claim.high else DOES_NOT
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
    trials = [trial for file in files(names) for trial in trials_of(file)]
    values = {name: {getattr(trial, name, FIELDS[name].default) for trial in trials} for name in KINDS}
    return {name: tuple(sorted(found)) for name, found in values.items() if name not in OBSERVING and None not in found}


def files(names: Iterable[str]) -> list[Path]:
    """The search spaces of these names; two files may feed one sweep, each named after it."""
    known = {file.stem: file for file in sorted(SPACES.glob("*.py"))}
    return [
        known[stem]
        for name in dict.fromkeys(names)
        for stem in (name, f"{name}_small", f"{name}_large")
        if stem in known
    ]


@cache
def trials_of(file: Path) -> list[Trial]:
    """None of a file whose library is not installed here; a line says so."""
    try:
        return load(file).trials()
    except Fault as fault:
        print(explain(f"{file.name}: left out", fault), file=sys.stderr)
        return []


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
