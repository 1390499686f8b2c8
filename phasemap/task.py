"""What is learned: the complete table of examples of each task, with its classes and its group.

Numbers only (numpy): which examples a trial trains on is drawn in ``draws.py``, from the trial's
seed. A task is a pure function of its name, modulus and context.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

ADDITIVE = ("modular_addition", "modular_subtraction")
MULTIPLICATIVE = ("modular_multiplication", "modular_division")
MODULAR = (*ADDITIVE, *MULTIPLICATIVE, "random_labels")
NAMES = MODULAR


@dataclass(frozen=True)
class Group:
    """The cyclic group on the classes. ``exponent[c]`` is class c's place on the circle of
    ``order`` places, -1 for a class outside the group. ``cosets``: 0, or the number of cosets of
    the subgroup whose quotient is read as the outer circle and whose members as the inner one."""

    order: int
    exponent: np.ndarray  # [classes]
    cosets: int = 0


@dataclass(frozen=True)
class Task:
    """All examples. N examples, T tokens each."""

    tokens: np.ndarray  # [N, T] int64
    labels: np.ndarray  # [N] int64
    vocabulary: int
    classes: int
    separate_tables: bool  # one embedding table per position, or one for all
    readout: Literal["first", "last"]  # the token whose final vector is read out
    group: Group | None = None


@lru_cache(maxsize=8)
def load(name: str, modulus: int, context: int) -> Task:
    """The table of a task; the arrays are shared and must not be written to."""
    return _modular(name, modulus)


def examples(name: str, modulus: int, context: int, split: str = "examples") -> int:
    """How many examples a split divides: all of them, or the distinct inputs."""
    if split == "examples" or name in MODULAR:  # every pair stands once
        return (modulus - 1) ** 2 if name in MULTIPLICATIVE else modulus**2
    return len(np.unique(load(name, modulus, context).tokens, axis=0))


def broken_rules(name: str, modulus: int, context: int, model: str) -> list[str]:
    """What the task cannot do, as "axis: rule, got value; what to do"."""
    if name in MODULAR and modulus < 2:
        return [f"modulus: must be at least 2, got {modulus}; use a prime such as 97"]
    if name in MODULAR and not _is_prime(modulus):
        above = next(n for n in range(modulus, 2 * modulus) if _is_prime(n))
        return [f"modulus: {name} needs a prime, got {modulus}; use {above}"]
    if name in MULTIPLICATIVE and modulus < 5:
        return [f"modulus: {name} needs a prime of at least 5, got {modulus}; use 5 or more"]
    return []


def _modular(name: str, p: int) -> Task:
    numbers = np.arange(1, p) if name in MULTIPLICATIVE else np.arange(p)
    a, b = (grid.ravel() for grid in np.meshgrid(numbers, numbers, indexing="ij"))
    if name == "modular_addition":
        labels = (a + b) % p
    elif name == "modular_subtraction":
        labels = (a - b) % p
    elif name == "modular_multiplication":
        labels = a * b % p
    elif name == "modular_division":
        labels = a * np.array([pow(int(x), -1, p) for x in numbers])[b - 1] % p
    else:  # the control: labels without a rule, the same for every trial
        labels = np.random.default_rng(p).integers(0, p, len(a))
    return Task(
        tokens=np.stack([a, b], 1),
        labels=labels,
        vocabulary=p,
        classes=p,
        separate_tables=True,
        readout="first",
        group=_group(name, p),
    )


def _group(name: str, p: int) -> Group | None:
    if name in ADDITIVE:
        return Group(p, np.arange(p))
    if name not in MULTIPLICATIVE:
        return None
    order, exponent = p - 1, np.full(p, -1)
    exponent[[pow(primitive_root(p), k, p) for k in range(order)]] = np.arange(order)
    divisors = [d for d in range(1, order + 1) if order % d == 0]
    cosets = min(d for d in divisors if d * d >= order)  # 12 cosets of 8 members for p = 97
    return Group(order, exponent, cosets)


def primitive_root(p: int) -> int:
    """The smallest generator of the multiplicative group modulo a prime (5 for 97)."""
    return next(g for g in range(1, p) if len({pow(g, k, p) for k in range(p - 1)}) == p - 1)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
