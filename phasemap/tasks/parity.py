"""Sparse parity: the parity of the first k of n bits (Barak et al. 2022, arXiv 2207.08799; Merrill et al. 2023, arXiv
2303.11873, whose grokking is at n = 40, k = 3 and 1,000 training examples)."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from phasemap.fields import POSITIVE_COUNT, Fault, Rule
from phasemap.tasks.task import Task

__all__ = ("sparse_parity",)

ONE_NUMBER = 62  # bits up to which an input is drawn as one number; beyond, two inputs are practically never equal
Context = Annotated[int, "tokens shown by the sequence tasks, bits of sparse parity", POSITIVE_COUNT]
Relevant = Annotated[int, "bits of the input whose parity is asked", POSITIVE_COUNT]
ParityExamples = Annotated[
    int,
    "inputs of sparse parity that are drawn, or all there are",
    Rule(lambda n: n >= 2, "must be at least 2", "use 4096, say"),
    Rule(lambda n: n <= 1_000_000, "must be at most 1000000", "lower it"),
]


def sparse_parity(context: Context = 16, relevant: Relevant = 3, parity_examples: ParityExamples = 4_096) -> Task:
    """Inputs of ``context`` bits, all there are or some that are drawn, the same for every trial"""
    if context < relevant:
        raise Fault([f"context: sparse_parity needs at least relevant ({relevant}) bits, got {context}; raise it"])
    bits = _inputs(context, parity_examples)
    # a table for each position, so that an MLP that sums its token vectors can tell the bits apart
    return Task(bits, bits[:, :relevant].sum(1) % 2, classes=2, vocabulary=2, readout="last")


def _inputs(bits: int, wanted: int) -> np.ndarray:
    """Different inputs [N, bits]: at most ``wanted``, in rising order up to 62 bits."""
    generator = np.random.default_rng(bits)
    if bits > ONE_NUMBER:
        return generator.integers(0, 2, (wanted, bits))
    numbers = np.sort(generator.choice(2**bits, min(2**bits, wanted), replace=False))
    return numbers[:, None] >> np.arange(bits) & 1
