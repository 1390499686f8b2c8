"""One boundary-seeking sweep through Ray, end to end, against the grid of wd_width.py and the published loop.

    python benchmarks/boundary_live.py            # runs both sweeps, measures the loop, prints the table
    python benchmarks/boundary_live.py --report   # prints the table of the last run again

Maps are judged by the dense reference (benchmarks/data/dense_wd_width.csv): error is the share of its cells, of the
widths both sweeps cover, drawn in another phase than the likeliest one. Minutes run from the sweep's first trial to
the end of the last trial counted. Core time is that of the command and all its processes: driver, Ray, compiling and
training. The published loop (loops.py: one configuration at a time, DataLoader, torch.optim.AdamW) is measured by its
rate, in seconds of one core per step at each width, and multiplied by the 2,000 steps of the 16 x 16 x 3 = 768 trials
of the usual grid; it ends no trial early.

Writes benchmarks/results/boundary_live.csv (a row per trial) and boundary_live_cost.csv.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

# ruff: noqa: E402 - threads are counted when numpy and torch are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent

import boundary as boundary_benchmark
import loops
import numpy as np
import pandas as pd
import psutil

from phasemap.maps.phase_map import PhaseMap
from phasemap.plan.space_file import load

SPACES = HERE.parent / "search_spaces"
BOUNDARY, MAIN = "boundary_wd_width", "wd_width"
DENSE = HERE / "data" / "dense_wd_width.csv"
TRIALS, COST = HERE / "results" / "boundary_live.csv", HERE / "results" / "boundary_live_cost.csv"
GRID = 16 * 16 * 3
COLUMNS = ["weight_decay", "width", "seed", "phase", "grok_step", "steps_run", "minutes"]


def run(name: str, arguments: list[str]) -> float:
    """Core seconds of the command that runs a sweep: its own and those of all its descendants."""
    command = [sys.executable, "-m", "phasemap.sweep", str(SPACES / f"{name}.py"), "--no-figures", *arguments]
    process = psutil.Popen(command)
    spent: dict[tuple[int, float], float] = {}
    while process.poll() is None:
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
                spent[one.pid, one.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.5)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return sum(spent.values())


def recorded(name: str, tracking_uri: str | None) -> pd.DataFrame:
    """A row per trial, in the order asked for, with the minute at which it ended."""
    from mlflow import MlflowClient

    from phasemap.record.reader import read

    sweep = read(name, tracking_uri)
    client = MlflowClient(tracking_uri=sweep.tracking_uri)
    runs = client.search_runs([sweep.experiment_id], "tags.`phasemap.kind` = 'trial'", max_results=1000)
    start = min(run.info.start_time for run in runs)
    minutes = {run.info.run_id: (run.info.end_time - start) / 60_000 for run in runs if run.info.end_time}
    table = sweep.finished.assign(minutes=sweep.finished.run_id.map(minutes).round(2))
    return table.sort_values("seed", kind="stable")[COLUMNS]  # a sampler numbers its trials by their seeds


def seconds_per_step(width: int, steps: int = 100) -> float:
    """Of one core, by the published loop."""
    space = load(SPACES / f"{BOUNDARY}.py")
    trial = space.override(["sampler=grid", "weight_decay=1", f"width={width}"]).trials()[0]
    loop = loops.published(trial)
    list(islice(loop, 20))
    start = time.process_time()
    list(islice(loop, steps))
    return (time.process_time() - start) / steps


def judged(table: pd.DataFrame) -> tuple[float, float]:
    """Error of a sweep's trials read with the map, and of their cells drawn by majority."""
    truth = boundary_benchmark.dense(DENSE)
    names = [p for p in boundary_benchmark.PHASES if p in set(pd.read_csv(DENSE).phase)]
    rows = truth.axes.values(truth.lattice)
    covered = np.array([row["width"] >= 16 for row in rows])
    lattice, likeliest = truth.lattice[covered], truth.likeliest[covered]
    points = truth.axes.unit(table.to_dict("records"))
    mapped = PhaseMap.fit(points, table.phase.tolist(), truth.axes, boundary_benchmark.PHASES).phase(lattice)
    cells = table.groupby(["weight_decay", "width"]).phase.agg(lambda phases: phases.mode()[0]).reset_index()
    nearest = ((lattice[:, None] - truth.axes.unit(cells.to_dict("records"))) ** 2).sum(2).argmin(1)
    wanted = np.array(names)[likeliest]
    return float((np.array(mapped) != wanted).mean()), float((cells.phase.to_numpy()[nearest] != wanted).mean())


def report() -> None:
    """Prints both tables."""
    trials, cost = pd.read_csv(TRIALS), pd.read_csv(COST).set_index("what").core_seconds
    main, boundary = (trials[trials.sweep == name] for name in (MAIN, BOUNDARY))
    if DENSE.exists():
        read, drawn = judged(main)
        lines = [
            ("main job, cells drawn", len(main), main, drawn),
            ("main job, read with the map", len(main), main, read),
        ]
        for n in range(24, len(boundary) + 1, 8):
            lines.append((BOUNDARY, n, boundary[:n], judged(boundary[:n])[0]))
        rows = [
            {"map": what, "trials": n, "steps": part.steps_run.sum(), "minutes": part.minutes.max(), "error": error}
            for what, n, part, error in lines
        ]
        print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    loop = cost[cost.index.str.startswith("published loop")].mean()
    grid = loop * GRID * main.steps_run.max()
    print(
        f"published loop: {1e3 * loop:.2f} ms a step, mean over widths; grid of {GRID} trials: {grid:,.0f} core seconds"
    )
    print(
        f"{BOUNDARY}: {cost[BOUNDARY]:,.0f} core seconds for {len(boundary)} trials, {grid / cost[BOUNDARY]:.1f} x less"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="run nothing, print the last results")
    parser.add_argument("--tracking-uri", help="where the sweeps are recorded; what is there is not run again")
    settings = parser.parse_args()
    if not settings.report:
        options = ["--tracking-uri", settings.tracking_uri] if settings.tracking_uri else []
        rows = [{"what": BOUNDARY, "core_seconds": run(BOUNDARY, options)}]
        run(MAIN, options)
        tables = [recorded(name, settings.tracking_uri).assign(sweep=name) for name in (MAIN, BOUNDARY)]
        pd.concat(tables).to_csv(TRIALS, index=False)
        for width in load(SPACES / f"{BOUNDARY}.py").grid["width"]:
            rows.append({"what": f"published loop, a step at width {width}", "core_seconds": seconds_per_step(width)})
        pd.DataFrame(rows).round(6).to_csv(COST, index=False)
    report()


if __name__ == "__main__":
    main()
