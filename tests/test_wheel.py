"""What pip installs: requirements that agree with the pins, and a wheel that works alone in an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PARTS = ("phasemap", "analysis", "search_spaces", "pyproject.toml", "setup.py", "README.md", "LICENSE")
SMALL = ["weight_decay=0.1,1", "width=8,16", "seed=0", "modulus=11", "batch_size=32", "steps=20", "evaluate_every=10"]


def wanted() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return [one for one in map(Requirement, lines) if one.name != PROJECT["name"]]


def test_every_requirement_is_tested_at_its_lower_bound():
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    versions = {one.name: str(one.specifier).removeprefix("==") for one in pins}
    assert {one.name for one in wanted()} == set(versions)
    for one in wanted():
        assert f">={versions[one.name]}" in str(one.specifier).split(",")


def test_the_lock_holds_every_pin():
    lock = set((ROOT / "lock.txt").read_text().splitlines())
    assert {line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"} - lock == set()


@dataclass(frozen=True)
class Installed:
    """A Python without a checkout: the wheel's folder, then what it requires."""

    target: Path
    folder: Path

    def run(self, *words: str) -> str:
        """Standard output of a command in the empty folder; its status must be 0."""
        kept = {
            n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "MLFLOW_TRACKING", "RAY_", "PYTEST"))
        }
        known = kept | {
            "PYTHONPATH": f"{self.target}:{self.target.parent / 'required'}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        done = subprocess.run(words, cwd=self.folder, env=known, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, *words: str) -> str:
        return self.run(sys.executable, "-S", *words)

    def phasemap(self, *words: str) -> str:
        return self.python(str(self.target / "bin" / "phasemap"), *words)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    """``-S`` leaves out the environment's own packages, and with them the checkout; a link gives the required back."""
    made = tmp_path_factory.mktemp("wheel")
    for part in PARTS:  # a copy: setuptools writes into the folder it builds
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, made / part)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(made / "dist"), str(made)]
    subprocess.run(build, check=True, timeout=300)
    wheel = next((made / "dist").glob("*.whl"))
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(made / "target"), str(wheel)], check=True
    )
    (made / "required").symlink_to(sysconfig.get_path("purelib"))
    (made / "empty").mkdir()
    (made / "empty" / "analysis.py").write_text("raise RuntimeError('the user has other plans for this file')")
    return Installed(made / "target", made / "empty")


@pytest.mark.long
def test_the_wheel_takes_a_user_from_nothing_to_a_map(installed):
    assert {path.name for path in installed.target.iterdir()} == {
        *("phasemap", "bin", f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info")
    }
    where = installed.python("-c", "import phasemap; print(phasemap.__version__, phasemap.__file__)").split()
    assert where == [PROJECT["version"], str(installed.target / "phasemap" / "__init__.py")]
    assert installed.phasemap("--version") == f"phasemap {PROJECT['version']}\n"
    assert "phasemap sweep wd_width.py" in installed.phasemap("new", "wd_width")
    assert "wd_width: 200 trials" in installed.python("-m", "phasemap.sweep", "wd_width.py", "--dry-run")
    small = [word for value in SMALL for word in ("--set", value)]
    assert "4 of 4 trials recorded" in installed.phasemap("sweep", "wd_width.py", "--local", *small)
    figures = installed.folder / "figures" / "wd_width"
    names = {"phase_diagram.png", "phase_diagram.csv", "interactive_map.html", "trials.csv"}
    assert names <= {path.name for path in figures.iterdir()}
    installed.phasemap("figures", "wd_width", "phase_diagram", "--out", "again")
    assert (installed.folder / "again" / "phase_diagram.png").stat().st_size > 10_000
    assert installed.python("-c", "import phasemap; print(len(phasemap.load('wd_width')))") == "4\n"


@pytest.mark.long
def test_the_wheel_carries_every_search_space_and_every_room(installed):
    inside = installed.target / "phasemap"
    code = "import phasemap.analysis.findings as r; print(*sorted(p.name for p in r.SPACES.glob('*.py')))"
    assert installed.python("-c", code).split() == sorted(path.name for path in (ROOT / "search_spaces").glob("*.py"))
    for source, target in ((ROOT / "phasemap", inside), (ROOT / "analysis", inside / "analysis")):
        here = {path.relative_to(source) for path in source.rglob("*") if path.suffix in (".py", ".html", ".typed")}
        assert here <= {path.relative_to(target) for path in target.rglob("*")}
