"""Figures are drawn whatever the user calls his own modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small import space_text

ROOT = Path(__file__).parents[2]
LOADED = "import phasemap; print(len(phasemap.load('tiny')))"
OWN = {
    "a package": ("analysis/__init__.py", "analysis/table.py", "analysis/style.py", "analysis/__main__.py"),
    "a folder": ("analysis/notes.txt",),
    "a module": ("analysis.py",),
}
KINDS = ["a package", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("a folder", "a module"))]


@pytest.mark.parametrize("kind", KINDS)
def test_an_analysis_of_the_users_own_disturbs_nothing(kind, schema, tmp_path):
    shutil.copy(schema, tmp_path / "mlflow.db")
    (tmp_path / "tiny.py").write_text(space_text(weight_decay=[0.1, 1.0]))
    for name in OWN[kind]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('the user has other plans for this file')")
    said = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_TRACKING", "RAY_"))}

    def python(*words: str) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=said | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    swept = python("-m", "phasemap.sweep", "tiny.py", "--local")
    assert "2 of 2 trials recorded" in swept
    assert "no figures" not in swept
    assert (tmp_path / "figures" / "tiny" / "phase_diagram.png").exists()
    assert python("-c", LOADED) == "2\n"
    python("-m", "phasemap.analysis", "tiny", "phase_diagram", "--out", "again")
    assert (tmp_path / "again" / "phase_diagram.png").exists()
