"""A network and a task that are defined in a notebook's cells, in a real kernel: run, interrupted, run again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

pytestmark = pytest.mark.long

CELL = """
import numpy as np
import torch
import phasemap
from phasemap import Space, Task

class Net(torch.nn.Module):
    def __init__(self, task: Task, width: int = 64):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.head = torch.nn.Linear(2 * width, task.classes)

    def forward(self, tokens):
        return self.head(self.table(tokens).flatten(1).relu())

def sums(size: int = 31) -> Task:
    a, b = (grid.ravel() for grid in np.indices((size, size)))
    return Task(inputs=np.stack([a, b], 1), labels=(a + b) % size)

space = Space(weight_decay=[0.0, 1.0], seed=range(2), model=Net, task=sums, data_fraction=0.5, learning_rate=1e-2,
              batch_size=256, steps=1_000, evaluate_every=100, probes="", delay_limit=100)

def run(name, local):
    return phasemap.run(space, name=name, local=local, figures=False, checkpoint_every=0.2)
"""
RECORD = """
table = {}.table.set_index("trial").sort_index()
print(table.drop(columns=["run_id", "train_seconds"], errors="ignore").to_json())
"""


class Kernel:
    """A Jupyter kernel whose working directory is a folder."""

    def __init__(self, folder: Path):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        self.manager: KernelManager
        self.client: BlockingKernelClient
        self.manager, self.client = start_new_kernel(cwd=str(folder), env=environment, startup_timeout=300)

    def cell(self, code: str, interrupt_after: str = "") -> str:
        """What a cell prints. The stop button is pressed a second after it has printed some text."""
        printed, asked = "", self.client.execute(code)
        while True:
            message = self.client.get_iopub_msg(timeout=180)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            assert kind != "error", printed + "\n".join(content["traceback"])
            if kind == "stream":
                printed += content["text"]
            if interrupt_after and interrupt_after in printed:
                time.sleep(1)
                self.manager.interrupt_kernel()
                interrupt_after = ""
            if kind == "status" and content["execution_state"] == "idle":
                return printed


@pytest.fixture
def kernel(tmp_path, schema) -> Iterator[Kernel]:
    shutil.copy(schema, tmp_path / "mlflow.db")
    made = Kernel(tmp_path)
    try:
        made.cell(CELL)
        yield made
    finally:
        made.client.stop_channels()
        made.manager.shutdown_kernel(now=True)


def test_classes_of_a_cell_train_alike_here_and_under_ray_and_an_interrupt_keeps_what_is_done(kernel):
    assert "4 of 4 trials recorded" in kernel.cell("local = run('local', True)")
    undisturbed = kernel.cell(RECORD.format("local"))
    for name, local in (("stopped", True), ("ray", False)):
        told = kernel.cell(f"stopped = run({name!r}, {local}); print('status', stopped.status)", "trials to run")
        assert "interrupted: progress is kept, the same command continues" in told, told
        assert "status 130" in told
        assert "Traceback" not in told
        assert "4 of 4 trials recorded" in kernel.cell(f"again = run({name!r}, {local})")
        assert kernel.cell(RECORD.format("again")) == undisturbed
