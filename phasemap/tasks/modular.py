"""Arithmetic modulo p: every pair (a, b) and its result (Power et al. 2022, arXiv 2201.02177).

The operations of that paper's appendix are all here. Division alone needs a prime, and multiplication for its circle.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np

from phasemap.fields import Fault, Rule
from phasemap.tasks.task import Group, Task

__all__ = (
    "modular_addition",
    "modular_cubic",
    "modular_cubic_xy2_y",
    "modular_division",
    "modular_division_if_odd",
    "modular_multiplication",
    "modular_quadratic",
    "modular_quadratic_x",
    "modular_squares",
    "modular_subtraction",
    "random_labels",
)

LARGEST = 2_000
Modulus = Annotated[
    int,
    "p of the modular tasks",
    Rule(lambda p: p >= 2, "must be at least 2", "use a prime such as 97"),
    Rule(lambda p: p <= LARGEST, f"must be at most {LARGEST} (four million examples)", "lower it"),
]
Operands = Annotated[int, "how many numbers are added", Rule(lambda k: k >= 2, "must be at least 2", "use 2 or more")]


def modular_addition(modulus: Modulus = 97, operands: Operands = 2) -> Task:
    """(a + b + …) mod p, over all tuples of the operands"""
    if modulus**operands > LARGEST**2:
        most = int(np.log(LARGEST**2) / np.log(modulus))
        shown = f"{operands}, which gives {modulus**operands:,}"
        raise Fault([f"operands: must give at most {LARGEST**2:,} examples mod {modulus}, got {shown}; use {most}"])
    group = Group(modulus, np.arange(modulus))
    return _table(modulus, lambda *numbers: sum(numbers) % modulus, operands=operands, group=group)


def modular_subtraction(modulus: Modulus = 97) -> Task:
    """(a - b) mod p"""
    return _table(modulus, lambda a, b: (a - b) % modulus, group=Group(modulus, np.arange(modulus)))


def modular_multiplication(modulus: Modulus = 97) -> Task:
    """a b mod p, over 1 … p - 1"""
    _needs_prime("modular_multiplication", modulus)
    return _table(modulus, lambda a, b: a * b % modulus, first=1, group=multiplicative_group(modulus))


def modular_division(modulus: Modulus = 97) -> Task:
    """a / b mod p, over 1 … p - 1"""
    inverse = _inverses("modular_division", modulus)
    return _table(modulus, lambda a, b: a * inverse[b] % modulus, first=1, group=multiplicative_group(modulus))


def modular_quadratic(modulus: Modulus = 97) -> Task:
    """(a² + a b + b²) mod p: no group law"""
    return _table(modulus, lambda a, b: (a * a + a * b + b * b) % modulus)


def modular_cubic(modulus: Modulus = 97) -> Task:
    """(a³ + a b) mod p: no group law"""
    return _table(modulus, lambda a, b: (a**3 + a * b) % modulus)


def modular_squares(modulus: Modulus = 97) -> Task:
    """(a² + b²) mod p: no group law"""
    return _table(modulus, lambda a, b: (a * a + b * b) % modulus)


def modular_quadratic_x(modulus: Modulus = 97) -> Task:
    """(a² + a b + b² + a) mod p: no group law"""
    return _table(modulus, lambda a, b: (a * a + a * b + b * b + a) % modulus)


def modular_cubic_xy2_y(modulus: Modulus = 97) -> Task:
    """(a³ + a b² + b) mod p: no group law"""
    return _table(modulus, lambda a, b: (a**3 + a * b * b + b) % modulus)


def modular_division_if_odd(modulus: Modulus = 97) -> Task:
    """a / b mod p if b is odd, else a - b: no group law"""
    inverse = _inverses("modular_division_if_odd", modulus)
    return _table(modulus, lambda a, b: np.where(b % 2 == 1, a * inverse[b], a - b) % modulus)


def random_labels(modulus: Modulus = 97) -> Task:
    """The control: labels without a rule, the same for every trial"""
    drawn = np.random.default_rng(modulus).integers(0, modulus, modulus**2)
    # the labels of other examples say nothing on an unseen one
    return _table(modulus, lambda a, b: drawn, hidden_ceiling=partial(_chance, modulus))


def _chance(classes: int) -> float:
    return 1 / classes


def _table(
    p: int,
    rule: Callable[..., np.ndarray],
    first: int = 0,
    operands: int = 2,
    group: Group | None = None,
    hidden_ceiling: Callable[[], float] | None = None,
) -> Task:
    numbers = np.arange(first, p)
    columns = [grid.ravel() for grid in np.meshgrid(*[numbers] * operands, indexing="ij")]
    return Task(
        np.stack(columns, 1), rule(*columns), classes=p, vocabulary=p, group=group, hidden_ceiling=hidden_ceiling
    )


def _inverses(name: str, p: int) -> np.ndarray:
    """The inverse of each number mod a prime [p]; that of 0 is written 0."""
    _needs_prime(name, p)
    return np.array([0, *(pow(b, -1, p) for b in range(1, p))])


def _needs_prime(name: str, p: int) -> None:
    if not is_prime(p):
        above = next(n for n in range(p, 2 * p) if is_prime(n))
        raise Fault([f"modulus: {name} needs a prime, got {p}; use {above}"])
    if p < 5:
        raise Fault([f"modulus: {name} needs a prime of at least 5, got {p}; use 5 or more"])


def multiplicative_group(p: int) -> Group:
    """The numbers 1 … p - 1 under multiplication, on the circle of a generator's powers."""
    order, root, exponent = p - 1, primitive_root(p), np.full(p, -1)
    exponent[[pow(root, k, p) for k in range(order)]] = np.arange(order)
    divisors = [d for d in range(1, order + 1) if order % d == 0]
    cosets = min(d for d in divisors if d * d >= order)  # 12 cosets of 8 members for p = 97
    return Group(order, exponent, cosets)


def primitive_root(p: int) -> int:
    """The smallest generator of the multiplicative group modulo a prime (5 for 97)."""
    return next(g for g in range(1, p) if len({pow(g, k, p) for k in range(p - 1)}) == p - 1)


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
