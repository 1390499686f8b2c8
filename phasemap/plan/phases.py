"""What a trial's phase may be: the six built-in phases, or the names of the user's rule.

A rule is a function ``rule(curves, outcomes)``; its return annotation, a ``Literal``, lists the names it may return.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from phasemap.fields import Fault
from phasemap.plan.component import Component
from phasemap.plan.source import place

PHASES = ("comprehension", "grokking", "memorization", "confusion", "collapse", "diverged")
WORDS = r"[\w -]{1,100}"


def phase_names(parts: Iterable[Component]) -> tuple[str, ...]:
    """The names that trials with these components may get; ``diverged`` is always one.

    Raises:
        Fault: a rule that does not tell its names.
    """
    rule = next((part.target for part in parts if part.kind == "phases"), None)
    return PHASES if rule is None else _names(rule)


def _names(rule: Callable[..., Any]) -> tuple[str, ...]:
    answer = get_type_hints(rule).get("return")
    names = get_args(answer) if get_origin(answer) is Literal else ()
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        what = f"phases: {place(rule)}{rule.__name__} must say which names it returns, got {answer}"
        raise Fault([f'{what}; write -> Literal["early", "late"]'])
    if strange := [name for name in names if not re.fullmatch(WORDS, name)]:  # MLflow takes no other in a view's key
        what = f"phases: {place(rule)}{rule.__name__} must return names of letters, digits, spaces, - and _ alone"
        raise Fault([f"{what}, got {strange[0]!r}; rename it"])
    return tuple(dict.fromkeys([*names, "diverged"]))
