"""The norm of each layer's weights: shares of the curve ``weight_norm``, named ``weight_norm/LAYER``."""

from __future__ import annotations

from torch import Tensor

from phasemap.probes.batch import total
from phasemap.probes.view import Found, View


def probe(view: View) -> Found:
    found: dict[str, Tensor] = {}
    for name, weights in view.shape.network.layout.split(view.flat).items():
        layer = f"weight_norm/{name.partition('.')[0]}"
        found[layer] = found.get(layer, 0) + total(weights.flatten(1).square())
    return {layer: squares.sqrt() for layer, squares in found.items()}
