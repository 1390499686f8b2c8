"""One database for all tests of this folder: writing the schema takes a second per store."""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from synthetic import BASE, Store, made, wd_width


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The sweep "sweep": 2 x 2 cells x 2 seeds, one failed and one running trial."""
    made_store = Store(tmp_path_factory.mktemp("mlflow"))
    for decay in (0.1, 0.7):
        for width in (64, 128):
            for seed in (0, 1):
                made_store.add(*made(BASE.replace(weight_decay=decay, width=width, seed=seed)))
    made_store.add(BASE.replace(weight_decay=0.7, width=64, seed=2), None, "FAILED", "out of memory")
    made_store.add(BASE.replace(weight_decay=0.7, width=64, seed=3), None, "RUNNING")
    return made_store


@pytest.fixture(scope="session")
def pairs():
    return wd_width()
