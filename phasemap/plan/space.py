"""A search space: axes and fixed values -> trials. Reads a ``search_spaces/*.py``, reports all its faults at once."""

from __future__ import annotations

import itertools
import runpy
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from phasemap.plan.outcome import DEFINITIONS
from phasemap.plan.trial import FIELDS, Fault, Trial, coerce, make_trial
from phasemap.probes import needs

MOST_FAULTS = 20  # printed; the rest is counted
SAMPLERS = ("grid", "boundary", "sobol", "random", "tpe")


@dataclass(frozen=True, init=False)
class Space:
    """The axes of a sweep, its fixed values, and how points are chosen.

    Every field of a trial is a keyword: one value fixes it; a list, tuple or range makes it a grid
    axis; an Optuna distribution makes it a continuous (or integer) one. What is not named has the
    default of ``Trial``.

    Args:
        sampler: ``grid`` runs every combination of the grid axes. ``boundary`` seeks the lines where
            phases meet; ``sobol``, ``random`` and ``tpe`` choose points as their names say. All but
            ``grid`` treat grid axes as sets of allowed values. An Optuna sampler object will do too.
        trials: how many trials a sampler other than ``grid`` may spend.
        target: mean uncertainty of the map, 0 to 1, at which ``boundary`` stops early.
        sampler_seed: seed of the sampler.
        objective: the outcome that ``tpe`` or an Optuna sampler pursues; a trial without it counts as failed.
        direction: ``minimize`` or ``maximize`` it.
        **values: fields of a trial.
    """

    values: Mapping[str, Any]
    sampler: Any
    trials_wanted: int
    target: float
    sampler_seed: int
    objective: str
    direction: str

    def __init__(
        self,
        *,
        sampler: Any = "grid",
        trials: int = 128,
        target: float = 0.0,
        sampler_seed: int = 0,
        objective: str = "grok_step",
        direction: str = "minimize",
        **values: Any,
    ):
        said = {"values": dict(values), "sampler": sampler, "trials_wanted": trials, "target": target}
        said |= {"sampler_seed": sampler_seed, "objective": objective, "direction": direction}
        for name, value in said.items():
            object.__setattr__(self, name, value)

    @property
    def axes(self) -> tuple[str, ...]:
        """Fields that vary, in the order written."""
        return tuple(name for name, value in self.values.items() if _is_axis(value))

    @property
    def distributions(self) -> dict[str, Any]:
        """The continuous axes."""
        return {name: value for name, value in self.values.items() if _is_distribution(value)}

    @property
    def grid(self) -> dict[str, list]:
        """The grid axes, each value in its field's type."""
        return {
            name: [coerce(name, one) for one in value]
            for name, value in self.values.items()
            if _is_axis(value) and not _is_distribution(value)
        }

    @property
    def fixed(self) -> dict[str, Any]:
        return {name: value for name, value in self.values.items() if not _is_axis(value)}

    def trials(self) -> list[Trial]:
        """All trials of the grid, the last axis varying fastest.

        Raises:
            Fault: every broken rule of every axis and cell.
        """
        made, faults = self._cells()
        if faults:
            raise Fault(faults)
        return made

    def _cells(self) -> tuple[list[Trial], list[str]]:
        """Trials of all combinations of what is sound, and every fault of axes and cells."""
        sound = {name: values for name, value in self.values.items() if (values := _sound_values(name, value))}
        made, faults = [], self.faults()
        for point in itertools.product(*sound.values()):
            try:
                made.append(make_trial(dict(zip(sound, point, strict=True))))
            except Fault as fault:
                faults += fault.faults
        return made, list(dict.fromkeys(faults))

    def check(self) -> None:
        """Raises Fault with everything wrong with a space whose points are chosen as it goes."""
        faults = self.faults() or self._corner_faults()
        if faults:
            raise Fault(faults)

    def faults(self) -> list[str]:
        """Everything wrong with the axes and settings themselves."""
        faults = [fault for name, value in self.values.items() for fault in _axis_faults(name, value)]
        optuna_sampler = hasattr(self.sampler, "sample_relative")
        if not optuna_sampler and self.sampler not in SAMPLERS:
            faults.append(f"sampler: must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}; choose one of these")
        elif self.sampler == "grid" and self.distributions:
            names = ", ".join(self.distributions)
            faults.append(
                f"{names}: the grid sampler takes lists only, got a distribution; write a list, or choose a sampler"
            )
        elif self.sampler != "grid" and not [name for name in self.axes if name != "seed"]:
            faults.append(f"sampler: {self.sampler} needs an axis to explore, got none; add one")
        if not isinstance(self.trials_wanted, int) or self.trials_wanted < 1:
            faults.append(f"trials: must be a whole number of at least 1, got {self.trials_wanted!r}; raise it")
        if self.objective not in DEFINITIONS:
            faults.append(f"objective: must be an outcome of a trial, got {self.objective!r}; use grok_step, say")
        if self.direction not in ("minimize", "maximize"):
            faults.append(f"direction: must be minimize or maximize, got {self.direction!r}; choose one of these")
        return faults + self._library_faults()

    def _library_faults(self) -> list[str]:
        """Probes whose library is not installed here, where the sweep is started."""
        asked = self.values.get("probes", "")
        names = "+".join(asked if isinstance(asked, (list, tuple)) else [str(asked)]).split("+")
        return [
            f"probes: {name} needs {package}, which is not installed; pip install {package}, or leave {name} out"
            for name, (module, package) in needs().items()
            if name in names and find_spec(module) is None
        ]

    def _corner_faults(self) -> list[str]:
        """Rules broken at either end of an axis, the others at their starts."""
        ends = {name: (values[0], values[-1]) for name, values in self.grid.items()}
        for name, axis in self.distributions.items():
            ends[name] = (
                tuple(axis.choices[:: max(len(axis.choices) - 1, 1)])
                if hasattr(axis, "choices")
                else (axis.low, axis.high)
            )
        start, faults = {name: both[0] for name, both in ends.items()}, []
        for name, both in ends.items():
            for end in both:
                try:
                    make_trial({**self.fixed, **start, name: end})
                except Fault as fault:
                    faults += fault.faults
        return list(dict.fromkeys(faults))

    def override(self, said: Iterable[str]) -> Space:
        """A copy with ``field=value[,value…]`` applied; ``field=0..9`` is a range of whole numbers.

        Raises:
            Fault: what could not be read.
        """
        values, settings, faults = dict(self.values), self._settings(), []
        for text in said:
            name, equals, listed = text.partition("=")
            name = name.strip()
            if not equals or not listed:
                faults.append(f"--set {text}: must read field=value or field=value,value; write it so")
            elif name in settings:
                kind = str if name == "sampler" else type(settings[name])
                try:
                    settings[name] = kind(listed)
                except ValueError:
                    faults.append(f"--set {name}: must be of type {kind.__name__}, got {listed!r}; correct it")
            else:
                try:
                    parsed = [coerce(name, one.strip()) for part in listed.split(",") for one in _range(part)]
                    values[name] = parsed if len(parsed) > 1 else parsed[0]
                except Fault as fault:
                    faults += [f"--set {one}" for one in fault.faults]
        if faults:
            raise Fault(faults)
        return Space(**settings, **values)

    def _settings(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler,
            "trials": self.trials_wanted,
            "target": self.target,
            "sampler_seed": self.sampler_seed,
            "objective": self.objective,
            "direction": self.direction,
        }


def load(path: Path) -> Space:
    """The one Space of a file.

    Raises:
        Fault: the file is missing, raises, or does not hold exactly one Space.
    """
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.py"))[:MOST_FAULTS] if path.parent.is_dir() else []
        raise Fault([f"must be a file, found none; {'there are ' + ', '.join(near) if near else 'check the path'}"])
    try:
        content = runpy.run_path(str(path))
    except Exception as error:  # anything a user's file may raise
        line = (
            error.lineno
            if isinstance(error, SyntaxError)
            else next(
                (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), "?"
            )
        )
        if isinstance(error, Fault):
            raise
        raise Fault([f"line {line}: must run, raised {type(error).__name__}: {error}; mend it"]) from error
    spaces = {name: value for name, value in content.items() if isinstance(value, Space)}
    if len(spaces) != 1:
        found = ", ".join(spaces) or "none"
        raise Fault([f"must hold exactly one phasemap.Space, found {found}; write `space = Space(...)`"])
    return next(iter(spaces.values()))


def explain(where: str, fault: Fault) -> str:
    """The message a person reads: every fault on a line, with the file it stands in."""
    shown = [f"{where}: {line}" for line in fault.faults[:MOST_FAULTS]]
    more = len(fault.faults) - len(shown)
    return "\n".join(shown + ([f"{where}: and {more} more"] if more > 0 else []))


def _axis_faults(name: str, value: Any) -> list[str]:
    if name not in FIELDS:
        return [f"{name}: not a field of a trial, got {value!r}; use one of {', '.join(f.name for f in fields(Trial))}"]
    if _is_distribution(value):
        return []
    listed = value if _is_axis(value) else [value]
    if not len(listed):
        return [f"{name}: an axis needs a value, got an empty one; add a value or remove the axis"]
    try:
        counts = Counter(coerce(name, one) for one in listed)
    except Fault as fault:
        return fault.faults
    return [
        f"{name}: values must differ, or cells would be doubled, got {one!r} {count} times; keep one"
        for one, count in counts.items()
        if count > 1
    ]


def _sound_values(name: str, value: Any) -> list[Any]:
    """What can be read of an axis or a fixed value, each once, so that one fault does not hide others."""
    found = []
    for one in value if _is_axis(value) and not _is_distribution(value) else [value]:
        try:
            found.append(coerce(name, one))
        except Fault:
            continue
    return list(dict.fromkeys(found))


def _is_distribution(value: Any) -> bool:
    return type(value).__name__.endswith("Distribution") and hasattr(value, "single")


def _is_axis(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) or _is_distribution(value)


def _range(text: str) -> Iterable[str]:
    first, dots, last = text.partition("..")
    if dots and first.strip().isdigit() and last.strip().isdigit() and int(first) <= int(last):
        return (str(n) for n in range(int(first), int(last) + 1))
    return (text,)
