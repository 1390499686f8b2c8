"""The command ``phasemap``: a space to start from, and each command given its own words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from phasemap import sweep
from phasemap.command.main import main
from phasemap.plan.space_file import load

ROOT = Path(__file__).parents[2]
SPACES = {file.stem: file for file in (ROOT / "search_spaces").glob("*.py")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*words: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 2


@pytest.mark.parametrize("words", [(), ("wd_depth",), ("wd_depth.py",)])
def test_a_shipped_space_is_written_as_it_is_and_never_over_a_file(words, folder, capsys):
    assert main(["new", *words]) == 0
    name = words[0].removesuffix(".py") if words else "wd_width"
    file = folder / f"{name}.py"
    assert file.read_text() == SPACES[name].read_text()
    assert load(file).trials()
    assert f"phasemap sweep {name}.py --dry-run" in capsys.readouterr().out
    file.write_text("mine")
    refused("new", *words)
    assert f"{name}.py: is there already, and is left as it is; rename it" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_a_wrong_name_gets_the_right_ones(folder, capsys):
    refused("new", "wd_widht")
    said = capsys.readouterr().err
    assert "did you mean wd_width?" in said
    assert not [name for name in SPACES if name not in said]
    refused("swep")
    assert "did you mean sweep?" in capsys.readouterr().err
    refused()
    assert "must be one of new, sweep, figures; got none" in capsys.readouterr().err
    assert not list(folder.iterdir())


@pytest.mark.parametrize("words", [["--help"], ["new", "--help"]])
def test_help_lists_what_there_is(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    said = capsys.readouterr().out
    known = SPACES if "new" in words else ("new", "sweep", "figures")
    assert not [name for name in known if f"  {name}  " not in said]  # a column of their own, however long the name
    assert "):\n" not in said


@pytest.mark.parametrize("command", ["new", "sweep", "figures"])
def test_a_command_names_itself_as_it_was_called(command, capsys):
    for words in ([command, "--help"], [command, "wd_width", "--no-such-option"]):
        with pytest.raises(SystemExit):
            main(words)
        said = "".join(capsys.readouterr())
        assert said.startswith(f"usage: phasemap {command} ")
        assert "python -m" not in said
        assert "``" not in said


def test_a_module_names_itself_as_it_was_called(capsys):
    with pytest.raises(SystemExit):
        sweep.main([])
    assert capsys.readouterr().err.startswith("usage: python -m phasemap.sweep ")


def test_the_help_of_figures_says_what_may_be_repeated(capsys):
    with pytest.raises(SystemExit):
        main(["figures", "--help"])
    assert "draw its outcome_map; repeatable" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [["--help"], ["sweep", "wd_width.py", "--dry-run"], ["new", "wd_depth"]])
def test_a_command_whose_reader_has_gone_ends_without_a_word(words, folder):
    main(["new"])
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "phasemap.command.main", *words]
    own = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, cwd=folder, env=own, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_command_gets_its_own_words(capsys):
    main(["new"])
    assert main(["sweep", "wd_width.py", "--dry-run", "--set", "seed=0"]) == 0
    assert "wd_width: 40 trials" in capsys.readouterr().out
    assert main(["figures", "wd_width", "pie"]) == 2
    assert "figure: must be one of phase_diagram" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["sweep", "wd_width.py", "--stak-size", "3"], "--stack-size"),
        (["sweep", "wd_width.py", "--dryrun"], "--dry-run"),
        (["new", "--hlep"], "--help"),
        (["figures", "wd_width", "--ouut=here"], "--out"),
        (["figures", "wd_width", "phase_digram"], "phase_diagram"),
    ],
)
def test_a_mistyped_word_gets_the_one_that_was_meant(words, meant, capsys):
    with suppress(SystemExit):
        assert main(words) == 2
    assert f"(did you mean {meant}?)" in capsys.readouterr().err


def test_help_and_new_load_nothing_heavy():
    heavy = "[name for name in ('torch', 'ray', 'mlflow', 'pandas', 'matplotlib') if name in sys.modules]"
    code = f"import sys; from phasemap.command.main import main; main(['new']); sys.exit(str({heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stderr == "[]\n"
