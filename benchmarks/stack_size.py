"""Core time per trial-step and memory against the number of trials in a stack, K = 1 ... 64; and two threads.

    python benchmarks/stack_size.py [--seconds 2]

Prints a table and writes benchmarks/results/stack_size.csv. ``phasemap.plan.stack.best_size`` follows it where
nothing is measured, ``phasemap.plan.stack.memory`` must lie above it, and the rows of two threads, whose core time
counts both, say why a stack has one.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from speed import stack
from turns import RESULTS, rate

from phasemap.plan.stack import best_size
from phasemap.plan.stack import memory as stack_memory
from phasemap.plan.trial import make_trial

CASES = (("mlp", 32), ("mlp", 128), ("mlp", 512), ("transformer", 32), ("transformer", 128))
SIZES = (1, 2, 4, 8, 16, 32, 64)


def one(model: str, width: int, size: int, threads: int, seconds: float) -> None:
    """Measures one stack; a process of its own, so that peak memory is its own."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when the stack begins
    shape = {"model": model, "width": width, "steps": 1_000_000, "data_fraction": 0.4}
    trial = make_trial(shape | ({"depth": 1, "modulus": 59} if model == "mlp" else {}))
    go = stack(trial, size, compiled=True)
    go(), go()
    speed = rate(go, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    expected = stack_memory(trial) * size / 2**20
    print(f"{1e6 / speed:.0f},{peak:.0f},{expected:.0f},{best_size(trial, gpu=False)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--one", nargs=4)
    arguments = parser.parse_args()
    if arguments.one:
        model, width, size, threads = arguments.one
        return one(model, int(width), int(size), int(threads), arguments.seconds)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "stack_size.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = ("us of a core per trial-step", "peak MiB", "MiB by the formula", "K by the formula")
        writer.writerow(["model", "width", "K", "threads", *names])
        for model, width in CASES:
            for size, threads in (*((size, 1) for size in SIZES), (1, 2)):
                command = [sys.executable, __file__, "--one", model, str(width), str(size), str(threads)]
                command += ["--seconds", str(arguments.seconds)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row = [model, width, size, threads, *done.stdout.strip().splitlines()[-1].split(",")]
                writer.writerow(row)
                print(*row, flush=True)


if __name__ == "__main__":
    main()
