"""The main job (the README's sweep) against the same trials run by the published loop, one after the other.

    python benchmarks/main_job.py [--seconds 10]

Runs ``python -m phasemap.sweep search_spaces/wd_width.py`` in a fresh folder, start-up, evaluations, probes, record and
all, and takes its wall time; then times the published loop for some seconds at each width, with an evaluation of
all examples at the sweep's cadence, and counts how long all trials would take it on as many cores. Writes
benchmarks/results/main_job.csv. The loop's time is extrapolated from its rate; everything else is measured.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import one_core  # noqa: F401

# isort: split
import loops
import torch
from speed import loop
from turns import rate

from phasemap.plan.space_file import load

ROOT = Path(__file__).parent.parent
SPACE = ROOT / "search_spaces" / "wd_width.py"


def sweep() -> float:
    """Wall seconds of the command, figures left out."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "phasemap.sweep", str(SPACE), "--no-figures"]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cores, trials = os.cpu_count() or 1, load(SPACE).trials()
    ours = sweep()
    count = Counter(trial.width for trial in trials)
    one = {trial.width: trial for trial in trials}
    rows, whole = [], 0.0
    for width, trial in sorted(one.items()):
        each = rate(loop(loops.published(trial, evaluating=True)), arguments.seconds)
        whole += count[width] * trial.steps / each
        rows.append([f"published loop, width {width}", count[width], f"{each:.0f} steps/s", ""])
    rows.append([f"published loop, all, {cores} cores", len(trials), f"{whole / cores:.0f} s", "1"])
    rows.append(["main job, whole command", len(trials), f"{ours:.0f} s", f"{whole / cores / ours:.1f}"])
    with (ROOT / "benchmarks" / "results" / "main_job.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["what", "trials", "measured", "times faster"], *rows])
    for row in rows:
        print("  ".join(f"{value!s:<36}" for value in row))


if __name__ == "__main__":
    main()
