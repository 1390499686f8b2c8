"""What looking costs: each probe, and all of evaluation and probing as a share of training.

    python benchmarks/probes.py

One core, eager steps for the shares (compiled ones are a third faster). Prints a table and writes
benchmarks/results/probes.csv: milliseconds a trial at a probe step and at a trial's end, and evaluation plus the
default probes at the default cadence over training, for three shapes of trial.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import one_core  # noqa: F401

# isort: split
import torch

from phasemap.plan.stack import COMPILE_PAYS, best_size
from phasemap.plan.trial import Trial, make_trial
from phasemap.probes import names
from phasemap.training.evaluate import Stacked, measure, probes
from phasemap.training.train import Training, begin

RESULTS = Path(__file__).parent / "results" / "probes.csv"
EXTRA = ("homology", "picture")  # by libraries that are not installed with phasemap
SHAPES: dict[str, dict[str, object]] = {
    "mlp 48, p 59": {"model": "mlp", "width": 48, "depth": 1, "modulus": 59, "steps": 2_000, "evaluate_every": 100},
    "transformer 32, p 59": {"width": 32, "modulus": 59, "steps": 15_000},
    "transformer 128, p 97": {"steps": 15_000},
}


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Median processor time of a call."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def stack(values: dict[str, object], size: int) -> Training:
    shape = {"task": "modular_multiplication", "data_fraction": 0.4, **values}
    trials = tuple(make_trial({**shape, "seed": seed}) for seed in range(size))
    training = begin(trials, compiled=trials[0].steps >= COMPILE_PAYS)
    training.advance(200)
    return training


def looked_at(training: Training, trial: Trial, last: bool) -> Callable[[], object]:
    """A call of the trial's probes on all of the stack."""
    stacked = Stacked(trial.shape, training.flat, training.inputs, training.labels, training.split)
    seen = measure(stacked, keep=True)
    return lambda: probes(stacked, seen, list(range(len(training.trials))), last)


def rows_of(name: str, values: dict[str, object]) -> list[dict[str, object]]:
    size = best_size(make_trial(values), gpu=False)
    training = stack(values, size)
    trial = training.trials[0]
    spent = {}
    for probe in ("", *(each for each in names() if each not in EXTRA)):
        asked = trial.replace(probes=probe)
        spent[probe] = [seconds(looked_at(training, asked, last)) / size for last in (False, True)]
    rows: list[dict[str, object]] = []
    for probe, (step, end) in spent.items():
        alone = (step - spent[""][0], end - spent[""][1]) if probe else (step, end)
        label = probe or "weight norm"
        rows.append({"shape": name, "what": label, "ms a step": _ms(alone[0]), "ms at the end": _ms(alone[1])})
    stacked = Stacked(trial.shape, training.flat, training.inputs, training.labels, training.split)
    evaluation = seconds(lambda: measure(stacked, keep=False)) / size
    step = seconds(lambda: training.advance(training.step + 64)) / 64 / size
    probing = seconds(looked_at(training, trial, last=False)) / size
    interval = trial.evaluate_every * step
    share = evaluation / interval + probing / (trial.probe_interval * step)
    rows.append({"shape": name, "what": "evaluation", "ms a step": _ms(evaluation), "ms at the end": ""})
    rows.append({"shape": name, "what": "training step", "ms a step": _ms(step), "ms at the end": ""})
    rows.append({"shape": name, "what": "evaluation and probes / training", "ms a step": f"{share:.1%}"})
    return rows


def _ms(value: float) -> str:
    return f"{max(0.0, value) * 1e3:.2f}"


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, values in SHAPES.items():
        for row in rows_of(name, values):
            rows.append(row)
            print("  ".join(f"{value:<34}" for value in row.values()), flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("shape", "what", "ms a step", "ms at the end"))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
