"""The whole main job against the same trials run by the published loop, one after the other.

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

# ruff: noqa: E402 - threads are counted when numpy and torch are imported
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import loops
import torch

from phasemap import task as tasks
from phasemap.space import load
from phasemap.trial import Trial

ROOT = Path(__file__).parent.parent
SPACE = ROOT / "search_spaces" / "wd_width.py"


def sweep() -> float:
    """Wall seconds of the command, figures left out."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "phasemap.sweep", str(SPACE), "--no-figures"]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return time.perf_counter() - start


def loop_seconds_per_step(trial: Trial, seconds: float) -> float:
    """The published loop's time for a step, its share of the evaluations included."""
    model, optimizer, tokens, labels = loops.network(trial)
    task = tasks.load(trial.task, trial.modulus, trial.context)
    everything = torch.from_numpy(task.tokens)
    data = torch.utils.data.TensorDataset(tokens, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=trial.batch_size, shuffle=True)
    steps, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        for batch in loader:
            loops.step(model, optimizer, *batch)
            steps += 1
            if steps % trial.evaluate_every == 0:
                with torch.no_grad():
                    model(everything)
    return (time.process_time() - start) / steps


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
        each = loop_seconds_per_step(trial, arguments.seconds)
        whole += count[width] * trial.steps * each
        rows.append([f"published loop, width {width}", count[width], f"{1 / each:.0f} steps/s", ""])
    rows.append([f"published loop, all, {cores} cores", len(trials), f"{whole / cores:.0f} s", "1"])
    rows.append(["main job, whole command", len(trials), f"{ours:.0f} s", f"{whole / cores / ours:.1f}"])
    with (ROOT / "benchmarks" / "results" / "main_job.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["what", "trials", "measured", "times faster"], *rows])
    for row in rows:
        print("  ".join(f"{value!s:<36}" for value in row))


if __name__ == "__main__":
    main()
