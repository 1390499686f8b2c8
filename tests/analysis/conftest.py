"""One database for all tests of this folder: writing the schema takes a second per store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from itertools import product

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from synthetic import AXES, BASE, made, result, wd_width

from phasemap.record.writer import Recorder


@pytest.fixture(scope="session")
def recorded(schema, tmp_path_factory) -> Iterator[str]:
    """Address of a store with the sweep "sweep": 2 x 2 cells x 2 seeds, one failed and one running trial."""
    file = tmp_path_factory.mktemp("recorded") / "mlflow.db"
    shutil.copy(schema, file)
    with Recorder("sweep", f"sqlite:///{file}", AXES, "space = Space()") as recorder:
        for decay, width, seed in product((0.1, 0.7), (64, 128), (0, 1)):
            recorder.result(result(*made(BASE.replace(weight_decay=decay, width=width, seed=seed)), lines=True))
        failed, running = (BASE.replace(weight_decay=0.7, width=64, seed=seed) for seed in (2, 3))
        recorder.failure(failed, "out of memory")
        recorder.flush()
        recorder.live(running, {"test_accuracy": ((100,), (0.1,))}, time.time())
        recorder.flush()
        yield recorder.uri


@pytest.fixture(scope="session")
def pairs():
    return wd_width()
