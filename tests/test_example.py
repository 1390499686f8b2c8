"""The example notebook, executed by a real kernel on a small sweep of the same name and axes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import nbformat
import pytest
from nbclient import NotebookClient
from small import space_text

import phasemap
from phasemap import sweep
from phasemap.record.reader import COLUMNS

NOTEBOOK = Path(__file__).parent.parent / "docs" / "example.ipynb"


@pytest.fixture(scope="module")
def swept(schema, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("example")
    shutil.copy(schema, folder / "mlflow.db")
    (folder / "space.py").write_text(space_text(weight_decay=[0.1, 1.0, 3.0], width=[8, 16], seed=[0, 1]))
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    words = ["--name", "wd_width", "--tracking-uri", uri, "--storage", str(folder / "data"), "--local", "--no-figures"]
    words += ["--keep-weights", "final"]
    assert sweep.main([str(folder / "space.py"), *words]) == 0
    return uri


def test_load_gives_a_row_per_finished_trial_in_the_order_of_the_axes(swept):
    trials = phasemap.load("wd_width", swept)
    cells = [(decay, width, seed) for decay in (0.1, 1.0, 3.0) for width in (8, 16) for seed in (0, 1)]
    assert list(trials[["weight_decay", "width", "seed"]].itertuples(index=False, name=None)) == cells
    assert trials.phase.notna().all()
    shown = ["weight_decay", "width", "seed", "phase", "grok_step", "final_test_accuracy"]
    assert list(trials)[:6] == shown
    assert set(trials) == set(COLUMNS)
    with pytest.raises(ValueError, match="experiment: must exist"):
        phasemap.load("nothing", swept)


def test_every_cell_of_the_notebook_runs_and_draws(swept, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", swept)
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert len(pictures(notebook)) == 4


def test_the_notebook_is_kept_executed():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    assert len(pictures(notebook)) == 4


def pictures(notebook) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
