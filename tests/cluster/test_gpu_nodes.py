"""Nodes with GPUs of two kinds, declared and not there: their stacks compute on the CPU. One node is killed."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from cluster import Cluster, until

from phasemap.plan.outcome import DEFINITIONS
from phasemap.record.reader import read
from phasemap.scheduling.worker import ON_CPU

pytestmark = pytest.mark.long

SPACE = """
from phasemap import Space
space = Space(
    weight_decay=[0.1, 1.0], width=[16, 32], seed=range(4),
    task="modular_addition", modulus=23, data_fraction=0.5, model="mlp", depth=1, learning_rate=1e-2, batch_size=256,
    steps=4_000, evaluate_every=200, delay_limit=500, probes="dimension",
)
"""
TRIALS = 16


def start_gpus(cluster: Cluster, kind: str) -> None:
    options = ("--num-cpus", "2", "--num-gpus", "1", "--resources", f'{{"accelerator_type:{kind}": 1}}')
    cluster.nodes.append(cluster.start_node("--address", cluster.address, *options))


def outcomes(uri: str, name: str) -> pd.DataFrame:
    table = read(name, uri).trials.set_index("trial").sort_index()
    return table[["status", *(one for one in DEFINITIONS if one != "train_seconds")]]


def test_a_killed_node_with_gpus_changes_no_number(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.environment[ON_CPU] = "1"
    cluster.uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    try:
        cluster.start_head()
        start_gpus(cluster, "A")
        start_gpus(cluster, "B")
        driver = cluster.sweep(SPACE, "gpus", "--gpus-per-stack", "0.5", "--checkpoint-every", "1", "--stack-size", "2")
        until(lambda: "on 4 slots" in driver.output(), 300, "the start", driver)
        until(lambda: any((tmp_path / "checkpoints").rglob("*.pt")), 300, "a checkpoint", driver)
        cluster.nodes.pop(0).kill()
        assert driver.wait(900) == 0, driver.output()
        assert "a node is gone: slots 4 -> 2" in driver.output()
        assert "completed" not in driver.output(), "Ray Tune's line about a stack that waited for that node"
        space = str(tmp_path / "space.py")
        local = cluster.start(
            sys.executable, "-m", "phasemap.sweep", space, "--name", "local", "--local", "--no-figures",
            "--tracking-uri", cluster.uri,
        )  # fmt: skip
        assert local.wait(900) == 0, local.output()
        found = outcomes(cluster.uri, "gpus")
        assert len(found) == TRIALS
        assert found.equals(outcomes(cluster.uri, "local"))
    finally:
        cluster.stop()
