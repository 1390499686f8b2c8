"""The sentences below the figures: which definition and threshold was used, and how many trials.

Text only; the definitions themselves stand in ``phasemap.plan.outcome``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from phasemap.plan.component import built_in, names
from phasemap.plan.phases import PHASES
from phasemap.record.reader import settings
from phasemap.training.events import FINE_DELAY

from .axis import axis_of, text
from .style import phases_of

MODULAR = {name for name in names("task") if any(one.name == "modulus" for one in built_in("task", name).fields)}
WILSON = "Bars: 95 % Wilson intervals."
LIU = "Liu et al. 2022, arXiv 2205.10343"
SAMPLED = "The sampler chose the points: pooled numbers are those of its trials, not of the space"


def seeds(counts: pd.Series) -> str:
    """ "5 seeds per cell", or the range when cells differ."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low} seed{'s' if low != 1 else ''} per cell" if low == high else f"{low} to {high} seeds per cell"


def every(count: int, noun: str) -> str:
    """ "All 5 seeds", "Both seeds", "The one seed"."""
    return {1: f"The one {noun}", 2: f"Both {noun}s"}.get(count, f"All {count} {noun}s")


def sizes(table: pd.DataFrame) -> str:
    """ "n = 200 trials of modular addition (mod 59), mlp" """
    what = " and ".join(text(t) for t in sorted(table.task.unique()))
    of = f" (mod {_values(table, 'modulus')})" if MODULAR & set(table.task) else ""
    noun = "trial" if len(table) == 1 else "trials"
    return f"n = {len(table)} {noun} of {what}{of}, {_values(table, 'model')}, at most {_values(table, 'steps')} steps"


def grokked(table: pd.DataFrame) -> str:
    """What counts as generalized."""
    every = _values(table, "evaluate_every")
    unread = int(table.phase.isna().sum())
    noun = "trial" if unread == 1 else "trials"
    early = (
        f"; {unread} {noun} stopped before it could be read: censored in times, left out of shares" if unread else ""
    )
    return (
        f"Generalized: test accuracy ≥ {_values(table, 'grok_threshold')} at an evaluation (every {every} steps){early}"
    )


def phases(table: pd.DataFrame) -> str:
    """What the phases of Liu et al. mean at the thresholds used; a rule of the user's says so itself."""
    train, test, delay = (_values(table, n) for n in ("memorization_threshold", "grok_threshold", "delay_limit"))
    meanings = {
        "comprehension": f"test follows train by less than {delay} steps",
        "grokking": f"test follows by {delay} steps or more",
        "memorization": "train only",
        "confusion": "neither",
        "collapse": f"had settled and ends below {test}",
        "diverged": "a loss or weight stopped being finite",
    }
    met = set(table.phase)
    own = [phase for phase in phases_of(table) if phase not in PHASES]
    if own:
        return join(f"Phases of the rule {_values(table, 'phases')}: {', '.join(own)}")
    present = "; ".join(f"{phase}: {meaning}" for phase, meaning in meanings.items() if phase in met)
    head = f"Phases of {LIU}, at train accuracy ≥ {train}, test accuracy ≥ {test}"
    return join(f"{head}: {present}" if present else head, coarse(table))


def coarse(table: pd.DataFrame) -> str:
    """A sentence where evaluations are too few to tell a lag from none, else the empty text."""
    if not (table.delay_limit < FINE_DELAY * table.evaluate_every).any():
        return ""
    return (
        f"A lag is known to the evaluation: with fewer than {FINE_DELAY} evaluations in the delay limit, trials near "
        "it may stand on its other side"
    )


def pooled(table: pd.DataFrame, shown: tuple[str, ...]) -> str:
    """Which varying settings a figure lumps together, and whether a sampler chose where its trials stand on them."""
    others = [n for n in settings(table) if n not in (*shown, "seed") and table[n].nunique() > 1]
    if not others:
        return ""
    over = ", ".join(o.replace("_", " ") for o in others)
    return join(f"Pooled over {over}", sampled(table, others))


def sampled(table: pd.DataFrame, axes: Sequence[str]) -> str:
    """That a sampler chose the points, if so: each trial then has a seed of its own, where a grid gives all cells the
    same ones, or a value of its own on an axis."""
    chosen = table.seed.is_unique or any(axis_of(table, name).continuous for name in axes)
    return SAMPLED if axes and chosen else ""


def join(*sentences: str) -> str:
    """Sentences with their full stops; a per cent sign never starts a line."""
    whole = " ".join(s.removesuffix(".") + "." for s in sentences if s)
    return whole[:1].upper() + whole[1:].replace(" %", "\u00a0%")


def _values(table: pd.DataFrame, name: str) -> str:
    return ", ".join(text(v) for v in sorted(table[name].unique()))
