"""Fields of a trial, read from the signature of whatever they belong to.

A parameter is a field: its annotation is the type, ``Literal`` the choices, a text inside ``Annotated`` the help, a
``Rule`` inside it what must hold. Our own tasks, networks and optimizers are read by the same functions as the user's.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from phasemap.words import did_you_mean

KINDS = (bool, int, float, str)
SPELLED = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
REQUIRED: Any = inspect.Parameter.empty  # the default of a field that has none


class Fault(ValueError):
    """Bad input: one message with every fault, each saying where, the rule, what was got, what to do."""

    def __init__(self, faults: list[str]):
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Rule:
    """What a value must obey: ``law`` and ``cure`` are the words of the message."""

    holds: Callable[[Any], bool]
    law: str
    cure: str


POSITIVE_COUNT = Rule(lambda n: n >= 1, "must be at least 1", "use a positive whole number")
NOT_NEGATIVE = Rule(lambda n: n >= 0, "must not be negative", "use 0 or more")
POSITIVE = Rule(lambda x: x > 0, "must be positive", "use a number above 0")
ACCURACY = Rule(lambda x: 0 < x <= 1, "must lie in (0, 1]", "use an accuracy such as 0.9")
SHARE_BELOW_ONE = Rule(lambda x: 0 <= x < 1, "must lie in [0, 1)", "use a number such as 0.9")


@dataclass(frozen=True)
class Field:
    """One setting of a trial."""

    name: str
    kind: type
    default: Any
    help: str = ""
    choices: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    def coerce(self, value: object) -> Any:
        """The value in the field's own type; text is parsed, so that values can come from the command line.

        Raises:
            Fault: it cannot be read so.
        """
        try:
            return _read(self.kind, value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            like = "" if self.default is REQUIRED or self.kind is bool else f" such as {self.default!r}"
            law = f"must be of type {self.kind.__name__}, got {value!r}; write {SPELLED[self.kind]}{like}"
            raise Fault([f"{self.name}: {law}"]) from None

    def broken(self, value: Any) -> list[str]:
        """The rules that the value, already of the field's type, breaks."""
        if self.kind is float and not math.isfinite(value):
            return [f"{self.name}: must be a finite number, got {value!r}; remove it"]
        if self.choices and value not in self.choices:
            near = did_you_mean(value, self.choices)
            return [f"{self.name}: must be one of {', '.join(self.choices)}, got {value!r}; choose one of these{near}"]
        broken = (rule for rule in self.rules if not rule.holds(value))
        return [f"{self.name}: {rule.law}, got {value!r}; {rule.cure}" for rule in broken][:1]

    def canonical(self, value: Any) -> Any:
        """2 and 2.0, 0.0 and -0.0 are one value of a float field."""
        return float(value) + 0.0 if self.kind is float else value


def _read(kind: type, value: Any) -> Any:
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str) and kind is not str:
        text = value.strip().lower().replace("_", "").removeprefix("+")
        value = float(text) if kind is float else json.loads(text)
    if kind is bool and isinstance(value, bool):
        return value
    if isinstance(value, bool):
        raise TypeError
    if kind is str and isinstance(value, str):
        return value
    if kind is int and isinstance(value, int):
        return int(value)
    if kind in (int, float) and isinstance(value, (int, float)):
        number = float(value)
        if kind is float:
            return number
        if number == int(number):
            return int(number)
    raise TypeError


def read_fields(target: Any, given: tuple[str, ...] = (), where: str = "") -> tuple[Field, ...]:
    """The fields of a function's or class's parameters; those named in ``given`` are passed by the caller.

    Args:
        where: file and line of the target, for the message.

    Raises:
        Fault: parameters that cannot be fields, all at once.
    """
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    return fields_from(target.__name__, inspect.signature(target).parameters, hints, given, where)


def fields_from(
    owner: str,
    parameters: Mapping[str, inspect.Parameter],
    hints: Mapping[str, Any],
    given: tuple[str, ...],
    where: str,
) -> tuple[Field, ...]:
    """As ``read_fields``, from parameters and their type hints."""
    fields, faults = [], []
    for parameter in parameters.values():
        if parameter.name in given:
            continue
        try:
            fields.append(_field(parameter, hints.get(parameter.name, REQUIRED)))
        except TypeError as error:
            faults.append(f"{where}parameter {parameter.name} of {owner}: {error}")
    if faults:
        raise Fault(faults)
    return tuple(fields)


def _field(parameter: inspect.Parameter, hint: Any) -> Field:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise TypeError("must be named, because it becomes a field of a trial, got *; write each parameter out")
    if hint is REQUIRED and parameter.default is REQUIRED:
        raise TypeError("must have an annotation or a default, got neither; write it as in `width: int = 64`")
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    bare = get_args(hint)[0] if extras else hint
    choices = get_args(bare) if get_origin(bare) is Literal else ()
    kind = str if choices else type(parameter.default) if bare is REQUIRED else bare
    if kind not in KINDS or not all(isinstance(choice, str) for choice in choices):
        raise TypeError(
            f"must be of type bool, int, float or str, got {getattr(kind, '__name__', kind)}; use one of these"
        )
    words = " ".join(one for one in extras if isinstance(one, str))
    rules = tuple(one for one in extras if isinstance(one, Rule))
    field = Field(parameter.name, kind, parameter.default, words, choices, rules)
    if field.default is REQUIRED:
        return field
    try:
        default = field.coerce(field.default)
    except Fault:
        raise TypeError(
            f"its default must be of type {kind.__name__}, got {field.default!r}; correct one of them"
        ) from None
    return Field(parameter.name, kind, default, words, choices, rules)
