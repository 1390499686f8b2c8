"""A sweep on a real Ray cluster with a real tracking server on a real database, and all of them killed.

A storm must leave exactly what a calm leaves: every trial once, and no number changed. The network is the user's own,
from the space file and a module beside it, which no node has; the calm is one process without Ray.

    PHASEMAP_KILLS=50 python -m pytest tests/cluster -m long -s
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from cluster import Cluster, Service, until
from pandas.testing import assert_frame_equal
from processes import kill

from phasemap.plan.outcome import DEFINITIONS
from phasemap.plan.trial import FIELDS
from phasemap.record.claim import DEAD_AFTER
from phasemap.record.reader import load_curves, read

pytestmark = pytest.mark.long

OWN = Path(__file__).parents[1] / "own" / "layers_of_mine.py"  # a module beside the space file
SPACE = """
import torch
from layers_of_mine import Hidden

from phasemap import Space, Task

class Net(torch.nn.Module):
    def __init__(self, task: Task, width: int = 64):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.body, self.head = Hidden(width * task.tokens, width), torch.nn.Linear(width, task.classes)

    def forward(self, tokens):
        return self.head(self.body(self.table(tokens).flatten(1)))

space = Space(
    weight_decay=[0.1, 0.5, 1.0, 3.0], seed=range(4),
    task="modular_addition", modulus=31, data_fraction=0.5, model=Net, width=64,
    learning_rate=1e-2, beta2=0.98, batch_size=256, steps=1_200, evaluate_every=100, delay_limit=500,
)
"""
TRIALS = 16
FAULTS = ("worker", "node", "driver", "server", "database", "everything")
KILLS = int(os.environ.get("PHASEMAP_KILLS", "6"))  # each fault in turn, so once each
SEED = int(os.environ.get("PHASEMAP_SEED", "0"))
OPTIONS = ("--stack-size", "2", "--checkpoint-every", "1")
AWAY = DEAD_AFTER + 5  # seconds the tracking server is gone: the driver's heartbeats are overdue


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    for above in (folder, folder.parent):
        above.chmod(0o755)
    made = Cluster(folder)
    shutil.copy(OWN, folder)
    try:  # what has started is stopped even if the rest does not start
        made.start_all(workers=2)
        yield made
    finally:
        made.stop()


Record = tuple[pd.DataFrame, pd.DataFrame]


def record(cluster: Cluster, name: str) -> Record:
    """Configurations and outcomes by trial, and all curves; without what may differ."""
    trials = read(name, cluster.uri).trials  # refuses a trial that is recorded twice
    curves = load_curves(trials.run_id, cluster.uri).merge(trials[["run_id", "trial"]])
    outcomes = [name for name in DEFINITIONS if name != "train_seconds"]
    table = trials.set_index("trial")[["status", *FIELDS, *outcomes]].sort_index()
    points = curves.drop(columns="run_id").sort_values(["trial", "key", "step"]).reset_index(drop=True)
    return table, points


def compare(found: Record, undisturbed: Record) -> None:
    """What is recorded so far is what the undisturbed sweep recorded of the same trials, to the last bit."""
    table, points = undisturbed
    here = found[0].index
    assert_frame_equal(found[0], table.loc[here], check_exact=True)
    assert_frame_equal(found[1], points[points.trial.isin(here)].reset_index(drop=True), check_exact=True)


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Record:
    calm = cluster.sweep(SPACE, "calm", *OPTIONS, local=True)
    assert calm.wait(900) == 0, calm.output()
    found = record(cluster, "calm")
    assert len(found[0]) == TRIALS
    return found


def strike(cluster: Cluster, fault: str, driver: Service, chance: random.Random) -> bool:
    """Kills one thing, and after a while brings back what does not come back by itself."""
    if fault == "worker":
        victims = cluster.trainers()
        return bool(victims) and kill(chance.choice(victims))
    choices: dict[str, list[Service | None]] = {
        "node": [chance.choice(cluster.nodes)],
        "driver": [driver],
        "server": [cluster.server],
        "database": [cluster.database or cluster.server],
        "everything": [driver, *cluster.nodes, cluster.head, cluster.server, cluster.database],
    }
    struck = choices[fault]
    for service in filter(None, struck):
        service.kill()
    cluster.nodes = [node for node in cluster.nodes if node not in struck]
    time.sleep(chance.uniform(0, 4))
    if cluster.database in struck:
        cluster.start_database()
    if cluster.server in struck:
        cluster.start_server()
    if cluster.head in struck:
        cluster.start_head()
    while len(cluster.nodes) < 2:
        cluster.start_worker()
    return True


def storm(cluster: Cluster, name: str, faults: list[str], chance: random.Random, undisturbed: Record) -> Counter[str]:
    """A sweep among kills at random moments. Takes those it came to from ``faults``, and counts them."""
    struck: Counter[str] = Counter()
    driver = cluster.sweep(SPACE, name, *OPTIONS)
    while True:
        with suppress(subprocess.TimeoutExpired):
            driver.process.wait(chance.uniform(1, 8))
        if driver.process.poll() == 0:
            return struck
        if driver.process.poll() is not None:  # killed, or it began while something was away
            assert driver.process.poll() == -signal.SIGKILL or "trials to run" not in driver.output(), driver.output()
            driver = cluster.sweep(SPACE, name, *OPTIONS)
        elif faults and strike(cluster, faults[-1], driver, chance):
            struck[faults.pop()] += 1
            assert "(raylet" not in driver.output(), driver.output()
            if cluster.finished(name):
                compare(record(cluster, name), undisturbed)


def test_whatever_is_killed_the_record_is_that_of_an_undisturbed_sweep(cluster: Cluster, undisturbed: Record) -> None:
    chance = random.Random(SEED)
    faults = [fault for _ in range(-(-KILLS // len(FAULTS))) for fault in chance.sample(FAULTS, len(FAULTS))][:KILLS]
    struck: Counter[str] = Counter()
    sweeps = 0
    while faults:
        sweeps += 1
        name = f"storm{sweeps}"
        struck += storm(cluster, name, faults, chance, undisturbed)
        found = record(cluster, name)
        assert len(found[0]) == TRIALS
        compare(found, undisturbed)
        assert not list((cluster.folder / "checkpoints").rglob("*.pt*")), "checkpoints of recorded trials are left"
        print(f"{name}: equal after {dict(struck)}", flush=True)
    assert struck.total() == KILLS


def test_a_tracking_server_may_be_away_until_its_driver_counts_as_dead(cluster: Cluster, undisturbed: Record) -> None:
    driver = cluster.sweep(SPACE, "alone", *OPTIONS)
    until(lambda: bool(cluster.finished("alone")), 900, "the first trial", driver)
    cluster.server.kill()
    time.sleep(AWAY)
    assert driver.process.poll() is None, driver.output()
    cluster.start_server()
    assert driver.wait(900) == 0, driver.output()
    told = [line for line in driver.output().splitlines() if "tracking store" in line]
    assert told[0].startswith(f"tracking store {cluster.uri} does not answer, waiting: ")
    assert told[1:] == ["tracking store is back"], driver.output()
    compare(record(cluster, "alone"), undisturbed)
    assert len(cluster.finished("alone")) == TRIALS


def test_a_finished_sweep_has_nothing_to_do(cluster: Cluster, undisturbed: Record) -> None:
    nothing = cluster.sweep(SPACE, "calm", *OPTIONS)
    assert nothing.wait(300) == 0
    assert "nothing to do" in nothing.output()
