"""What a space asks for, in a form that the record keeps, and whether a recorded trial belongs to it.

One experiment may hold trials of other budgets, of other fixed values, or of values that an axis has lost since. They
are no further seeds of the map that was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from phasemap.plan.space import Space
from phasemap.plan.trial import CORE, FIELDS

MOST_CHARACTERS = 2_000  # of a space; MLflow takes 8,000 of a tag, which all files of a sweep share

# Of each field its values as text, {"values": […]}, or the ends of numbers, {"from": …, "to": …}.
Asked = Mapping[str, Mapping[str, Any]]

_DEFAULTS = {name: str(field.default) for name, field in FIELDS.items()}


def asked(space: Space) -> dict[str, dict[str, Any]]:
    """What a space asks of the fields that it names, and of those of its own components; all others have their
    defaults."""
    domains = {name: _listed(defaults) for name, defaults in _own_defaults(space).items()}
    for name, value in space.fixed.items():  # also as written: sampled trials were once recorded with all its digits
        domains[name] = _listed([value, *([space.values[name]] if isinstance(value, float) else [])])
    domains |= {name: _listed(values) for name, values in space.grid.items()}
    domains |= {name: _range(space, name, axis) for name, axis in space.distributions.items()}
    if space.sampler != "grid":  # the sampler takes as many seeds as it needs, from those written on
        domains["seed"] = _bounds([*space.seeds, 2**53])
    if len(json.dumps(domains)) > MOST_CHARACTERS:
        domains |= {name: _bounds(values) for name, values in space.grid.items() if _numbers(values)}
    return domains


def strays(wanted: Asked, params: Mapping[str, str]) -> list[str]:
    """Names of the fields whose recorded value (text) the space does not ask for; none where the trial belongs to it.

    A field that the trial does not have is one of another network's or task's, or younger than the trial.
    """
    values = {name: _DEFAULTS[name] for name in CORE} | dict(params)
    others = [name for name, value in values.items() if name not in wanted and value != _DEFAULTS.get(name, value)]
    return [name for name, one in wanted.items() if name in values and not _holds(one, values[name])] + others


def _own_defaults(space: Space) -> dict[str, list[Any]]:
    """Of the fields of the user's components; one that a network of ours has too may have the default of either."""
    by_name: dict[str, list[Any]] = {}
    for part in space.parts:
        for field in part.fields:
            ours = [FIELDS[field.name].default] if field.name in FIELDS else []
            by_name.setdefault(field.name, ours).append(field.default)
    return {name: list(dict.fromkeys(defaults)) for name, defaults in by_name.items()}


def _range(space: Space, name: str, axis: Any) -> dict[str, Any]:
    """Of an Optuna distribution."""
    if hasattr(axis, "choices"):
        return _listed([space.coerce(name, one) for one in axis.choices])
    return _bounds([space.coerce(name, end) for end in (axis.low, axis.high)])


def _listed(values: list[Any]) -> dict[str, Any]:
    whole = [one for one in values if type(one) is int]
    if len(whole) == len(values) > 2 and sorted(whole) == list(range(min(whole), max(whole) + 1)):
        return _bounds(whole)
    return {"values": [str(one) for one in values]}


def _bounds(values: list[Any]) -> dict[str, Any]:
    return {"from": min(values), "to": max(values)}


def _numbers(values: list[Any]) -> bool:
    return all(type(one) in (int, float) for one in values)


def _holds(wanted: Mapping[str, Any], value: str) -> bool:
    if "values" in wanted:
        return value in wanted["values"]
    try:
        return bool(wanted["from"] <= float(value) <= wanted["to"])
    except ValueError:
        return False
