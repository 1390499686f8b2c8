"""What learns. ``network.py`` is the base; a file whose ``__all__`` names a class adds the network of its name.

``layers``, the arithmetic with a trial axis, loads torch, so it comes with its first use: a search space is read, and
its faults are reported, without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phasemap.networks import layers as layers


def __getattr__(name: str) -> Any:
    if name == "layers":
        import importlib

        return importlib.import_module("phasemap.networks.layers")
    raise AttributeError(name)
