"""What is needed to run a sweep again besides its search space."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "ray", "mlflow", "optuna", "numpy", "scipy")


def environment() -> dict[str, Any]:
    """Versions, machine and commit, for the record."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.node()} {platform.machine()} {os.cpu_count()} cores",
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        **{name: version(name) for name in LIBRARIES},
    }


def origin(file: str) -> dict[str, str]:
    """Tags by which MLflow shows where a run comes from: the search space or script, its commit, who ran it."""
    tags = {
        "mlflow.source.name": file,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": _git("rev-parse", "HEAD", folder=Path(file).absolute().parent),
        "mlflow.user": _user(),
    }
    return {key: value for key, value in tags.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's, that has no name
        return ""


def _git(*words: str, folder: Path = Path(__file__).parent) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
