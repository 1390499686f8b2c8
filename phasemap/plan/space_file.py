"""Reads a space file: the one ``Space`` that a file of Python holds, or what is wrong with the file."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
import traceback
from collections.abc import Iterable
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType

from phasemap.fields import Fault
from phasemap.plan.space import Space

MOST_FAULTS = 20  # printed; the rest is counted
OVERRIDE = "# --set "  # begins the lines that are appended to a recorded space file, one for each --set


def load(path: Path) -> Space:
    """The one Space of a file.

    Raises:
        Fault: the file is missing, raises, or does not hold exactly one Space.
    """
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.py"))[:MOST_FAULTS] if path.parent.is_dir() else []
        raise Fault([f"must be a file, found none; {'there are ' + ', '.join(near) if near else 'check the path'}"])
    source_of(path)  # for the record: a fault of the file
    content = vars(_executed(path.resolve()))
    spaces = {name: value for name, value in content.items() if isinstance(value, Space)}
    if len(spaces) != 1:
        held = ", ".join(spaces) or "none"
        raise Fault([f"must hold exactly one phasemap.Space, found {held}; write `space = Space(...)`"])
    space = next(iter(spaces.values()))
    object.__setattr__(space, "namespace", content)
    return space


def source_of(path: Path) -> str:
    """The text of a file of Python, in the encoding that it names.

    Raises:
        Fault: it cannot be read so.
    """
    try:
        return decode_source(path.read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise Fault(
            [f"must be readable, in UTF-8 or in the encoding that its first line names, got {error}; save it so"]
        ) from error


def with_overrides(source: str, given: Iterable[str]) -> str:
    """The text of a space file as it is recorded, with what ``--set`` gave."""
    return source + "".join(f"\n{OVERRIDE}{text}" for text in given)


def overrides(source: str) -> list[str]:
    """What ``--set`` gave, of a recorded file. Those lines are the last, and no line break ends them; a comment of the
    file's own that begins so has one, as the last line of a text file does."""
    lines = itertools.takewhile(lambda line: line.startswith(OVERRIDE), reversed(source.split("\n")))
    return [line.removeprefix(OVERRIDE) for line in lines][::-1]


def _executed(path: Path) -> ModuleType:
    """The file as a module of its own, which may import what stands beside it."""
    name = f"phasemap_space_{''.join(c if c.isalnum() else '_' for c in path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # stays: what it imports later stands there too
    sys.modules[name] = module
    folder = os.getcwd()
    try:
        spec.loader.exec_module(module)
    except Fault:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # anything a user's file may raise
        what = f"raised {type(error).__name__}: {error}".rstrip(": ")
        raise Fault([f"line {_line(error, path)}: must run to its end, {what}; correct it"]) from error
    finally:
        os.chdir(folder)  # the file may have gone elsewhere; figures and records belong here
    return module


def _line(error: BaseException, path: Path) -> object:
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((frame.lineno for frame in frames if frame.filename == str(path)), 1)


def explain(where: str, fault: Fault) -> str:
    """The message a person reads: every fault on a line, with the file it stands in."""
    shown = [f"{where}: {line}" for line in fault.faults[:MOST_FAULTS]]
    more = len(fault.faults) - len(shown)
    return "\n".join(shown + ([f"{where}: and {more} more"] if more > 0 else []))
