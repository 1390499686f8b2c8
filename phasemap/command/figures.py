"""The one place where phasemap imports its figures, by name.

The package of figures stands at the top of a checkout and lands inside phasemap in a wheel: ``phasemap.analysis`` is
its name in both. The name ``analysis`` may be the user's own, in the working directory.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

PACKAGE = "phasemap.analysis"


def analysis(module: str) -> ModuleType:
    """A module of the figures, loaded with all it draws with (pandas, matplotlib) when it is asked for."""
    return import_module(f"{PACKAGE}.{module}")
