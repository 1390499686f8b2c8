"""The six token generators of the learnability boundary, and what their windows give away.

Each generator yields one stream from one fixed state, so a sequence task is a pure function of its name,
its context and the length of the stream. The generators that take a number start from ``START``, the seed
of the published runs. Windows are cut here; which of them train is drawn elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Annotated

import numpy as np

from phasemap.fields import Fault, Rule
from phasemap.tasks.parity import Context
from phasemap.tasks.task import Task

__all__ = ("csprng", "lcg_glibc", "lcg_simple", "lfsr_5", "lfsr_31", "periodic")

LENGTH = 10_000  # tokens of a published stream
FEWEST_WINDOWS = 1_001
SHORTEST, LONGEST = FEWEST_WINDOWS + 1, 1_000_000  # tokens of a stream
MOST_SHOWN = 2**27  # tokens of all windows (1 GiB)
START = 42
GLIBC = (1103515245, 12345)  # multiplier and increment of the C standard's example rand()
HIDDEN = ("lcg_glibc", "lfsr_31", "csprng")  # windows hardly recur: equal ones cannot be counted
SAMPLE = 256  # windows on which the ceiling of lcg_glibc is averaged
Length = Annotated[
    int,
    "tokens of the stream that a sequence task is cut from",
    Rule(lambda n: n >= SHORTEST, f"must be at least {SHORTEST}", f"use {LENGTH} or more"),
    Rule(lambda n: n <= LONGEST, f"must be at most {LONGEST}", "lower it"),
]


def stream(name: str, length: int = LENGTH) -> np.ndarray:
    """The first tokens [length] of a generator, int64."""
    return np.fromiter(islice(GENERATORS[name](), length), np.int64, length)


def windows(name: str, context: int, length: int = LENGTH) -> tuple[np.ndarray, np.ndarray]:
    """Every run of ``context`` tokens [length - context, context], and the token after it."""
    tokens = stream(name, length)
    return np.lib.stride_tricks.sliding_window_view(tokens, context)[:-1].copy(), tokens[context:]


def vocabulary(name: str) -> int:
    """Number of different tokens: bits, or bytes."""
    return 2 if name in ("periodic", "lfsr_5") else 256


def hidden_ceiling(name: str, context: int, length: int = LENGTH) -> float:
    """Best accuracy of a ``HIDDEN`` generator from a window, the state it leaves open being uniform."""
    if name == "lfsr_31":
        return 0.5 ** lfsr_31_unknown_bits(context)
    if name == "lcg_glibc":
        return lcg_glibc_ceiling(context, length)
    return 1 / vocabulary(name)


def lfsr_31_unknown_bits(context: int) -> int:
    """Bits of the next token that no sum (over GF(2)) of the window's bits gives.

    The register is replayed on symbols: a bit is the set of start bits it is the sum of, written
    as the ones of an integer.
    """
    state = [1 << i for i in range(31)]
    seen: list[int] = []
    for _ in range(context):
        state = [state[30] ^ state[2], *state[:30]]
        seen += state[:8]
    coming = [state[30] ^ state[2], *state[:7]]
    return _rank([*seen, *coming]) - _rank(seen)


def lcg_glibc_ceiling(context: int, length: int = LENGTH) -> float:
    """Mean probability of the likeliest next token, over ``SAMPLE`` windows of the stream.

    Bits 16-23 of the state never depend on higher ones, so a window leaves at most the 2^16 values
    of the low bits at its first token open; those that replay the window are counted.
    """
    tokens, _ = windows("lcg_glibc", context, length)
    chosen = np.linspace(0, len(tokens) - 1, SAMPLE).astype(int)
    return float(np.mean([_likeliest(window) for window in tokens[chosen]]))


def _likeliest(window: np.ndarray) -> float:
    states = _glibc_step((int(window[0]) << 16) + np.arange(1 << 16))
    for token in window[1:]:
        states = states[states >> 16 == token]
        if len(states) == 1:  # the true state, so the rest is certain
            return 1.0
        states = _glibc_step(states)
    return float(np.bincount(states >> 16).max() / len(states))


def _glibc_step(states: np.ndarray) -> np.ndarray:
    return (GLIBC[0] * states + GLIBC[1]) & 0xFFFFFF


def _rank(rows: list[int]) -> int:
    """Rank over GF(2) of rows written as integers."""
    leading: dict[int, int] = {}  # highest one of a row -> that row
    for row in rows:
        while row and row.bit_length() in leading:
            row ^= leading[row.bit_length()]
        if row:
            leading[row.bit_length()] = row
    return len(leading)


def _periodic() -> Iterator[int]:
    """Four zeros and three ones, again and again."""
    i = 0
    while True:
        yield int(i % 7 > 3)
        i += 1


def _lfsr_5() -> Iterator[int]:
    """x[n] = x[n-1] xor x[n-5], from the five low bits of the start. Its polynomial
    x^5 + x^4 + 1 = (x^3 + x + 1)(x^2 + x + 1) is not primitive: the period is 21, not 31."""
    bits = [START >> i & 1 for i in range(5)]  # oldest first
    while True:
        yield bits[0]
        bits = [*bits[1:], bits[4] ^ bits[0]]


def _lcg_simple() -> Iterator[int]:
    """x <- (3 x + 7) mod 256, period 128; the whole state is the token."""
    x = START
    while True:
        x = (3 * x + 7) % 256
        yield x


def _lcg_glibc() -> Iterator[int]:
    """x <- (1103515245 x + 12345) mod 2^31; bits 16-23 are the token."""
    x = START
    while True:
        x = (GLIBC[0] * x + GLIBC[1]) % 2**31
        yield x >> 16 & 255


def _lfsr_31() -> Iterator[int]:
    """A 31-bit register shifted left, with bit 30 xor bit 2 coming in; the low 8 bits are the token."""
    state = START
    while True:
        state = (state << 1 | (state >> 30 ^ state >> 2) & 1) & 0x7FFFFFFF
        yield state & 255


def _csprng() -> Iterator[int]:
    """SHA-256 in counter mode: random to any predictor, and the same on every machine."""
    block = 0
    while True:
        yield from hashlib.sha256(f"phasemap csprng {START} {block}".encode()).digest()
        block += 1


GENERATORS = {
    "periodic": _periodic,
    "lfsr_5": _lfsr_5,
    "lcg_simple": _lcg_simple,
    "lcg_glibc": _lcg_glibc,
    "lfsr_31": _lfsr_31,
    "csprng": _csprng,
}


def periodic(context: Context = 16, stream_length: Length = LENGTH) -> Task:
    """0000111 again and again"""
    return _task("periodic", context, stream_length, shows=4)


def lfsr_5(context: Context = 16, stream_length: Length = LENGTH) -> Task:
    """A 5-bit feedback shift register"""
    return _task("lfsr_5", context, stream_length, shows=5)


def lcg_simple(context: Context = 16, stream_length: Length = LENGTH) -> Task:
    """x <- (3 x + 7) mod 256, shown whole"""
    return _task("lcg_simple", context, stream_length)


def lcg_glibc(context: Context = 16, stream_length: Length = LENGTH) -> Task:
    """Bits 16-23 of the C standard's example rand()"""
    return _task("lcg_glibc", context, stream_length)


def lfsr_31(context: Context = 16, stream_length: Length = LENGTH) -> Task:
    """The low 8 bits of a 31-bit feedback shift register"""
    return _task("lfsr_31", context, stream_length)


def csprng(context: Context = 16, stream_length: Length = LENGTH) -> Task:
    """SHA-256 in counter mode: random to any predictor"""
    return _task("csprng", context, stream_length)


def _task(name: str, context: int, length: int, shows: int = 1) -> Task:
    """``shows``: tokens from which on the next one is certain."""
    longest = length - FEWEST_WINDOWS
    if not 1 <= context <= longest:
        cure = f"use {min(16, longest)}, or a longer stream_length"
        raise Fault([f"context: {name} needs 1 to {longest} tokens, got {context}; {cure}"])
    if (length - context) * context > MOST_SHOWN:
        shown = f"{length - context} windows of {context} tokens"
        raise Fault([f"stream_length: {name} must show at most {MOST_SHOWN} tokens, got {shown}; lower one of the two"])
    if context < shows:
        raise Fault([f"context: {name} shows its rule from {shows} tokens on, got {context}; use {shows} or more"])
    inputs, labels = windows(name, context, length)
    ceiling = partial(hidden_ceiling, name, context, length) if name in HIDDEN else None
    size = vocabulary(name)
    return Task(
        inputs,
        labels,
        classes=size,
        vocabulary=size,
        separate_tables=False,
        readout="last",
        hidden_ceiling=ceiling,
    )
