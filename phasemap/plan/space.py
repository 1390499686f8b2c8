"""A search space: axes and fixed values -> trials, or all that is wrong with them at once."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

from phasemap import probes as probing
from phasemap.fields import Fault, Field
from phasemap.plan.component import Component, built_in, component, names
from phasemap.plan.idle import idle
from phasemap.plan.outcome import DEFINITIONS, WORDS
from phasemap.plan.phases import phase_names
from phasemap.plan.source import place
from phasemap.plan.trial import (
    CORE,
    SLOTS,
    Trial,
    coerce,
    known_fields,
    make_trial,
    probe_faults,
    strange_probes,
    unknown,
)
from phasemap.words import did_you_mean, nearest

MOST_VALUES = 100_000  # of one axis
MOST_TRIALS = 1_000_000
MOST_TRIED = 1_000  # cells of a sampled sweep that are checked before it starts
SAMPLERS = ("grid", "boundary", "sobol", "random", "tpe")
INSTEAD = {
    "probe": "",
    "phases": CORE["phases"].default,
}  # of one that cannot be read: what else is wrong is still seen
LIKE_A_RANGE = re.compile(r"(\d+)\s*(?:-|–|:|\.\.+)\s*(\d+)")  # 0-9, 0:9, 0...9, 9..0
HEEDED = {  # settings -> the samplers that they have an effect on
    "trials": SAMPLERS[1:],
    "sampler_seed": SAMPLERS[1:],
    "target": ("boundary",),
    "objective": ("tpe",),
    "direction": ("tpe",),
}


@dataclass(frozen=True, init=False)
class Space:
    """The axes of a sweep, its fixed values, and how points are chosen.

    Every field of a trial is a keyword: one value fixes it; a list, tuple, range, set or array makes it a grid
    axis; an Optuna distribution makes it a continuous (or integer) one. What is not named has its default.

    Args:
        task: a name, or a function that returns a ``Task``; its parameters are fields.
        model: a name, or a ``torch.nn.Module`` class whose first parameter is the task; the others are fields.
        probes: a list of names and functions ``probe(view) -> {name: [K]}``.
        phases: a function ``rule(curves, outcomes)`` whose return annotation is a ``Literal`` of its phases' names.
        sampler: ``grid`` runs every combination of the grid axes. ``boundary`` seeks the lines where
            phases meet; ``sobol``, ``random`` and ``tpe`` choose points as their names say. All but
            ``grid`` treat grid axes as sets of allowed values. An Optuna sampler object will do too.
        trials: how many trials a sampler other than ``grid`` may spend.
        target: mean uncertainty of the map, 0 to 1, at which ``boundary`` stops early.
        critical: an axis. ``boundary`` then seeks only where along it generalization becomes as likely as not, at each
            value of the other axes, until no 90 % interval is wider than ``target``, a share of the axis.
        sampler_seed: seed of the sampler.
        objective: the outcome that ``tpe`` or an Optuna sampler pursues; a trial without it counts as failed.
        direction: ``minimize`` or ``maximize`` it.
        **values: fields of a trial.
    """

    values: Mapping[str, Any]
    parts: tuple[Component, ...]  # the user's, and those of ours that the values name
    sampler: Any
    trials_wanted: int
    target: float
    critical: str
    sampler_seed: int
    objective: str
    direction: str
    problems: tuple[str, ...]  # what could not be read of the values
    namespace: Mapping[str, Any]  # what else the space file defines: names that --set may use
    given: tuple[str, ...]  # what --set named

    def __init__(
        self,
        *,
        sampler: Any = "grid",
        trials: int = 128,
        target: float = 0.0,
        critical: str = "",
        sampler_seed: int = 0,
        objective: str = "grok_step",
        direction: str = "minimize",
        **values: Any,
    ):
        parts, problems, plain = _read(values)
        settings = {"values": plain, "parts": parts, "sampler": sampler, "trials_wanted": _plain(trials)}
        settings |= {
            "target": _plain(target),
            "critical": critical,
            "sampler_seed": _plain(sampler_seed),
            "objective": objective,
            "direction": direction,
        }
        settings |= {"problems": problems, "namespace": {}, "given": ()}
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    @cached_property
    def known(self) -> dict[str, Field]:
        """All fields that may be named: ours, and those of the user's components."""
        named = {
            kind: value for kind in SLOTS for value in _listed(self.values.get(kind, ())) if self._has(kind, value)
        }
        return known_fields(named, self.parts)

    @property
    def phase_names(self) -> tuple[str, ...]:
        """What a trial's phase may be."""
        return phase_names(self.parts)

    @property
    def code(self) -> dict[str, str]:
        """Fingerprints of the user's components, as ``Trial.code``."""
        return {f"{part.kind} {part.name}": part.code for part in self.parts if part.code}

    def _has(self, kind: str, name: Any) -> bool:
        return any((part.kind, part.name) == (kind, name) for part in self.parts)

    def coerce(self, name: str, value: Any) -> Any:
        """A value in its field's type; what arithmetic leaves in a float's last digits (0.1 + 0.2) is dropped."""
        read = coerce(name, value, self.known)
        return float(f"{read:.12g}") if isinstance(read, float) and math.isfinite(read) else read

    def trial(self, values: Mapping[str, Any]) -> Trial:
        """The trial of these values, with this space's components."""
        return make_trial(values, self.parts)

    @property
    def file(self) -> str:
        """The name of its file; empty for one that was made in Python."""
        return Path(str(self.namespace.get("__file__", ""))).name

    @property
    def axes(self) -> tuple[str, ...]:
        """Fields that vary, in the order written."""
        return tuple(name for name, value in self.values.items() if _is_axis(value))

    @property
    def distributions(self) -> dict[str, Any]:
        """The continuous axes."""
        return {name: value for name, value in self.values.items() if _is_distribution(value)}

    @property
    def grid(self) -> dict[str, list[Any]]:
        """The grid axes, each value in its field's type."""
        return {
            name: [self.coerce(name, one) for one in value]
            for name, value in self.values.items()
            if _is_axis(value) and not _is_distribution(value)
        }

    @property
    def fixed(self) -> dict[str, Any]:
        """The fields that have one value, in its field's type; what cannot be read as they are."""
        return {name: self._read_or_raw(name, value) for name, value in self.values.items() if not _is_axis(value)}

    @property
    def seeds(self) -> list[int]:
        """The seeds that are written."""
        return self.grid.get("seed") or [self.fixed.get("seed", CORE["seed"].default)]

    def _read_or_raw(self, name: str, value: Any) -> Any:
        try:
            return self.coerce(name, value) if name in self.known else value
        except Fault:
            return value

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
        made, faults = [], self.faults()
        meant = {name: _meant(name, self.known, self.values) for name in self.values}
        sound = {meant[name]: values for name in self.values if (values := self._sound_values(name, meant[name]))}
        if any(kind in self.values and kind not in sound for kind in SLOTS):
            return [], faults
        if (count := math.prod(map(len, sound.values()))) > MOST_TRIALS:
            return [], [
                *faults,
                f"{', '.join(self.axes)}: must give at most {MOST_TRIALS:,} trials, got {count:,}; shorten",
            ]
        cells: dict[tuple[Any, ...], Trial | None] = {}  # the first trial of each; None where a rule is broken
        seed = list(sound).index("seed") if "seed" in sound else len(sound)
        for point in itertools.product(*sound.values()):
            cell = point[:seed] + point[seed + 1 :]
            if cell not in cells:
                cells[cell] = None
                try:
                    cells[cell] = self.trial(dict(zip(sound, point, strict=True)))
                except Fault as fault:
                    faults += fault.faults
            first = cells[cell]
            if first and "seed" in sound:
                faults += CORE["seed"].broken(point[seed])
                first = first.with_seed(point[seed])
            if first:
                made.append(first)
        return made, list(dict.fromkeys(faults + self._idle(list(filter(None, cells.values())))))

    def _idle(self, trials: list[Trial]) -> list[str]:
        """Axes that have no effect on some trial, so that cells would repeat one training, and values given on the
        command line that have none on any."""
        axes = tuple(name for name in self.axes if name in self.known)
        told = [self._idle_values(trial) for trial in trials] if self.given else []
        values = [told[0][name] for name in self.given if told and all(name in one for one in told)]
        return list(dict.fromkeys([fault for trial in trials for fault in idle(trial, axes)] + values))

    def _idle_values(self, trial: Trial) -> dict[str, str]:
        """By name, what makes the values given on the command line idle on a trial; one that says what holds anyway is
        not."""
        used = trial.fields()
        given = [name for name in self.given if name in self.fixed and name in self.known]
        telling = tuple(name for name in given if name not in used or getattr(trial, name) != used[name].default)
        return {fault.partition(":")[0]: fault for fault in idle(trial, telling)}

    def _idle_settings(self) -> list[str]:
        """Settings given on the command line that the sampler does not heed."""
        named = self.sampler if self.sampler in SAMPLERS else None
        return [
            f"{name}: has no effect with sampler {named}; leave it out, or choose another ({', '.join(HEEDED[name])})"
            for name in self.given
            if named and name in HEEDED and named not in HEEDED[name]
        ]

    def check(self) -> None:
        """Raises Fault with everything wrong with a space whose points are chosen as it goes."""
        faults = self.faults() or self._cell_faults()
        if faults:
            raise Fault(faults)

    def faults(self) -> list[str]:
        """Everything wrong with the axes and settings themselves."""
        faults = [*self.problems, *self._name_faults()]
        faults += [fault for name in self.values for fault in self._axis_faults(name)]
        optuna_sampler = hasattr(self.sampler, "sample_relative")
        if not optuna_sampler and self.sampler not in SAMPLERS:
            near = did_you_mean(self.sampler, SAMPLERS)
            law = f"sampler: must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}"
            faults.append(f"{law}; choose one of these{near}")
        elif self.sampler == "grid" and self.distributions:
            names = ", ".join(self.distributions)
            faults.append(
                f"{names}: the grid sampler takes lists only, got a distribution; write a list, or choose a sampler"
            )
        elif self.sampler != "grid" and not [name for name in self.axes if name != "seed"]:
            faults.append(f"sampler: {self.sampler} needs an axis to explore, got none; add one")
        if not isinstance(self.trials_wanted, int) or self.trials_wanted < 1:
            faults.append(f"trials: must be a whole number of at least 1, got {self.trials_wanted!r}; raise it")
        known = self.objective in DEFINITIONS or any(part.kind == "probe" for part in self.parts)
        if not known or self.objective in WORDS:
            faults.append(
                f"objective: must be a number among a trial's outcomes, got {self.objective!r}; use grok_step, say"
            )
        if not isinstance(self.sampler_seed, int) or self.sampler_seed < 0:
            faults.append(f"sampler_seed: must be a whole number of at least 0, got {self.sampler_seed!r}; raise it")
        if not self.critical and not 0 <= self.target < 1:
            faults.append(f"target: must lie in [0, 1), got {self.target!r}; use 0.05, say, or 0 for none")
        if self.direction not in ("minimize", "maximize"):
            faults.append(f"direction: must be minimize or maximize, got {self.direction!r}; choose one of these")
        return faults + self._idle_settings() + self._critical_faults() + self._library_faults() + self._part_faults()

    def _name_faults(self) -> list[str]:
        """Names of components that there are none of."""
        named = [(kind, one) for kind in SLOTS for one in _listed(self.values.get(kind, ()))]
        faults = []
        for kind, one in named:
            if self.problems or not self._strange(kind, one):  # it may be a component that is a problem already
                continue
            near = nearest(one, [*names(kind), *self._defined()])
            cure = f"choose one of these{did_you_mean(one, names(kind))}"
            if near and near not in names(kind):
                cure = f"choose one of these, or write {kind}={near}, which the file defines"
            faults.append(f"{kind}: must be one of {', '.join(names(kind))}, got {one!r}; {cure}")
        probes = self.values.get("probes")
        return faults + (probe_faults(probes, self.parts, self._defined()) if isinstance(probes, str) else [])

    def _strange(self, kind: str, name: Any) -> bool:
        return isinstance(name, str) and ":" not in name and name not in names(kind) and not self._has(kind, name)

    def _defined(self) -> list[str]:
        """Names of the functions and classes that the file defines."""
        home = self.namespace.get("__name__")
        theirs = {name: one for name, one in self.namespace.items() if isinstance(one, (type, FunctionType))}
        return [name for name, one in theirs.items() if one.__module__ == home]

    def _critical_faults(self) -> list[str]:
        """What keeps the sampler from seeking a critical value."""
        if not self.critical:
            return []
        numbers = [
            name
            for name in self.axes
            if name != "seed" and name in self.known and self.known[name].kind in (int, float)
        ]
        faults = []
        if self.sampler != "boundary":
            faults.append(f'critical: needs the boundary sampler, got {self.sampler!r}; write sampler="boundary"')
        if self.critical not in numbers:
            faults.append(
                f"critical: must be an axis of numbers ({', '.join(numbers) or 'there is none'}), got "
                f"{self.critical!r}; use one of these{did_you_mean(self.critical, numbers)}"
            )
        if not 0 < self.target < 1:
            faults.append(
                f"target: must lie between 0 and 1 where critical is given, got {self.target!r}; use 0.1, say"
            )
        if any(part.kind == "phases" for part in self.parts):
            faults.append("critical: needs the phases of liu, got a rule of your own; leave phases out")
        return faults

    def _part_faults(self) -> list[str]:
        """Components that cannot travel to a worker, or a rule that does not tell its names."""
        faults = []
        for part in self.parts:
            try:
                part.check_travels()
            except Fault as fault:
                faults += fault.faults
        try:
            _ = self.phase_names
        except Fault as fault:
            faults += fault.faults
        return faults

    def _library_faults(self) -> list[str]:
        """Probes whose library is not installed here, where the sweep is started."""
        asked = str(self.values.get("probes", "")).split("+")
        return [
            f"probes: {name} needs {package}, which is not installed; pip install {package}, or leave {name} out"
            for name, (module, package) in probing.needs().items()
            if name in asked and find_spec(module) is None
        ]

    def _cell_faults(self) -> list[str]:
        """Rules broken by what the axes may hold, each once: continuous ones at their ends, the others value by value,
        in every combination unless these are too many."""
        faults, made = [], []
        for cell in self._tried():
            try:
                made.append(self.trial({**self.fixed, **cell}))
            except Fault as fault:
                faults += fault.faults
        laws = {fault.partition(", got ")[0]: fault for fault in reversed(faults + self._idle(made))}
        return list(reversed(laws.values()))

    def _tried(self) -> Iterable[dict[str, Any]]:
        held = self._held()
        if math.prod(map(len, held.values())) <= MOST_TRIED:
            return (dict(zip(held, cell, strict=True)) for cell in itertools.product(*held.values()))
        start = {name: values[0] for name, values in held.items()}
        return ({**start, name: value} for name, values in held.items() for value in values)

    def _held(self) -> dict[str, tuple[Any, ...]]:
        """Of each axis its values, of a continuous one both ends."""
        held: dict[str, tuple[Any, ...]] = {name: tuple(values) for name, values in self.grid.items()}
        for name, axis in self.distributions.items():
            held[name] = tuple(axis.choices) if hasattr(axis, "choices") else (axis.low, axis.high)
            if isinstance(getattr(axis, "low", None), int):
                values = range(axis.low, axis.high + 1, axis.step)
                held[name] = tuple(values[:: -(-len(values) // MOST_TRIED)])
        return held

    def _ends(self) -> dict[str, tuple[Any, ...]]:
        """The first and the last value of each axis."""
        ends: dict[str, tuple[Any, ...]] = {name: (values[0], values[-1]) for name, values in self.grid.items()}
        for name, axis in self.distributions.items():
            ends[name] = (
                tuple(axis.choices[:: max(len(axis.choices) - 1, 1)])
                if hasattr(axis, "choices")
                else (axis.low, axis.high)
            )
        return ends

    def corners(self) -> list[Trial]:
        """The trials with every axis at its first value, and at its last."""
        return [self.trial({**self.fixed, **{n: both[k] for n, both in self._ends().items()}}) for k in (0, -1)]

    def override(self, given: Iterable[str]) -> Space:
        """A copy with ``field=value[,value…]`` applied; ``field=0..9`` is a range of whole numbers.

        Raises:
            Fault: what could not be read, here or in the space.
        """
        if self.problems:
            raise Fault(list(self.problems))
        values, settings, faults = self._components_back(), self._settings(), []
        pairs = [(text, *(part.strip() for part in text.partition("="))) for text in given]
        for text, name, sign, listed in sorted(pairs, key=lambda pair: pair[1] not in SLOTS):  # components bring fields
            fields = Space(**{kind: values[kind] for kind in SLOTS if kind in values}).known
            if not listed and not (sign and _may_be_empty(name, settings, fields)):
                faults.append(f"--set {text}: must read field=value or field=value,value; write it so")
                continue
            if name in settings:
                kind = str if name == "sampler" else type(settings[name])
                try:
                    settings[name] = kind(listed)
                except ValueError:
                    faults.append(f"--set {name}: must be of type {kind.__name__}, got {listed!r}; correct it")
                continue
            try:
                values[name] = _parsed(name, listed, fields, self.namespace)
            except Fault as fault:
                faults += [f"--set {one}" for one in fault.faults]
                if (meant := _meant(name, fields, values)) != name:
                    with suppress(Fault):
                        values[meant] = _parsed(meant, listed, fields, self.namespace)
        changed = Space(**settings, **values)
        object.__setattr__(changed, "namespace", self.namespace)
        object.__setattr__(changed, "given", tuple(dict.fromkeys([*self.given, *(name for _, name, *_ in pairs)])))
        if faults:
            others = changed._cells()[1] if changed.sampler == "grid" else changed.faults() or changed._cell_faults()
            raise Fault(list(dict.fromkeys(faults + others)))
        return changed

    def _components_back(self) -> dict[str, Any]:
        """The values as they were given, with components in place of their names."""
        mine = {(part.kind, part.name): part for part in self.parts}
        values = dict(self.values)
        for kind in SLOTS:
            if kind in values:
                listed = [mine.get((kind, one), one) for one in _listed(values[kind])]
                values[kind] = listed if _is_axis(values[kind]) else listed[0]
        if "probes" in values:
            values["probes"] = [mine.get(("probe", one), one) for one in values["probes"].split("+") if one]
        if "phases" in values:
            values["phases"] = mine.get(("phases", values["phases"]), values["phases"])
        return values

    def _axis_faults(self, name: str) -> list[str]:
        value = self.values[name]
        if name not in self.known:
            return [unknown(name, value, self.known)]
        if _is_distribution(value):
            return _distribution_faults(self.known[name], value)
        if not _is_axis(value):
            value = [value]
        if not len(value):
            return [f"{name}: an axis needs a value, got an empty one; add a value or remove the axis"]
        if _too_long(value):
            return [f"{name}: an axis may have {MOST_VALUES:,} values, got {len(value):,}; shorten it"]
        try:
            counts = Counter(self.coerce(name, one) for one in value)
        except Fault as fault:
            return fault.faults
        return [
            f"{name}: values must differ, or cells would be doubled, got {one!r} {count} times; keep one"
            for one, count in counts.items()
            if count > 1
        ]

    def _sound_values(self, name: str, meant: str) -> list[Any]:
        """What can be read of an axis or a fixed value as the field ``meant``, each once, so that one fault does not
        hide others. Of an axis that is too long the first one will do."""
        value, sound = self.values[name], []
        if name == "probes" and isinstance(value, str):
            strange = strange_probes(value, self.parts)
            return ["+".join(one for one in value.split("+") if one not in strange)]
        for one in _listed(value[:1] if _is_axis(value) and _too_long(value) else value):
            try:
                sound += [self.coerce(meant, one)] if name not in SLOTS or not self._strange(name, one) else []
            except Fault:
                continue
        return list(dict.fromkeys(sound))

    def _settings(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler,
            "trials": self.trials_wanted,
            "target": self.target,
            "critical": self.critical,
            "sampler_seed": self.sampler_seed,
            "objective": self.objective,
            "direction": self.direction,
        }


def _read(values: Mapping[str, Any]) -> tuple[tuple[Component, ...], tuple[str, ...], dict[str, Any]]:
    """Components, faults, and plain values of what a space was given."""
    parts: dict[tuple[str, str], Component] = {}
    problems: list[str] = []

    def named(kind: str, value: Any) -> Any:
        if kind in ("probe", "phases") and isinstance(value, str) and ":" not in value:
            return value
        if kind in SLOTS and isinstance(value, str) and ":" not in value and value not in names(kind):
            return value  # the rules say so
        if kind in SLOTS and not isinstance(value, (str, Component)) and not callable(value):
            return value
        try:
            part = component(kind, value)
        except Fault as fault:
            problems.extend(fault.faults)
            return INSTEAD.get(kind, getattr(value, "__name__", type(value).__name__))
        parts[kind, part.name] = part
        return part.name

    plain = {name: _plain(value) for name, value in values.items()}
    for kind in (kind for kind in SLOTS if kind in plain):
        listed = [named(kind, one) for one in _listed(plain[kind])]
        plain[kind] = listed if _is_axis(plain[kind]) else listed[0]
    if "probes" in plain and not isinstance(plain["probes"], str):
        plain["probes"] = "+".join(str(named("probe", one)) for one in _listed(plain["probes"]))
    if "phases" in plain:
        plain["phases"] = named("phases", plain["phases"])
    users = tuple(part for part in parts.values() if part.code)
    return users, tuple(problems + _clashes(users, _built_in(plain))), plain


def _built_in(plain: Mapping[str, Any]) -> list[Component]:
    """The components of ours that the values choose."""
    named = [(kind, one) for kind in SLOTS for one in _listed(plain.get(kind, CORE[kind].default))]
    return [built_in(kind, one) for kind, one in named if one in names(kind)]


def _clashes(parts: Sequence[Component], others: Sequence[Component]) -> list[str]:
    """Fields of the user's components that something else has already: one value would go to both."""
    faults = []
    for n, part in enumerate(parts):
        for field in part.fields:
            owners = [one for one in (*others, *parts[:n]) if field.name in (own.name for own in one.fields)]
            other = next((one for one in owners if one.kind != part.kind), None)
            if field.name in CORE or field.name in DEFINITIONS or other:
                whose = "of every trial" if field.name in CORE else f"of {other.name}" if other else ""
                whose = "an outcome" if field.name in DEFINITIONS else whose
                faults.append(
                    f"{part.kind}: {place(part.target)}parameter {field.name} of {part.name} needs a name of its own, "
                    f"got one that is {whose}; rename it"
                )
    return faults


def _plain(value: Any) -> Any:
    """Arrays, series, sets and generators as lists."""
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=lambda one: (isinstance(one, str), one))
    if inspect.isgenerator(value) or isinstance(value, (map, filter, zip)) or type(value).__name__ == "dict_keys":
        return list(itertools.islice(value, MOST_VALUES + 1))
    return value


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, range)) else [value]


def _meant(name: str, known: Mapping[str, Field], taken: Mapping[str, Any]) -> str:
    """The field that a mistyped name is nearest to, so that one mistake does not break a further rule."""
    near = name if name in known else nearest(name, known)
    return near if near and near not in taken else name


def _parsed(name: str, listed: str, known: Mapping[str, Field], namespace: Mapping[str, Any]) -> Any:
    """What ``value[,value…]`` says: a list where it is more than one."""
    one_by_one = [part.strip() for long in listed.split(",") for part in _range(long)]
    parsed = [_parsed_one(name, text, known, namespace) for text in one_by_one]
    return parsed if len(parsed) > 1 else parsed[0]


def _parsed_one(name: str, text: str, known: Mapping[str, Field], namespace: Mapping[str, Any]) -> Any:
    if name in SLOTS and text not in names(name) and callable(namespace.get(text)):
        return namespace[text]
    if name in (*SLOTS, "probes", "phases"):
        return text
    if name in known and known[name].kind is int and (ends := LIKE_A_RANGE.fullmatch(text)):
        low, high = sorted(map(int, ends.groups()))
        raise Fault([f"{name}: a range must read smallest..largest, got {text!r}; write {low}..{high}"])
    return coerce(name, text, known)


def _may_be_empty(name: str, settings: Mapping[str, Any], known: Mapping[str, Field]) -> bool:
    """Whether the empty text is a value of it."""
    kind = type(settings[name]) if name in settings else known[name].kind if name in known else None
    return kind is str and name not in SLOTS


def _is_distribution(value: Any) -> bool:
    return type(value).__name__.endswith("Distribution") and hasattr(value, "single")


def _distribution_faults(field: Field, axis: Any) -> list[str]:
    if field.name == "seed":
        return [f"seed: must be a value or a list, got {axis!r}; leave it out: every trial has a seed of its own"]
    if axis.single():
        return [f"{field.name}: an axis needs two values, got {axis!r}; write the value itself"]
    if field.kind is int and isinstance(getattr(axis, "low", 0), float):
        return [f"{field.name}: must be whole numbers, got {axis!r}; use an IntDistribution"]
    return []


def _is_axis(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) or _is_distribution(value)


def _too_long(axis: Any) -> bool:
    return not _is_distribution(axis) and len(axis) > MOST_VALUES


def _range(text: str) -> Iterable[str]:
    first, dots, last = (part.strip() for part in text.partition(".."))
    if dots and first.isdigit() and last.isdigit() and int(first) <= int(last):
        most = min(int(last), int(first) + MOST_VALUES)  # a fault follows
        return (str(n) for n in range(int(first), most + 1))
    return (text,)
