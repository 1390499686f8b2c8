"""What each option of a training step costs: its processor time over that of the plain step.

    python benchmarks/options.py [--seconds 1]

One core, eager steps, stacks of four. The options take turns; the median over the turns of a ratio to the plain step
counts, for on a shared machine the times themselves wander. Prints a table and writes benchmarks/results/options.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

import one_core  # noqa: F401

# isort: split
import torch

from phasemap.plan.trial import make_trial
from phasemap.training.train import Training, begin

RESULTS = Path(__file__).parent / "results" / "options.csv"
TRIALS, STEPS, TURNS = 4, 2, 7
NETWORKS: dict[str, dict[str, object]] = {
    "mlp 128": {"model": "mlp", "width": 128, "depth": 1, "modulus": 59},
    "transformer 32": {"width": 32, "modulus": 59},
}
OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9},
    "lion": {"optimizer": "lion"},
    "grokfast": {"optimizer": "grokfast"},
    "muon": {"optimizer": "muon"},
    "annealing": {"annealing": "cosine"},
    "gradient_clip": {"gradient_clip": 1.0},
    "norm_clamp": {"norm_clamp": 30.0},
    "temperature": {"temperature": 2.0},
    "cross_entropy_float64": {"loss": "cross_entropy_float64"},
    "embedding_rate": {"embedding_rate": 0.5},
    "orthogonal_gradient": {"orthogonal_gradient": True},
    "weight_noise": {"weight_noise": 0.01},
    "dropout": {"dropout": 0.1},
}


def stack(network: dict[str, object], option: dict[str, object]) -> Training:
    """A stack that has taken its first steps."""
    shared = {"data_fraction": 0.4, "steps": 1_000_000, "evaluate_every": 1_000_000}
    trial = make_trial({**shared, **network, **option})
    training = begin(tuple(trial.replace(seed=seed) for seed in range(TRIALS)))
    training.advance(STEPS)
    return training


def milliseconds(training: Training, seconds: float) -> float:
    """Processor time of a step of one trial."""
    start, begun = time.process_time(), training.step
    while time.process_time() - start < seconds:
        training.advance(training.step + STEPS)
    return 1e3 * (time.process_time() - start) / (training.step - begun) / TRIALS


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    rows = []
    for network, fields in NETWORKS.items():
        stacks = {name: stack(fields, option) for name, option in OPTIONS.items()}
        turns = [{name: milliseconds(one, seconds) for name, one in stacks.items()} for _ in range(TURNS)]
        for name in stacks:
            own, ratio = (
                statistics.median(turn[name] / unit for turn, unit in zip(turns, units, strict=True))
                for units in ([1.0] * TURNS, [turn["plain"] for turn in turns])
            )
            rows.append({"network": network, "option": name, "ms": f"{own:.3f}", "x plain": f"{ratio:.2f}"})
            print("  ".join(f"{value:<24}" for value in rows[-1].values()), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
