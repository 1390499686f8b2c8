"""One Ray node against two, and two of which one is killed half-way, on the same job.

    python benchmarks/nodes.py [search_spaces/wd_width.py] [--core 0.5] [--set FIELD=VALUE ...]

Starts a Ray head without cores, the nodes and an MLflow server on this machine, and runs the sweep
three times from nothing: on one node, on two, and on two of which one is killed with kill -9 when
half of the trials are recorded; a new node joins at once, as a cluster's manager would see to it. A
fifth of the job is run before, so that each finds the machine's compiled steps. Prints and writes
(benchmarks/results/nodes.csv) the wall seconds of each, start-up included.

A node has one core, and where there are only two, Ray's head, the driver, the tracking server and its
database run on the nodes' cores. ``--core 0.5`` lets a node use half a core, and so leaves one of two
cores to them (as root, by Linux's control groups v1). Wants a quiet machine of two cores or more; a
job of 3 minutes takes 10, twice that with half cores.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from cluster import Cluster, Service, until  # noqa: E402 - the tests' own cluster

RESULTS = Path(__file__).parent / "results" / "nodes.csv"
HEADER = ["cores per node", "cluster", "trials", "seconds", "x one node"]
TRIED = (("one node", 1, False), ("two nodes", 2, False), ("two nodes, one killed", 2, True))
GROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD = 20_000  # microseconds


def measure(cluster: Cluster, space: Path, name: str, options: list[str], core: float, strike: bool) -> float:
    """Wall seconds of one sweep."""
    start = time.perf_counter()
    driver = cluster.sweep(space.read_text(), name, *options)
    if strike:
        halfway(cluster, driver, name)
        cluster.nodes.pop(0).kill()
        add_node(cluster, core)
    if driver.wait(7_200) != 0:
        raise SystemExit(driver.output())
    return time.perf_counter() - start


def halfway(cluster: Cluster, driver: Service, name: str) -> None:
    until(lambda: "trials to run" in driver.output(), 300, "the start", driver)
    trials = int(driver.output().split(" trials to run")[0].split()[-1])
    until(lambda: len(cluster.finished(name)) >= trials / 2, 7_200, "half of the trials", driver)


def add_node(cluster: Cluster, core: float) -> None:
    """Starts a node; all its processes together may use so much of a core."""
    node = cluster.start_worker()
    if core < 1:
        group = GROUPS / node.mark
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD * core)))
        for pid in (*node.pids(), *node.pids()):  # twice, for one may have been starting another
            with suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", type=Path, nargs="?", default=ROOT / "search_spaces" / "wd_width.py")
    parser.add_argument("--core", type=float, default=1.0, help="share of a core that a node may use")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    options = [word for setting in arguments.set for word in ("--set", setting)]
    os.environ["PHASEMAP_PRODUCT"] = "openblas"  # one for all three: the quickest is chosen again each time
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        cluster = Cluster(Path(made))
        try:
            cluster.start_all()
            for name, nodes, strike in TRIED:
                while len(cluster.nodes) < nodes:
                    add_node(cluster, arguments.core)
                if not rows:
                    measure(cluster, arguments.space, "before", ["--set", "seed=0", *options], arguments.core, False)
                seconds = measure(cluster, arguments.space, f"nodes{len(rows)}", options, arguments.core, strike)
                trials = len(cluster.finished(f"nodes{len(rows)}"))
                times = float(rows[0][3]) / seconds if rows else 1.0
                rows.append([f"{arguments.core:g}", name, str(trials), f"{seconds:.1f}", f"{times:.2f}"])
                print(*rows[-1], flush=True)
        finally:
            cluster.stop()
            for service in cluster.services:
                with suppress(OSError):  # most have none
                    (GROUPS / service.mark).rmdir()
    write(rows)


def write(rows: list[list[str]]) -> None:
    """Beside those of other shares of a core."""
    with RESULTS.open(newline="") as file:
        kept = [row for row in csv.reader(file) if row[0] not in (rows[0][0], HEADER[0])]
    with RESULTS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [HEADER, *sorted(kept + rows, reverse=True, key=lambda r: r[0])]
        )


if __name__ == "__main__":
    main()
