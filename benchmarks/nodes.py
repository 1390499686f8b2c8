"""One Ray node of one core against two, and two of which one is killed half-way, on the same job.

    python benchmarks/nodes.py [search_spaces/wd_width.py] [--set FIELD=VALUE ...]

Starts a Ray head without cores, the nodes and an MLflow server on this machine, and runs the sweep
three times from nothing: on one node, on two, and on two of which one is killed with kill -9 when
half of the trials are recorded; a new node joins at once, as a cluster's manager would see to it.
Prints and writes (benchmarks/results/nodes.csv) the wall seconds of each, start-up included.
Wants a quiet machine of two cores or more; a job of 3 minutes takes 10.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "cluster")]

from cluster import Cluster, Service, until  # noqa: E402 - the tests' own cluster

RESULTS = Path(__file__).parent / "results" / "nodes.csv"
TRIED = (("one node", 1, False), ("two nodes", 2, False), ("two nodes, one killed", 2, True))


def measure(cluster: Cluster, space: Path, name: str, options: list[str], strike: bool) -> tuple[int, float]:
    """Trials recorded and wall seconds of one sweep."""
    start = time.perf_counter()
    driver = cluster.sweep(space.read_text(), name, *options)
    if strike:
        halfway(cluster, driver, name)
        cluster.nodes.pop(0).kill()
        cluster.start_worker()
    if driver.wait(7_200) != 0:
        raise SystemExit(driver.output())
    return len(cluster.finished(name)), time.perf_counter() - start


def halfway(cluster: Cluster, driver: Service, name: str) -> None:
    until(lambda: "trials to run" in driver.output(), 300, "the start", driver)
    trials = int(driver.output().split(" trials to run")[0].split()[-1])
    until(lambda: len(cluster.finished(name)) >= trials / 2, 7_200, "half of the trials", driver)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", type=Path, nargs="?", default=ROOT / "search_spaces" / "wd_width.py")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    options = [word for said in arguments.set for word in ("--set", said)]
    os.environ["PHASEMAP_PRODUCT"] = "openblas"  # one for all three: the quickest is chosen anew each time
    rows = []
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        cluster = Cluster(Path(made))
        try:
            cluster.start_all()
            for name, nodes, strike in TRIED:
                while len(cluster.nodes) < nodes:
                    cluster.start_worker()
                trials, seconds = measure(cluster, arguments.space, f"nodes{len(rows)}", options, strike)
                rows.append((name, trials, f"{seconds:.1f}", f"{float(rows[0][2]) / seconds if rows else 1:.2f}"))
                print(*rows[-1], flush=True)
        finally:
            cluster.stop()
    with RESULTS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("cluster", "trials", "seconds", "x one node"), *rows])


if __name__ == "__main__":
    main()
