"""An empty MLflow store to copy: writing its schema takes seconds, copying it none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes test at once: more threads than cores wait for each other
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves its workers beside the other half of the tests

import psutil
import pytest


@pytest.fixture(scope="session")
def schema(tmp_path_factory) -> Path:
    from phasemap.record.client import connect

    file = tmp_path_factory.mktemp("schema") / "mlflow.db"
    connect(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(schema, tmp_path) -> str:
    """Of a store of its own, which is empty."""
    shutil.copy(schema, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the whole program first: they take longest, and would leave one of two processes idle at the end."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_the_tests():
    yield
    for left in psutil.Process().children(recursive=True):
        left.kill()
