"""What the options of the command must obey, in one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from phasemap.fields import Rule

LONGEST = 200  # bytes of a name, which becomes a folder's

NAME = Rule(
    lambda name: name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\:*?\"<>|%#'`"),
    "must be the name of one folder, without / \\ : * ? \" < > | % # ' `",
    "use letters, digits, - _ and .",
)
SHORT = Rule(lambda name: len(name.encode()) <= LONGEST, f"must have at most {LONGEST} bytes", "shorten it")
PLACE = Rule(lambda place: place.strip() != "" and "\0" not in place, "must be a folder or URI", "name one")
RULES: dict[str, tuple[Rule, ...]] = {
    "name": (NAME, SHORT),
    "stack_size": (Rule(lambda n: n >= 0, "must not be negative", "use a number of trials, or 0 to choose by shape"),),
    "cpus_per_stack": (Rule(lambda n: 0 < n < math.inf, "must be positive", "use 1 core, or more"),),
    "gpus_per_stack": (
        Rule(lambda n: 0 < n < math.inf, "must be positive", "use a share such as 0.5; --device cpu needs no GPU"),
    ),
    "checkpoint_every": (Rule(lambda s: 0 <= s < math.inf, "must be 0 seconds or more", "use 60"),),
    "storage": (PLACE,),
    "tracking_uri": (PLACE,),
}


def check(options: Mapping[str, Any]) -> None:
    """Raises ValueError with a line for each option that breaks its rule; an option that is None was not given."""
    broken = []
    for name, rules in RULES.items():
        value = options.get(name)
        rule = next((rule for rule in rules if value is not None and not rule.holds(value)), None)
        if rule:
            broken.append(f"--{name.replace('_', '-')}: {rule.law}, got {value!r}; {rule.cure}")
    if broken:
        raise ValueError("\n".join(broken))
