"""What is needed to run a sweep again besides its search space."""

from __future__ import annotations

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


def _git(*words: str) -> str:
    try:
        folder = Path(__file__).parent
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
