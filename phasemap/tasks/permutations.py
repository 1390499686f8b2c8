"""The symmetric group S5: its 120 elements and how they compose (the non-abelian tasks of Power et
al. 2022, arXiv 2201.02177: x y, x y x^-1 and x y x).

Element k is the k-th permutation of (0, 1, 2, 3, 4) in lexicographic order, so element 0 is the
identity. The product of a and b applies b first: (a b)(i) = a(b(i)). Nothing here draws numbers.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from phasemap.tasks.task import Task

__all__ = ("permutation_composition", "permutation_conjugation", "permutation_xyx")

DEGREE = 5
ORDER = 120


def elements() -> np.ndarray:
    """All permutations [120, 5]: row k holds where element k sends 0 … 4."""
    return np.array(list(permutations(range(DEGREE))))


def products() -> np.ndarray:
    """The multiplication table [120, 120]: entry (a, b) is the element a b."""
    sends = elements()
    digits = DEGREE ** np.arange(DEGREE)[::-1]  # read as a number, lexicographic order is numeric order
    return np.searchsorted(sends @ digits, sends[:, sends] @ digits)


def permutation_composition() -> Task:
    """x y, the product of two permutations of five things; S5 is not abelian, so it has no circle of classes"""
    return _table(products())


def permutation_conjugation() -> Task:
    """x y x^-1, for two permutations of five things"""
    product = products()
    inverse = (product == 0).argmax(1)
    return _table(product[product, inverse[:, None]])


def permutation_xyx() -> Task:
    """x y x, for two permutations of five things"""
    product = products()
    return _table(product[product, np.arange(ORDER)[:, None]])


def _table(answers: np.ndarray) -> Task:
    """All pairs (x, y) and their answers [120, 120]."""
    pairs = np.indices((ORDER, ORDER)).reshape(2, -1).T.copy()
    return Task(pairs, answers.ravel(), classes=ORDER, vocabulary=ORDER)
