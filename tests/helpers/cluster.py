"""A Ray cluster, a tracking server and its database, each in processes of its own, to be killed.

They are joined by a token, as on many machines; MLflow's server keeps its runs in PostgreSQL where
Debian's is installed, else in sqlite. Only what was started here is ever killed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from processes import descendants, kill, trainers

ROOT = Path(__file__).parents[2]
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
                kill(pid)
            time.sleep(0.2)
        self.process.wait(timeout=10)

    def pids(self) -> list[int]:
        """Those that bear the mark, and those below them: Ray writes titles over the marks of its workers."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return [*found, *(pid for pid in descendants(found) if pid not in found)]

    def wait(self, seconds: float) -> int:
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{' '.join(self.command)} took more than {seconds} s:\n{self.output()[-6_000:]}"
            ) from None

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Cluster:
    """Everything a sweep meets: a database, a tracking server, a Ray head without CPUs, worker nodes.

    Each may be killed and started again: ports, data and token stay.
    """

    folder: Path
    services: list[Service] = field(default_factory=list)
    nodes: list[Service] = field(default_factory=list)
    short: list[Path] = field(default_factory=list)
    database: Service | None = None

    def __post_init__(self) -> None:
        self.ray_port, self.mlflow_port, self.sql_port = free_port(), free_port(), free_port()
        self.address = f"127.0.0.1:{self.ray_port}"
        self.uri = f"http://127.0.0.1:{self.mlflow_port}"
        said = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
        said |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        said |= {
            "OMP_NUM_THREADS": "1",
            "RAY_DISABLE_MEMORY_MONITOR": "1",
            "RAY_health_check_period_ms": "1000",  # a node that was killed is missed in 3 s, not in 15
            "RAY_health_check_failure_threshold": "3",
            "RAY_worker_niceness": "0",
            "PYTHONPATH": str(ROOT),
        }
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "PYTEST_"))
        }
        self.environment = kept | said
        self.store = self.make_database()

    def start_all(self, workers: int = 0) -> None:
        self.start_database()
        self.start_server()
        self.start_head()
        for _ in range(workers):
            self.start_worker()

    def start(self, *command: str, user: str | None = None, folder: Path | None = None) -> Service:
        service = Service(list(command), self.environment, folder or self.folder, user)
        self.services.append(service)
        return service

    def start_head(self) -> None:
        options = ("--port", str(self.ray_port), "--temp-dir", str(self.short_folder()), "--include-dashboard", "false")
        self.head = self.start_node("--head", *options, "--num-cpus", "0")

    def start_worker(self) -> Service:
        self.nodes.append(self.start_node("--address", self.address, "--num-cpus", "1"))
        return self.nodes[-1]

    def start_node(self, *options: str) -> Service:
        """In a folder of its own: what stands beside the space file is not beside a node."""
        place = Path(tempfile.mkdtemp(prefix="node-", dir=self.folder))
        ray = str(Path(sys.executable).parent / "ray")
        node = self.start(ray, "start", *options, "--block", "--object-store-memory", str(100 * 2**20), folder=place)
        until(lambda: "Ray runtime started" in node.output(), 120, "Ray node", node)
        return node

    def start_server(self) -> None:
        self.server = self.start(
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store, "--port",
            str(self.mlflow_port), "--workers", "2", "--artifacts-destination", str(self.folder / "artifacts"),
        )  # fmt: skip
        until(lambda: answers(self.uri + "/health"), 400, "MLflow server", self.server)

    def make_database(self) -> str:
        """The store's address: a PostgreSQL of this test's own, or a file where none is installed."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            return f"sqlite:///{self.folder / 'server.db'}"
        self.postgres, self.data = found[-1], self.short_folder() / "sql"
        self.user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        if self.user:
            shutil.chown(self.data.parent, self.user)
        name = self.user or pwd.getpwuid(os.getuid()).pw_name
        initdb = [str(self.postgres.with_name("initdb")), "-D", str(self.data), "-A", "trust", "-E", "UTF8"]
        subprocess.run(initdb, check=True, capture_output=True, user=self.user, cwd="/")
        return f"postgresql+psycopg2://{name}@127.0.0.1:{self.sql_port}/postgres"

    def start_database(self) -> None:
        if self.store.startswith("sqlite"):
            return
        data, port = str(self.data), str(self.sql_port)
        command = (str(self.postgres), "-D", data, "-p", port, "-h", "127.0.0.1", "-k", data)
        self.database = self.start(*command, user=self.user)
        ready = [str(self.postgres.with_name("pg_isready")), "-q", "-h", "127.0.0.1", "-p", port]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, 60, "PostgreSQL", self.database)

    def short_folder(self) -> Path:
        """A folder with a short name: Ray and PostgreSQL put sockets there, whose paths may have 107 bytes."""
        self.short.append(Path(tempfile.mkdtemp(prefix="pm-")))
        return self.short[-1]

    def sweep(self, space: str, name: str, *options: str, local: bool = False) -> Service:
        """The driver of a sweep of this space, under this name; local: in one process, without the cluster."""
        where = ("--local",) if local else ("--address", self.address)
        file = self.folder / "space.py"
        file.write_text(space)
        return self.start(
            sys.executable, "-m", "phasemap.sweep", str(file), "--name", name, *where,
            "--tracking-uri", self.uri, "--storage", str(self.folder / "checkpoints"), "--no-figures",
            *options,
        )  # fmt: skip

    def trainers(self) -> list[int]:
        """Pids of the actors that train stacks."""
        return trainers(pid for node in self.nodes for pid in node.pids())

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
        return int(found.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=2).status == 200)
    except OSError:
        return False


def until(holds: Callable[[], bool], seconds: float, what: str, service: Service) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if service.process.poll() is not None or time.monotonic() > end:
            raise AssertionError(
                f"{what} not reached in {seconds} s, exit {service.process.poll()}:\n{service.output()[-6_000:]}"
            )
        time.sleep(0.3)
