"""The symmetric group S5: its 120 elements and how they compose (the non-abelian task of Power et
al. 2022, arXiv 2201.02177).

Element k is the k-th permutation of (0, 1, 2, 3, 4) in lexicographic order, so element 0 is the
identity. The product of a and b applies b first: (a b)(i) = a(b(i)). Nothing here draws numbers.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from phasemap.tasks.task import Task

__all__ = ("permutation_composition",)

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
    """The product of two permutations of five things; S5 is not abelian, so it has no circle of classes"""
    pairs = np.indices((ORDER, ORDER)).reshape(2, -1).T.copy()
    return Task(pairs, products().ravel(), classes=ORDER, vocabulary=ORDER)
