"""A task from a file: the rows of a CSV or Parquet table as examples, one of its columns as labels."""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phasemap.fields import Fault
from phasemap.plan.component import Component, check_name
from phasemap.tasks.task import Task
from phasemap.words import count


def table(path: str | Path, label: str, columns: Sequence[str] = ()) -> Component:
    """The task of a file, for ``Space(task=table("data.csv", label="answer"))``; its name is the file's.

    Inputs that are whole numbers in every row are tokens, others real numbers. The different labels are the classes
    0, 1, … in sorted order: as numbers where all of them are, else as words. The file is read here, once: its content
    is part of a trial's identity and travels to the workers.

    Args:
        path: ends in .csv (with a line of names) or .parquet.
        label: the column of the labels.
        columns: those of the inputs, in this order; all others, if none is named.

    Raises:
        Fault: the file cannot be read so.
    """
    path = Path(path)
    read = {".csv": _csv, ".parquet": _parquet}.get(path.suffix)
    if read is None:
        raise Fault([f"task: {path} must end in .csv or .parquet, got {path.suffix!r}; convert it"])
    check_name("task", path.stem, f"{path}: ")
    try:
        content = path.read_bytes()
        held = read(path)
    except (OSError, ValueError) as error:
        raise Fault([f"task: {path} must be a readable table, got {error}; correct it"]) from error
    names = list(columns) or [name for name in held if name != label]
    missing = [name for name in (label, *names) if name not in held]
    if missing:
        raise Fault([f"task: {path} must have a column {missing[0]}, got {', '.join(held)}; choose one of these"])
    if not names:
        raise Fault([f"task: {path} must have a column beside {label}, got none; add the inputs"])
    inputs = np.stack([_numbers(path, name, held[name]) for name in names], 1)
    labels, order = _classes(path, label, held[label])

    def rows() -> Task:
        return Task(inputs, labels)

    rows()  # its faults come here, where the file is named
    digest = hashlib.sha256(content + repr((label, names)).encode() + order).hexdigest()[:16]
    return Component("task", path.stem, digest, (), rows)


def _csv(path: Path) -> dict[str, list[Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("no rows below the names, or rows of unequal length")
    return {name: list(column) for name, *column in zip(*rows, strict=True)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    from pyarrow import parquet

    columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return columns


def _classes(path: Path, name: str, column: list[Any]) -> tuple[np.ndarray, bytes]:
    """The class of each label, and what their order adds to a table's identity: nothing where the order as text is the
    same, for trials were recorded under that."""
    labels = _read(column)
    missing = sum(one is None or one != one or not str(one).strip() for one in labels)
    if missing:
        what = f"task: {path}: column {name} must hold a label in every row, got none in {count(missing, 'row')}"
        raise Fault([f"{what}; fill or remove them"])
    classes, as_written = (np.unique(np.array(one), return_inverse=True)[1] for one in (labels, column))
    return classes, b"" if np.array_equal(classes, as_written) else b"sorted as numbers"


def _read(labels: list[Any]) -> list[Any]:
    """Numbers where all are written as such, and not with the _ that Python takes in numbers: 1_11 is no 111."""
    if all(isinstance(one, str) and "_" not in one for one in labels):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return [kind(one) for one in labels]
    return labels


def _numbers(path: Path, name: str, column: list[Any]) -> np.ndarray:
    """Whole where all of them are."""
    try:
        numbers = np.array([float(one) for one in column])
    except (TypeError, ValueError) as error:
        raise Fault([f"task: {path}: column {name} must be numbers, got {error}; convert it"]) from error
    if not np.isfinite(numbers).all():
        raise Fault([f"task: {path}: column {name} must be finite, got NaN or infinity; remove or fill them"])
    return numbers.astype(np.int64) if (numbers == np.floor(numbers)).all() else numbers
