"""Words of messages: a number with its noun, an error in a line, and the name that a mistyped one was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def count(number: int, noun: str) -> str:
    """ "1 trial", "2,000 trials"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def first_line(error: BaseException) -> str:
    """The error's type and the first line of its text, which may be empty."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The name that a mistyped one is nearest to, whatever its capitals; None where none is near."""
    spelled = {name.lower(): name for name in known}
    near = get_close_matches(str(word).lower(), list(spelled), 1)
    return spelled[near[0]] if near else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """ " (did you mean heads?)", or nothing where no name is near."""
    near = nearest(word, known)
    return f" (did you mean {near}?)" if near else ""
