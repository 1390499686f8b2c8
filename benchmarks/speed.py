"""Stack against loops: trial-steps per second on one core, every figure a ratio measured in one run.

    python benchmarks/speed.py [--seconds 3] [--rounds 5] [--only mlp]

Prints a table and writes benchmarks/results/speed.csv. The contenders take turns, so that a machine whose
speed drifts slows all of them; the ratio is the median over rounds. "share" is the nominal multiply-adds of
the published network per second over the machine's best fp32 product.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# ruff: noqa: E402 - threads are counted when numpy and torch are imported
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import loops
import torch

from phasemap import product
from phasemap.stack import best_size
from phasemap.train import begin
from phasemap.trial import Trial, make_trial

RESULTS = Path(__file__).parent / "results"


def cases() -> list[Trial]:
    transformers = [{"model": "transformer", "width": width, "modulus": 97} for width in (32, 64, 128, 256)]
    mlps = [
        {"model": "mlp", "width": width, "depth": 1, "modulus": 59, "learning_rate": 1e-2} for width in (32, 128, 512)
    ]
    return [make_trial({**case, "data_fraction": 0.4, "steps": 1_000_000}) for case in mlps + transformers]


def nominal(trial: Trial) -> float:
    """Multiply-adds of one step of the published network, forward and backward."""
    batch, width = trial.batch_size, trial.width
    if trial.model == "mlp":
        return 3 * batch * width * (trial.depth * width + trial.modulus)
    return 3 * batch * width * (2 * trial.depth * 12 * width + trial.modulus)


def best_product(width: int) -> float:
    """The machine's best fp32 multiply-adds per second over products [512, w] @ [w, 4 w]."""
    a, b = torch.randn(2, 512, width), torch.randn(2, width, 4 * width)
    rates = []
    for candidate in product.CANDIDATES.values():
        for _ in range(20):
            start = time.process_time()
            for _ in range(10):
                candidate(a, b)
            rates.append(10 * 2 * 512 * width * 4 * width / (time.process_time() - start))
    return max(rates)


def stack(trial: Trial, size: int, compiled: bool) -> Callable[[], int]:
    """Trains a stack; each call takes 8 steps and returns the trial-steps."""
    trials = tuple(make_trial({**dict(vars(trial)), "seed": seed}) for seed in range(size))
    training = begin(trials, compiled=compiled)

    def go() -> int:
        training.advance(training.step + 8)
        return 8 * size

    return go


def loop(steps) -> Callable[[], int]:
    def go() -> int:
        for _ in range(4):
            next(steps)
        return 4

    return go


def rate(go: Callable[[], int], seconds: float) -> float:
    """Trial-steps per second of processor time."""
    start, done = time.process_time(), 0
    while time.process_time() - start < seconds:
        done += go()
    return done / (time.process_time() - start)


def measure(trial: Trial, seconds: float, rounds: int) -> dict[str, float | str]:
    size = best_size(trial, gpu=False)
    contenders = {
        "published": loop(loops.published(trial)),
        "plain": loop(loops.plain(trial)),
        "plain compiled": loop(loops.plain(trial, compiled=True)),
        "stack eager": stack(trial, size, compiled=False),
        "stack": stack(trial, size, compiled=True),
    }
    for go in contenders.values():
        go(), go()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, go in contenders.items():
            found[name].append(rate(go, seconds))
    best_plain = [max(a, b) for a, b in zip(found["plain"], found["plain compiled"], strict=True)]
    middle = {name: statistics.median(values) for name, values in found.items()}
    return {
        "model": trial.model,
        "width": trial.width,
        "K": size,
        **{name: round(value, 1) for name, value in middle.items()},
        "x published": round(_ratio(found["stack"], found["published"]), 2),
        "x plain": round(_ratio(found["stack"], best_plain), 2),
        "eager x published": round(_ratio(found["stack eager"], found["published"]), 2),
        "share": round(middle["stack"] * nominal(trial) / best_product(trial.width), 2),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("mlp", "transformer"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for trial in cases():
        if arguments.only in (None, trial.model):
            rows.append(measure(trial, arguments.seconds, arguments.rounds))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "speed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
