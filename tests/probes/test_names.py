"""A probe is one file: its name, its definitions and its numbers need no line elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import phasemap
from phasemap import probes
from phasemap.plan.outcome import CURVES, DEFINITIONS, OWN

MEDIAN = '''
"""The median of the hidden test values."""
from phasemap.probes.view import Numbers, View

CURVES = {"median_value": "median of the hidden values"}
OUTCOMES = {"lowest_value": "smallest of the hidden values, at the end"}
NEEDS = ("numpy", "numpy")


def probe(view: View) -> Numbers:
    values = view.hidden.flatten(1)
    found = {"median_value": values.median(1).values}
    return found | ({"lowest_value": values.amin(1)} if view.last else {})
'''
USE = """
import sys
from phasemap import probes
from phasemap.plan.outcome import CURVES, DEFINITIONS, is_curve
from phasemap.plan.trial import make_trial

assert "median" in probes.names() and probes.needs()["median"] == ("numpy", "numpy")
assert DEFINITIONS["median_value"] == "median of the hidden values"
assert "median_value" in CURVES and not is_curve("lowest_value")
trial = make_trial({"modulus": 7, "model": "mlp", "width": 8, "steps": 4, "evaluate_every": 2, "probe_every": 2,
                    "probes": "median"})
assert "torch" not in sys.modules, "names and definitions are read, not imported"

from phasemap.training.train import begin, train

(result,) = [result for results in train(begin((trial,))) for result in results]
assert len(result.curves["median_value"][0]) == 2
assert result.outcome.median_value == result.curves["median_value"][1][-1]
assert result.outcome.lowest_value <= result.outcome.median_value and "lowest_value" not in result.curves
assert "fault" not in result.notes
"""


def test_adding_a_probe_is_adding_one_file(tmp_path: Path) -> None:
    shutil.copytree(Path(phasemap.__file__).parent, tmp_path / "phasemap")
    (tmp_path / "phasemap" / "probes" / "median.py").write_text(MEDIAN)
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_helpers_are_no_probes_and_what_is_always_measured_is_not_chosen() -> None:
    assert {"dimension", "twonn", "homology", "picture"} < set(probes.names())
    assert not {"view", "batch", "circles", "information", probes.ALWAYS} & set(probes.names())
    assert probes.places()[probes.ALWAYS] == ("weight_norm", "learned_bits")


def test_every_name_is_defined_once() -> None:
    defined = [name for found in probes.places().values() for name in found]
    assert sorted(defined) == sorted({*probes.curves(), *probes.outcomes()})
    assert not set(defined) & set(OWN)
    assert set(DEFINITIONS) == {*OWN, *defined}
    assert set(probes.curves()) < set(CURVES)


def test_a_folder_added_to_the_package_is_read(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "median_here.py").write_text(MEDIAN)
    monkeypatch.setattr(probes, "__path__", [*probes.__path__, str(tmp_path)])
    assert probes.definitions()["lowest_value"] == "smallest of the hidden values, at the end"
    assert callable(probes.built_in("median_here"))
