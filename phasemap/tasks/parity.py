"""Sparse parity: the parity of the first three of n bits (Barak et al. 2022, arXiv 2207.08799)."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from phasemap.fields import POSITIVE_COUNT, Fault
from phasemap.tasks.task import Task

__all__ = ("sparse_parity",)

RELEVANT = 3  # bits
MOST_EXAMPLES = 4096
Context = Annotated[int, "tokens shown by the sequence tasks, bits of sparse parity", POSITIVE_COUNT]


def sparse_parity(context: Context = 16) -> Task:
    """All inputs up to 12 bits; beyond, 4,096 of them, the same for every trial"""
    if not RELEVANT <= context <= 20:
        raise Fault([f"context: sparse_parity needs {RELEVANT} to 20 bits, got {context}; use 12"])
    everything, wanted = 2**context, min(2**context, MOST_EXAMPLES)
    numbers = np.sort(np.random.default_rng(context).choice(everything, wanted, replace=False))
    bits = numbers[:, None] >> np.arange(context) & 1
    # a table for each position, so that an MLP that sums its token vectors can tell the bits apart
    return Task(bits, bits[:, :RELEVANT].sum(1) % 2, classes=2, vocabulary=2, readout="last")
