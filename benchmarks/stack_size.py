"""Time per trial-step and memory against the number of trials in a stack, K = 1 ... 64, on one core.

    python benchmarks/stack_size.py [--seconds 2]

Prints a table and writes benchmarks/results/stack_size.csv; ``phasemap.stack.best_size`` follows it.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from speed import RESULTS, rate, stack

from phasemap.stack import best_size
from phasemap.trial import make_trial

CASES = (("mlp", 32), ("mlp", 128), ("mlp", 512), ("transformer", 32), ("transformer", 128))
SIZES = (1, 2, 4, 8, 16, 32, 64)


def one(model: str, width: int, size: int, seconds: float) -> None:
    """Measures one stack; a process of its own, so that peak memory is its own."""
    shape = {"model": model, "width": width, "steps": 1_000_000, "data_fraction": 0.4}
    trial = make_trial(shape | ({"depth": 1, "modulus": 59} if model == "mlp" else {}))
    go = stack(trial, size, compiled=True)
    go(), go()
    speed = rate(go, seconds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{1e6 / speed:.0f},{memory:.0f},{best_size(trial, gpu=False)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--one", nargs=3)
    arguments = parser.parse_args()
    if arguments.one:
        model, width, size = arguments.one
        return one(model, int(width), int(size), arguments.seconds)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "stack_size.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "width", "K", "us per trial-step", "peak MiB", "chosen K"])
        for model, width in CASES:
            for size in SIZES:
                command = [sys.executable, __file__, "--one", model, str(width), str(size)]
                command += ["--seconds", str(arguments.seconds)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row = [model, width, size, *done.stdout.strip().splitlines()[-1].split(",")]
                writer.writerow(row)
                print(*row, flush=True)


if __name__ == "__main__":
    main()
