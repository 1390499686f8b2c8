"""Measurements on the hidden vectors of a stack, one a file.

K trials, N examples, D the length of a hidden vector, C classes: tensors ``[K, ...]`` in, one
number per trial ``[K]`` out. ``chosen [K, N]`` marks the examples each trial is measured on,
mostly its test examples. Trials never mix: a trial's number is the same alone and in any stack,
whatever its neighbors hold, and a trial whose hidden vectors are not finite reads NaN.

A file with a function ``probe(view) -> name -> [K]`` is a probe, called as the file is; the others are
what probes share. At its top stand, as dict literals, the definitions of what it measures:

    CURVES    followed at every probe step; the value at a trial's end is the outcome
    OUTCOMES  measured once, at a trial's end
    NEEDS     (module, package) of a library that is not installed with phasemap

They are read off the source and never imported here: whoever reads a record or counts the trials of a
dry run knows every name and loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ALWAYS = "always"  # the probe nobody may leave out, so it has no name to choose
LITERALS = ("CURVES", "OUTCOMES", "NEEDS")


def names() -> tuple[str, ...]:
    """The probes a trial may ask for, sorted."""
    return tuple(sorted(set(_probes(tuple(__path__))) - {ALWAYS}))


def curves() -> dict[str, str]:
    """Definitions of what is followed over the steps."""
    return {name: text for probe in _in_order() for name, text in probe.get("CURVES", {}).items()}


def outcomes() -> dict[str, str]:
    """Definitions of what is measured once, at a trial's end."""
    return {name: text for probe in _in_order() for name, text in probe.get("OUTCOMES", {}).items()}


def definitions() -> dict[str, str]:
    """Both, as they stand in the files, probe after probe."""
    return {name: text for probe in places() for name, text in _defined(probe)}


def places() -> dict[str, tuple[str, ...]]:
    """Which probe defines which names; the one nobody may leave out comes first."""
    return {probe: tuple(name for name, _ in _defined(probe)) for probe in (ALWAYS, *names())}


def needs() -> dict[str, tuple[str, str]]:
    """Module and package of each probe that has a library of its own."""
    literals = _probes(tuple(__path__))
    return {name: literals[name]["NEEDS"] for name in names() if "NEEDS" in literals[name]}


def built_in(name: str) -> Callable[[Any], dict[str, Any]]:
    """The function of a probe; this alone imports its file, and torch with it."""
    return import_module(f"{__name__}.{name}").probe


def _in_order() -> Iterator[dict[str, Any]]:
    literals = _probes(tuple(__path__))
    return (literals[name] for name in (ALWAYS, *names()))


def _defined(probe: str) -> Iterator[tuple[str, str]]:
    literals = _probes(tuple(__path__))[probe]
    return (one for kind, entries in literals.items() if kind != "NEEDS" for one in entries.items())


@cache
def _probes(folders: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The literals of every file with a ``probe``, by its name."""
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.py"))]
    read = {file.stem: ast.parse(file.read_text(encoding="utf-8")).body for file in files}
    return {name: _literals(body) for name, body in read.items() if any(_is_probe(node) for node in body)}


def _is_probe(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "probe"


def _literals(body: list[ast.stmt]) -> dict[str, Any]:
    literals = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in LITERALS:
            literals[node.targets[0].id] = ast.literal_eval(node.value)
    return literals
