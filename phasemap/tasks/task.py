"""What is learned: the complete table of examples of each task, with its classes, its group and
the best accuracy its tokens allow.

Numbers only (numpy): which examples a trial trains on is drawn in ``random_streams.py``, from the trial's
seed. A task is a pure function of its name, modulus and context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Literal

import numpy as np

from phasemap.tasks import permutations, sequences

ADDITIVE = ("modular_addition", "modular_subtraction")
MULTIPLICATIVE = ("modular_multiplication", "modular_division")
POLYNOMIAL = ("modular_quadratic", "modular_cubic")  # no group law: Power et al. 2022, arXiv 2201.02177
MODULAR = (*ADDITIVE, *MULTIPLICATIVE, *POLYNOMIAL, "random_labels")
SEQUENCES = sequences.NAMES
NAMES = (*MODULAR, "permutation_composition", *SEQUENCES, "sparse_parity")

PARITY_BITS = 3  # relevant bits of sparse parity: the first three (Barak et al. 2022, arXiv 2207.08799)
PARITY_EXAMPLES = 4096  # at most
LONGEST_CONTEXT = sequences.LENGTH - 1_001  # leaves more than 1,000 windows
RULE_SHOWS = {"periodic": 4, "lfsr_5": 5}  # tokens from which on the next one is certain


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
    group: Group | None = None  # None: the classes form no cyclic group
    hidden_ceiling: Callable[[], float] | None = None  # where equal inputs do not tell the ceiling

    @cached_property
    def distinct(self) -> np.ndarray:
        """For each example [N] the index 0, 1, … of its distinct input."""
        return distinct_index(self.tokens)

    @cached_property
    def ceiling(self) -> float:
        """Best accuracy any predictor can reach from the tokens shown, even one that knows the rule.

        Where equal inputs cannot be counted it is an expectation: over the hidden state of a
        generator, or over labels without a rule. Looking up recurring windows can then beat it by
        no more than the overlap.
        """
        return self.hidden_ceiling() if self.hidden_ceiling else majority_accuracy(self.distinct, self.labels)


@lru_cache(maxsize=8)
def load(name: str, modulus: int, context: int) -> Task:
    """The table of a task; the arrays are shared and must not be written to."""
    if name in MODULAR:
        return _modular(name, modulus)
    if name in SEQUENCES:
        return _sequence(name, context)
    return _sparse_parity(context) if name == "sparse_parity" else _permutation_composition()


def examples(name: str, modulus: int, context: int, split: str = "examples") -> int:
    """How many examples a split divides: all of them, or the distinct inputs."""
    if name in SEQUENCES:
        if split == "distinct":
            return int(load(name, modulus, context).distinct.max()) + 1
        return sequences.LENGTH - context
    if name == "sparse_parity":  # here and below every input stands once
        return min(2**context, PARITY_EXAMPLES)
    if name == "permutation_composition":
        return permutations.ORDER**2
    return (modulus - 1) ** 2 if name in MULTIPLICATIVE else modulus**2


def distinct_index(tokens: np.ndarray) -> np.ndarray:
    """For each row of [N, T] the index [N] of its value among the distinct rows, in sorted order."""
    base, code, codes = int(tokens.max()) + 1, np.zeros(len(tokens), np.int64), 1
    for column in tokens.T:
        if codes * base > 2**62:  # the next digit would overflow: number the prefixes anew
            code = np.unique(code, return_inverse=True)[1]
            codes = len(tokens)
        code, codes = code * base + column, codes * base
    return np.unique(code, return_inverse=True)[1]


def majority_accuracy(inputs: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of answering each input [N] with its commonest label [N]."""
    classes = labels.max() + 1
    pairs, counts = np.unique(inputs * classes + labels, return_counts=True)
    best = np.zeros(inputs.max() + 1, np.int64)
    np.maximum.at(best, pairs // classes, counts)
    return float(best.sum() / len(labels))


def overlap(tokens: np.ndarray, train_mask: np.ndarray) -> float:
    """Share of the test examples whose input stands in training too.

    Args:
        tokens: [N, T], or a task's ``distinct`` [N], which saves the comparison of rows.
        train_mask: [N] true for training examples; at least one must be false.
    """
    inputs = tokens if tokens.ndim == 1 else distinct_index(tokens)
    trained = np.zeros(inputs.max() + 1, bool)
    trained[inputs[train_mask]] = True
    return float(trained[inputs[~train_mask]].mean())


def broken_rules(name: str, modulus: int, context: int, model: str) -> list[str]:
    """What the task cannot do, as "axis: rule, got value; what to do"."""
    if name in MODULAR:
        return _modulus_rules(name, modulus)
    return _context_rules(name, context)


def _modulus_rules(name: str, modulus: int) -> list[str]:
    if modulus < 2:
        return [f"modulus: must be at least 2, got {modulus}; use a prime such as 97"]
    if not _is_prime(modulus):
        above = next(n for n in range(modulus, 2 * modulus) if _is_prime(n))
        return [f"modulus: {name} needs a prime, got {modulus}; use {above}"]
    if name in MULTIPLICATIVE and modulus < 5:
        return [f"modulus: {name} needs a prime of at least 5, got {modulus}; use 5 or more"]
    return []


def _context_rules(name: str, context: int) -> list[str]:
    if name == "sparse_parity" and not PARITY_BITS <= context <= 20:
        return [f"context: {name} needs {PARITY_BITS} to 20 bits, got {context}; use 12"]
    if name in SEQUENCES and not 1 <= context <= LONGEST_CONTEXT:
        return [f"context: {name} needs 1 to {LONGEST_CONTEXT} tokens, got {context}; use 16"]
    least = RULE_SHOWS.get(name, 0)
    if context < least:
        return [f"context: {name} shows its rule from {least} tokens on, got {context}; use {least} or more"]
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
    elif name == "modular_quadratic":
        labels = (a * a + a * b + b * b) % p
    elif name == "modular_cubic":
        labels = (a**3 + a * b) % p
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
        hidden_ceiling=partial(_chance, p) if name == "random_labels" else None,
    )


def _chance(classes: int) -> float:
    return 1 / classes  # the labels of other examples say nothing on an unseen one


def _permutation_composition() -> Task:
    """S5 is not abelian, so it has no circle of classes and ``group`` is None."""
    order = permutations.ORDER
    return Task(
        tokens=np.indices((order, order)).reshape(2, -1).T.copy(),
        labels=permutations.products().ravel(),
        vocabulary=order,
        classes=order,
        separate_tables=True,
        readout="first",
    )


def _sequence(name: str, context: int) -> Task:
    tokens, labels = sequences.windows(name, context)
    hidden = name in sequences.HIDDEN
    return Task(
        tokens=tokens,
        labels=labels,
        vocabulary=sequences.vocabulary(name),
        classes=sequences.vocabulary(name),
        separate_tables=False,
        readout="last",
        hidden_ceiling=partial(sequences.hidden_ceiling, name, context) if hidden else None,
    )


def _sparse_parity(context: int) -> Task:
    """All inputs up to 12 bits; beyond, 4,096 of them, the same for every trial."""
    everything, wanted = 2**context, min(2**context, PARITY_EXAMPLES)
    numbers = np.sort(np.random.default_rng(context).choice(everything, wanted, replace=False))
    bits = numbers[:, None] >> np.arange(context) & 1
    return Task(
        tokens=bits,
        labels=bits[:, :PARITY_BITS].sum(1) % 2,
        vocabulary=2,
        classes=2,
        separate_tables=True,  # so that an MLP that sums its token vectors can tell the bits apart
        readout="last",
    )


def _group(name: str, p: int) -> Group | None:
    if name in ADDITIVE:
        return Group(p, np.arange(p))
    if name not in MULTIPLICATIVE:
        return None
    order, root, exponent = p - 1, primitive_root(p), np.full(p, -1)
    exponent[[pow(root, k, p) for k in range(order)]] = np.arange(order)
    divisors = [d for d in range(1, order + 1) if order % d == 0]
    cosets = min(d for d in divisors if d * d >= order)  # 12 cosets of 8 members for p = 97
    return Group(order, exponent, cosets)


def primitive_root(p: int) -> int:
    """The smallest generator of the multiplicative group modulo a prime (5 for 97)."""
    return next(g for g in range(1, p) if len({pow(g, k, p) for k in range(p - 1)}) == p - 1)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
