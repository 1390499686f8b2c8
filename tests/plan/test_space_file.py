"""A space file: read, refused, and the message that a person reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from small import faults, written

from phasemap.fields import Fault
from phasemap.plan.space_file import MOST_FAULTS, explain, load, source_of
from phasemap.plan.trial import Trial

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.py"))


def test_a_missing_file_is_answered_with_its_neighbors(tmp_path):
    assert faults(load, tmp_path / "a.py") == ["must be a file, found none; check the path"]
    near = written(tmp_path, "")
    assert faults(load, tmp_path / "a.py") == [f"must be a file, found none; there are {near}"]
    assert faults(load, tmp_path / "no" / "a.py") == ["must be a file, found none; check the path"]
    assert faults(load, tmp_path)[0].startswith("must be a file, found none; ")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "none"),
        ("space = {'width': [8]}", "none"),
        ("from phasemap import Space\none = Space()\ntwo = Space()", "one, two"),
    ],
)
def test_a_file_holds_exactly_one_space(tmp_path, text, found):
    message = f"must hold exactly one phasemap.Space, found {found}; write `space = Space(...)`"
    assert faults(load, written(tmp_path, text)) == [message]


def test_a_file_that_raises_is_answered_with_its_line(tmp_path):
    file = written(tmp_path, "from phasemap import Space\n\nspace = Space(width=[1 / 0])\n")
    assert faults(load, file) == ["line 3: must run to its end, raised ZeroDivisionError: division by zero; correct it"]


def test_the_line_is_that_of_the_file_even_if_the_fault_lies_deeper(tmp_path):
    file = written(tmp_path, "import json\njson.loads('{')\n")
    assert faults(load, file)[0].startswith("line 2: must run to its end, raised JSONDecodeError: ")


def test_a_file_that_is_not_python_is_refused(tmp_path):
    message = faults(load, written(tmp_path, "space = Space(\n"))[0]
    assert "must run to its end, raised SyntaxError: " in message
    assert "line 1" in message


def test_a_file_may_name_its_encoding_and_one_that_is_in_another_is_refused(tmp_path):
    text = "# -*- coding: latin-1 -*-\n# d\xe9croissance\nfrom phasemap import Space\nspace = Space()\n"
    (tmp_path / "space.py").write_bytes(text.encode("latin-1"))
    assert load(tmp_path / "space.py").trials() == [Trial()]
    assert source_of(tmp_path / "space.py") == text
    (tmp_path / "space.py").write_bytes(text.partition("\n")[2].encode("latin-1"))
    (message,) = faults(load, tmp_path / "space.py")
    assert message.startswith("must be readable, in UTF-8 or in the encoding that its first line names, got ")


def test_a_message_names_the_file_on_every_line_and_counts_what_it_leaves_out():
    assert explain("a.py", Fault(["one", "two"])) == "a.py: one\na.py: two"
    told = explain("a.py", Fault([f"fault {i}" for i in range(MOST_FAULTS + 3)])).splitlines()
    assert len(told) == MOST_FAULTS + 1
    assert told[-1] == "a.py: and 3 more"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_search_space_is_valid_and_says_what_it_is_for(path):
    if path.stem.startswith("digits"):
        pytest.importorskip("sklearn", reason="scikit-learn is an optional extra")
    space = load(path)
    space.check()
    if space.sampler == "grid":
        assert len({trial.id for trial in space.trials()}) == len(space.trials()) > 0
    assert len(ast.get_docstring(ast.parse(path.read_text())) or "") > 40


def test_reading_a_search_space_loads_no_torch():
    code = "import sys, phasemap.plan.space; print(sorted({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
