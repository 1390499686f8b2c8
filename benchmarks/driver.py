"""What the driver costs per trial, and how busy a sweep keeps the cores.

    python benchmarks/driver.py [--trials 100 1000 10000]

Runs sweeps of trials of 2 steps through Ray and sqlite in a fresh folder, and prints wall and driver
processor milliseconds per trial after start-up. Writes benchmarks/results/driver.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SPACE = """
from phasemap import Space
space = Space(seed=range({trials}), task="modular_addition", modulus=11, data_fraction=0.5, model="mlp", width=8,
              depth=1, steps=2, evaluate_every=2)
"""


def run(trials: int) -> tuple[float, float]:
    """Wall and processor seconds of a whole sweep's driver."""
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.py"
        space.write_text(SPACE.format(trials=trials))
        command = [sys.executable, "-m", "phasemap.sweep", str(space), "--no-figures"]
        start, before = time.perf_counter(), os.times()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        after = os.times()
        return time.perf_counter() - start, after.children_user - before.children_user


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1_000, 10_000])
    arguments = parser.parse_args()
    wall0, cpu0 = run(1)
    print(f"start-up: {wall0:.1f} s")
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "driver.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trials", "wall ms per trial", "cpu ms per trial (all processes)"])
        for trials in arguments.trials:
            wall, cpu = run(trials)
            row = [trials, round(1e3 * (wall - wall0) / trials, 1), round(1e3 * (cpu - cpu0) / trials, 1)]
            writer.writerow(row)
            print(*row, flush=True)


if __name__ == "__main__":
    main()
