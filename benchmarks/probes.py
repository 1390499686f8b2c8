"""What looking costs: each probe, and all of evaluation and probing as a share of training.

    python benchmarks/probes.py [PROBE…]

With names, only these are measured, and their rows written among the others.

One core, and compiled steps, as trials so long take them. Prints a table and writes benchmarks/results/probes.csv:
milliseconds a trial at a probe step and at a trial's end, and evaluation plus the default probes at the default cadence
over training, for three shapes of trial.
"""

from __future__ import annotations

import csv
import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import one_core  # noqa: F401

# isort: split
import torch

from phasemap import probes
from phasemap.plan.stack import COMPILE_PAYS, best_size
from phasemap.plan.trial import make_trial
from phasemap.training import evaluate
from phasemap.training.train import Training, begin

Name = tuple[str, bool]  # what is measured, and whether at a trial's end
STEPS = 64
ROUNDS, REPEATS = 3, 3
SLOW = 1.0  # seconds of a call that needs neither warm caches nor repeats
RESULTS = Path(__file__).parent / "results" / "probes.csv"
SHAPES: dict[str, dict[str, object]] = {
    "mlp 48, p 59": {"model": "mlp", "width": 48, "depth": 1, "modulus": 59, "steps": 2_000, "evaluate_every": 100},
    "transformer 32, p 59": {"width": 32, "modulus": 59, "steps": 15_000},
    "transformer 128, p 97": {"steps": 15_000},
}


def seconds(calls: Mapping[Name, Callable[[], object]]) -> dict[Name, float]:
    """Least processor time of each call: what neighbors on the machine add to the others is no cost of ours. The calls
    take turns, each several times in a row, the first of which warms the caches. Probes with a library of their own
    tear up the heap: they come in a second call of this, after all the others."""
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            first = _once(call)
            times[name] += [_once(call) for _ in range(REPEATS)] if first < SLOW else [first]
    return {name: min(spent) for name, spent in times.items()}


def _once(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def stack(values: dict[str, object], size: int) -> Training:
    shape = {"task": "modular_multiplication", "data_fraction": 0.4, **values}
    trials = tuple(make_trial({**shape, "seed": seed}) for seed in range(size))
    training = begin(trials, compiled=trials[0].steps >= COMPILE_PAYS)
    training.advance(200)
    return training


def rows_of(name: str, values: dict[str, object], only: tuple[str, ...]) -> list[dict[str, object]]:
    torch.set_num_threads(1)
    size = best_size(make_trial(values), gpu=False)
    training = stack(values, size)
    trial, stacked = training.trials[0], training.stacked()
    seen, everyone = evaluate.measure(stacked, keep=True), list(range(size))

    def looking(asked: str, last: bool) -> Callable[[], object]:
        own = dataclasses.replace(stacked, shape=trial.replace(probes=asked).shape)
        return lambda: evaluate.probes(own, seen, everyone, last)

    wanted = only or probes.names()
    needing = tuple(probe for probe in wanted if probe in probes.needs())
    named = ("", *(probe for probe in wanted if probe not in needing))
    calls = {(asked, last): looking(asked, last) for asked in (*named, trial.probes) for last in (False, True)}
    calls["evaluation", False] = lambda: evaluate.measure(stacked, keep=False)
    calls["training step", False] = lambda: training.advance(training.step + STEPS)
    last_of_all = {(asked, last): looking(asked, last) for asked in needing for last in (False, True)}
    spent = {key: value / size for key, value in (seconds(calls) | seconds(last_of_all)).items()}
    rows: list[dict[str, object]] = []
    for asked in (*named, *needing):
        alone = [spent[asked, last] - (spent["", last] if asked else 0) for last in (False, True)]
        label = asked or "weight norm"
        rows.append({"shape": name, "what": label, "ms a step": _ms(alone[0]), "ms at the end": _ms(alone[1])})
    evaluation, step = spent["evaluation", False], spent["training step", False] / STEPS
    share = evaluation / (trial.evaluate_every * step) + spent[trial.probes, False] / (trial.probe_interval * step)
    rows.append({"shape": name, "what": "evaluation", "ms a step": _ms(evaluation), "ms at the end": ""})
    rows.append({"shape": name, "what": "training step", "ms a step": _ms(step), "ms at the end": ""})
    rows.append({"shape": name, "what": "evaluation and probes / training", "ms a step": f"{share:.1%}"})
    return rows


def _ms(value: float) -> str:
    return f"{max(0.0, value) * 1e3:.2f}"


def _among_the_others(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows that are recorded, with new ones of these probes before those of the evaluation."""
    with RESULTS.open(newline="") as file:
        recorded: list[dict[str, object]] = list(csv.DictReader(file))
    new = {(row["shape"], row["what"]) for row in rows}
    kept = [row for row in recorded if (row["shape"], row["what"]) not in new]
    merged: list[dict[str, object]] = []
    for row in kept:
        if row["what"] == "evaluation":
            merged += [one for one in rows if one["shape"] == row["shape"]]
        merged.append(row)
    return merged


def main(only: tuple[str, ...]) -> None:
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a heap of its own for each shape
        for case in SHAPES.items():
            for row in pool.apply(rows_of, (*case, only)):
                rows.append(row)
                print("  ".join(f"{value:<34}" for value in row.values()), flush=True)
    if only:
        rows = _among_the_others([row for row in rows if row["what"] in only])
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("shape", "what", "ms a step", "ms at the end"))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
