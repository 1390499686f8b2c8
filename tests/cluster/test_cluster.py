"""A sweep on a real Ray cluster with a real tracking server, while a node and the driver are killed.

Head and workers are processes of their own, joined by a token, as on many machines; MLflow's server
keeps its runs in PostgreSQL where Debian's is installed, else in sqlite. A storm must leave exactly
what a calm leaves: every trial once, and no number changed.

    python -m pytest tests/cluster -m long
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from pandas.testing import assert_frame_equal

from analysis.table import load_curves, read
from phasemap.trial import FIELDS, Outcome

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SPACE = """
from phasemap import Space
space = Space(
    weight_decay=[0.1, 0.5, 1.0, 3.0], seed=range(6),
    task="modular_addition", modulus=31, data_fraction=0.5, model="mlp", width=64, depth=1,
    learning_rate=1e-2, beta2=0.98, batch_size=256, steps=3_000, evaluate_every=100, delay_limit=500,
)
"""
TRIALS = 24
MARK = "PHASEMAP_TEST_MARK"  # in the environment of every process of a service: all can be found and killed


@dataclass
class Service:
    """A program and all it starts, wherever those have moved."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    user: str | None = None
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self.log = self.folder / f"{Path(self.command[0]).name}-{self.mark}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command, env={**self.environment, MARK: self.mark}, cwd=self.folder,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, user=self.user,
            )  # fmt: skip

    def kill(self) -> None:
        """kill -9 of every process of the service, twice, for one may be starting another."""
        for _ in range(2):
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        self.process.wait(timeout=10)

    def pids(self) -> list[int]:
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def wait(self, seconds: float) -> int:
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{' '.join(self.command)} took more than {seconds} s:\n{self.output()}") from None

    def output(self) -> str:
        return self.log.read_text(errors="replace")[-6_000:]


@dataclass
class Cluster:
    """Everything a sweep meets: a Ray head, workers, a tracking server, its database."""

    folder: Path
    services: list[Service] = field(default_factory=list)
    short: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ray_port, self.mlflow_port, self.sql_port = free_port(), free_port(), free_port()
        self.address = f"127.0.0.1:{self.ray_port}"
        self.uri = f"http://127.0.0.1:{self.mlflow_port}"
        said = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
        said |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        said |= {"OMP_NUM_THREADS": "1", "RAY_DISABLE_MEMORY_MONITOR": "1", "PYTHONPATH": str(ROOT)}
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "PYTEST_"))
        }
        self.environment = kept | said

    def start_all(self) -> None:
        """The tracking server and a head without CPUs; workers are for the test to start."""
        self.start_mlflow()
        head = (
            "--head",
            "--port",
            str(self.ray_port),
            "--temp-dir",
            self.short_folder(),
            "--include-dashboard",
            "false",
        )
        self.start_node(*head, "--num-cpus", "0")

    def start(self, *command: str, user: str | None = None) -> Service:
        service = Service(list(command), self.environment, self.folder, user)
        self.services.append(service)
        return service

    def start_node(self, *options: str) -> Service:
        ray = str(Path(sys.executable).parent / "ray")
        node = self.start(ray, "start", *options, "--block", "--object-store-memory", str(100 * 2**20))
        until(lambda: "Ray runtime started" in node.output(), 60, "Ray node", node)
        return node

    def start_worker(self) -> Service:
        return self.start_node("--address", self.address, "--num-cpus", "1")

    def start_mlflow(self) -> None:
        store = self.start_postgres() or f"sqlite:///{self.folder / 'server.db'}"
        self.start(
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(self.mlflow_port),
            "--workers", "2", "--artifacts-destination", str(self.folder / "artifacts"),
        )  # fmt: skip
        until(lambda: answers(self.uri + "/health"), 120, "MLflow server", self.services[-1])

    def start_postgres(self) -> str | None:
        """A database of this test's own, in its own folder; None where PostgreSQL is not installed."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            return None
        user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        data = Path(self.short_folder()) / "sql"
        if user:
            shutil.chown(data.parent, user)
        name = user or pwd.getpwuid(os.getuid()).pw_name
        initdb = [str(found[-1].with_name("initdb")), "-D", str(data), "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd="/")
        self.start(
            str(found[-1]), "-D", str(data), "-p", str(self.sql_port), "-h", "127.0.0.1", "-k", str(data), user=user
        )
        until(lambda: listens(self.sql_port), 60, "PostgreSQL", self.services[-1])
        return f"postgresql+psycopg2://{name}@127.0.0.1:{self.sql_port}/postgres"

    def short_folder(self) -> str:
        """A folder with a short name: Ray and PostgreSQL put sockets there, whose paths may have 107 bytes."""
        self.short.append(tempfile.mkdtemp(prefix="pm-"))
        return self.short[-1]

    def sweep(self, name: str) -> Service:
        space = self.folder / "space.py"
        space.write_text(SPACE)
        return self.start(
            sys.executable, "-m", "phasemap.sweep", str(space), "--name", name, "--address", self.address,
            "--tracking-uri", self.uri, "--storage", str(self.folder / "checkpoints"), "--stack-size", "2",
            "--checkpoint-every", "1", "--no-figures",
        )  # fmt: skip

    def finished(self, name: str) -> list[str]:
        """Trial ids of the finished runs, one for each run."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return []
        wanted = "tags.`phasemap.kind` = 'trial' and attributes.status = 'FINISHED'"
        return [run.data.tags["phasemap.trial"] for run in client.search_runs([experiment.experiment_id], wanted)]

    def stop(self) -> None:
        for service in reversed(self.services):
            service.kill()
        for made in self.short:
            shutil.rmtree(made, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


def until(holds: Callable[[], bool], seconds: float, what: str, service: Service) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if service.process.poll() is not None or time.monotonic() > end:
            raise AssertionError(
                f"{what} not reached in {seconds} s, exit {service.process.poll()}:\n{service.output()}"
            )
        time.sleep(0.3)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    tmp_path.chmod(0o755)
    made = Cluster(tmp_path)
    try:  # what has started is stopped even if the rest does not start
        made.start_all()
        yield made
    finally:
        made.stop()


def record(cluster: Cluster, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Configurations and outcomes by trial, and all curves; without what may differ."""
    trials = read(name, cluster.uri).trials
    curves = load_curves(trials.run_id, cluster.uri).merge(trials[["run_id", "trial"]])
    outcomes = [name for name in Outcome.__dataclass_fields__ if name != "train_seconds"]
    table = trials.set_index("trial")[["status", *FIELDS, *outcomes]].sort_index()
    points = curves.drop(columns="run_id").sort_values(["trial", "key", "step"]).reset_index(drop=True)
    return table, points


def test_killed_node_and_driver_leave_the_record_of_a_calm_sweep(cluster: Cluster) -> None:
    first, _second = cluster.start_worker(), cluster.start_worker()
    calm = cluster.sweep("calm")
    assert calm.wait(600) == 0, calm.output()

    storm = cluster.sweep("storm")
    until(lambda: len(cluster.finished("storm")) >= TRIALS // 4, 400, "a quarter of the trials", storm)
    first.kill()
    until(lambda: len(cluster.finished("storm")) >= TRIALS // 2, 400, "half of the trials after a node died", storm)
    storm.kill()
    kept = cluster.finished("storm")
    assert len(kept) < TRIALS, "the driver was killed too late to show anything"
    cluster.start_worker()
    again = cluster.sweep("storm")
    assert again.wait(600) == 0, again.output()
    assert f"{len(kept)} are recorded already" in again.output()

    assert set(Counter(cluster.finished("storm")).values()) == {1}
    undisturbed, disturbed = record(cluster, "calm"), record(cluster, "storm")
    assert len(undisturbed[0]) == TRIALS
    assert_frame_equal(disturbed[0], undisturbed[0], check_exact=True)
    assert_frame_equal(disturbed[1], undisturbed[1], check_exact=True)
    assert not list((cluster.folder / "checkpoints").glob("*")), "checkpoints of recorded trials are left"

    nothing = cluster.sweep("storm")
    assert nothing.wait(60) == 0
    assert "nothing to do" in nothing.output()
