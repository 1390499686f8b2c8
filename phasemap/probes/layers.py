"""The norm of each layer's weights: shares of the curve ``weight_norm``, named ``weight_norm/LAYER``."""

from __future__ import annotations

from torch import Tensor

from phasemap.probes.batch import total
from phasemap.probes.view import Numbers, View


def probe(view: View) -> Numbers:
    squared: dict[str, Tensor] = {}
    for name, weights in view.shape.network.layout.split(view.flat).items():
        layer = f"weight_norm/{name.partition('.')[0]}"
        squared[layer] = squared.get(layer, 0) + total(weights.flatten(1).square())
    return {layer: squares.sqrt() for layer, squares in squared.items()}
