"""What the driver and the record cost per trial, whether that stays flat, and that no metric is lost.

    python benchmarks/driver.py [--trials 100 1000 10000] [--server]

Runs sweeps of trials of 2 steps in a fresh folder, through Ray and the default sqlite file, or with
``--server`` through an MLflow server on one. Prints and writes (benchmarks/results/driver.csv) wall
milliseconds per trial without the start-up, those of the first and the last tenth of the trials by
the times at which they were recorded, and processor milliseconds of the driver. A sweep whose
record is not whole is an error. Wants a quiet machine.
"""

from __future__ import annotations

import argparse
import csv
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

from phasemap.record.client import connect, search

RESULTS = Path(__file__).parent / "results" / "driver.csv"
HEADER = ("store", "trials", "wall ms per trial", "of the first tenth", "of the last tenth", "driver cpu ms per trial")
SPACE = """
from phasemap import Space
space = Space(seed=range({trials}), task="modular_addition", modulus=11, data_fraction=0.5, model="mlp", width=8,
              depth=1, steps=2, evaluate_every=2)
"""


@contextmanager
def store(folder: Path, served: bool) -> Iterator[str]:
    """The address of an empty store."""
    file = f"sqlite:///{folder / 'mlflow.db'}"
    if not served:
        yield file
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = ["-m", "mlflow", "server", "--backend-store-uri", file, "--port", port, "--workers", "2"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, *words], cwd=folder, stdout=log, stderr=log)
    try:
        while not _answers(f"http://127.0.0.1:{port}/health"):
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    with suppress(OSError):
        return urllib.request.urlopen(url, timeout=2).status == 200
    return False


def run(trials: int, served: bool) -> tuple[float, float, list[int]]:
    """Wall and driver processor seconds of a whole sweep, and when each trial was recorded (ms)."""
    with tempfile.TemporaryDirectory() as made, store(Path(made), served) as uri:
        (Path(made) / "space.py").write_text(SPACE.format(trials=trials))
        command = [sys.executable, "-m", "phasemap.sweep", "space.py", "--no-figures", "--tracking-uri", uri]
        start, before = time.perf_counter(), os.times()
        subprocess.run(command, cwd=made, check=True, capture_output=True)
        wall, after = time.perf_counter() - start, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return wall, cpu, _recorded(uri, trials)


def _recorded(uri: str, trials: int) -> list[int]:
    client = connect(uri)
    experiment = client.get_experiment_by_name("space")
    assert experiment
    runs = search(client, experiment.experiment_id, "tags.`phasemap.kind` = 'trial'")
    seeds = [int(one.data.params["seed"]) for one in runs if one.info.status == "FINISHED"]
    kinds = {frozenset(one.data.metrics) for one in runs}
    if sorted(seeds) != list(range(trials)) or len(kinds) != 1:
        raise SystemExit(f"{trials} trials were run, {len(seeds)} are recorded, with {len(kinds)} sets of metrics")
    return sorted(one.info.end_time for one in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--server", action="store_true", help="record through an MLflow server")
    arguments = parser.parse_args()
    wall0, cpu0, _ = run(1, arguments.server)
    print(f"start-up: {wall0:.1f} s", flush=True)
    kept: list[tuple[str, ...]] = [HEADER]
    name = "server" if arguments.server else "sqlite"
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            kept += [tuple(row) for row in list(csv.reader(file))[1:] if row[0] != name]
    for trials in arguments.trials:
        wall, cpu, times = run(trials, arguments.server)
        tenth = max(1, trials // 10)
        spans = times[tenth] - times[0], times[-1] - times[-1 - tenth]
        costs = 1e3 * (wall - wall0) / trials, *(span / tenth for span in spans), 1e3 * (cpu - cpu0) / trials
        kept.append((name, str(trials), *(f"{cost:.1f}" for cost in costs)))
        print(*kept[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(kept)


if __name__ == "__main__":
    main()
