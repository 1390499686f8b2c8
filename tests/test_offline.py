"""Nothing is asked of a network that was not named by the user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import space_text

LISTENER = """
import sys

def heard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        said = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        if not isinstance(said, (str, bytes)) or event == "socket.getaddrinfo":
            with open({file!r}, "a") as file:
                print(event, said, file=file)

sys.addaudithook(heard)
"""
ROOT = Path(__file__).parents[1]


def swept(folder: Path, *before: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    (folder / "space.py").write_text(space_text(seed=[0, 1]))
    said = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_", "PYTEST_"))}
    said["PYTHONPATH"] = f"{folder}:{ROOT}"
    words = [*before, sys.executable, "-m", "phasemap.sweep", "space.py", *options]
    return subprocess.run(words, cwd=folder, env=said, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.long
def test_a_sweep_in_one_process_asks_no_network_at_all(tmp_path):
    """Every Python process it starts listens to itself: MLflow's usage reports would be heard."""
    heard = tmp_path / "heard.txt"
    heard.touch()
    (tmp_path / "sitecustomize.py").write_text(LISTENER.format(file=str(heard)))
    probe = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    subprocess.run([sys.executable, "-c", probe], env={"PYTHONPATH": str(tmp_path)}, check=True)
    assert heard.read_text() == "socket.connect ('127.0.0.1', 9)\n", "the listener is deaf"
    heard.write_text("")
    done = swept(tmp_path, options=("--local",))
    assert done.returncode == 0, done.stderr
    assert heard.read_text() == ""


@pytest.mark.long
def test_a_sweep_under_ray_needs_nothing_but_this_machine(tmp_path):
    """In a network of its own, with loopback and no way out."""
    alone = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not make a network here")
    done = swept(tmp_path, *alone, options=("--no-figures",))
    assert done.returncode == 0, done.stderr
    assert "space: 2 of 2 trials recorded" in done.stdout
