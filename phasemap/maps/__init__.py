"""Where phases lie: maps read from trials, and the points that tell most."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
R = TypeVar("R")


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The function with its matrix products and factors on one thread.

    Their last digits depend on the number of threads, and so would the points of a sweep that goes on elsewhere.
    Threads that wait beside trainings cost five times what they save.
    """

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return alone
