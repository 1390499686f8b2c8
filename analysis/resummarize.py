"""Another threshold without training again: events and phases read off the logged curves again.

The definitions are those of ``phasemap.training.events``, the very ones used while training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from phasemap.plan.phases import PHASES
from phasemap.plan.trial import Trial, make_trial
from phasemap.record.reader import Sweep, load_curves
from phasemap.training.events import events

SETTINGS = ("grok_threshold", "memorization_threshold", "delay_limit", "settle_evaluations")
ACCURACIES = ("train_accuracy", "test_accuracy")
KEYS = (*ACCURACIES, "train_loss", "intrinsic_dimension")
CHANGED = (  # what follows from a threshold
    *("phase", "memorization_step", "grok_step", "settled_step", "oscillations", "slingshots"),
    *("early_high_share", "late_high_share"),
    *("minimum_intrinsic_dimension", "minimum_intrinsic_dimension_step", "grok_intrinsic_dimension"),
)


def resummarize(sweep: Sweep, **settings: float) -> Sweep:
    """The sweep as if it had been run with other thresholds (see ``SETTINGS``).

    A trial that stopped early, once settled at the old threshold, may not have reached a higher one yet:
    it has no phase then, is censored at its last step in times, and left out of shares.

    Raises:
        ValueError: not a threshold, or out of range; or the phases are those of a rule of your own.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ValueError(f"threshold: must be one of {', '.join(SETTINGS)}, got {', '.join(unknown)}")
    make_trial(settings)  # refuses what is out of range
    if tuple(sweep.phases) != PHASES:
        raise ValueError(f"{', '.join(settings)}: needs the phases of liu, got a rule of your own; leave it out")
    table = sweep.trials.assign(**settings)
    curves = load_curves(sweep.finished.run_id, sweep.tracking_uri or None, KEYS)
    return dataclasses.replace(sweep, trials=recomputed(table, curves))


def recomputed(table: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns ``CHANGED`` made again from curves (run_id, key, step, value)."""
    lines = {run: dict(list(own.groupby("key"))) for run, own in curves.groupby("run_id")}
    made = [_events(row, lines.get(row["run_id"], {})) for row in table.to_dict("records")]
    fresh = pd.DataFrame(made, index=table.index, columns=list(CHANGED))
    numbers = [name for name in CHANGED if name != "phase"]
    return table.assign(**fresh.astype(dict.fromkeys(numbers, float)))


def _events(row: Mapping[Any, Any], lines: Mapping[str, pd.DataFrame]) -> dict[str, object]:
    if row["status"] != "FINISHED":
        return {name: row[name] for name in CHANGED}
    trial = Trial(**{name: row[name] for name in SETTINGS})  # nothing else of it tells events; it may be anybody's
    curves = {
        key: (tuple(int(s) for s in line.step), tuple(float(v) for v in line.value)) for key, line in lines.items()
    }
    outcomes = events(trial, curves, diverged=row["phase"] == "diverged")
    if row["ending"] == "settled" and (outcomes["grok_step"] is None or outcomes["phase"] == "collapse"):
        outcomes["phase"] = None  # had it gone on, it might have generalized, or come back
    return {name: outcomes[name] for name in CHANGED}
