"""Interactive map: one self-contained page per sweep, to point at cells, swap and slice axes, open runs.

Plain SVG and script in ``interactive.html``, no network and no library. This file gathers what the
page shows; the statistics of a cell are made in the page, since its cells change with the axes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phasemap.record.reader import Sweep, load_curves

from . import caption, style
from .axis import axis_of

POINTS = 80  # of a curve, at most
TEMPLATE = Path(__file__).with_suffix(".html")


def of_sweep(sweep: Sweep) -> str:
    """The page of a sweep; an empty sweep gets one that says so."""
    keys = ("train_accuracy", "test_accuracy")
    runs = sweep.finished.run_id
    curves = load_curves(runs, sweep.tracking_uri or None, keys) if len(runs) else pd.DataFrame()
    return page(sweep, curves)


def page(sweep: Sweep, curves: pd.DataFrame) -> str:
    """HTML, from the trials and their accuracy curves (run_id, key, step, value)."""
    data = json.dumps(summarize(sweep, curves), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/", data)


def summarize(sweep: Sweep, curves: pd.DataFrame) -> dict[str, object]:
    """What the page shows: axes, trials, and curves in thousandths on shared lists of steps."""
    table = sweep.finished.sort_values("seed", kind="stable")
    axes = [axis_of(table, name) for name in sweep.cell_axes or ("seed",)] if len(table) else []
    grids: dict[tuple[int, ...], int] = {}
    lines = _lines(curves, grids)
    served = sweep.tracking_uri if sweep.tracking_uri.startswith("http") else ""
    return {
        "name": sweep.name,
        "progress": sweep.progress,
        "note": _note(table, sweep.cell_axes) if len(table) else "",
        "experiment": sweep.experiment_id,
        "server": served,
        "axes": [
            {
                "name": a.name,
                "label": a.label,
                "values": list(a.values),
                "continuous": a.continuous,
                "log": a.scale == "log",
            }
            for a in axes
        ],
        "phases": list(phases := style.phases_of(table)),
        "colors": {phase: color for phase, (color, _) in style.looks(phases).items()},
        "trials": [
            _trial(row, [a.name for a in axes]) | lines.get(row["run_id"], {}) for row in table.to_dict("records")
        ],
        "steps": [list(steps) for steps in grids],
    }


def _note(table: pd.DataFrame, axes: tuple[str, ...]) -> str:
    return caption.join(caption.grokked(table), caption.sizes(table), caption.sampled(table, axes))


def _trial(row: dict[str, Any], names: list[str]) -> dict[str, object]:
    ran = row["steps"] if row["phase"] == "diverged" or math.isnan(row["steps_run"]) else row["steps_run"]
    accuracy = row["final_test_accuracy"]
    return {
        "run": row["run_id"],
        "at": {name: row[name] for name in names},
        "seed": row["seed"],
        "phase": row["phase"],
        "grok": None if math.isnan(row["grok_step"]) else int(row["grok_step"]),
        "accuracy": None if math.isnan(accuracy) else round(accuracy, 4),
        "ran": int(ran),
    }


def _lines(curves: pd.DataFrame, grids: dict[tuple[int, ...], int]) -> dict[str, dict[str, object]]:
    """Per run its "train" and "test" curve and the number of their list of steps."""
    lines: dict[str, dict[str, object]] = {}
    if curves.empty:
        return lines
    for run, own in curves.groupby("run_id"):
        wide = own.pivot(index="step", columns="key", values="value")
        kept = wide.iloc[np.unique(np.linspace(0, len(wide) - 1, min(len(wide), POINTS)).round().astype(int))]
        grid = grids.setdefault(tuple(int(s) for s in kept.index), len(grids))
        lines[str(run)] = {"grid": grid} | {
            key.removesuffix("_accuracy"): [None if math.isnan(v) else round(1000 * v) for v in kept[key]]
            for key in kept
        }
    return lines
