"""How far the weights have moved from where they started: lazy training stays near, rich training leaves.

Relative to the size of the start, after Chizat, Oyallon and Bach 2019, https://arxiv.org/abs/1812.07956.
"""

from __future__ import annotations

from torch import Tensor

from phasemap.probes.batch import nan_unless, total
from phasemap.probes.view import Numbers, View

CURVES = {
    "initial_distance": "Euclidean distance of all weights from the initial ones / norm of these",
}


def initial_distance(flat: Tensor, start: Tensor) -> Tensor:
    """[K, P], [K, P] -> [K]; NaN for a start at zero, or weights that are not finite."""
    moved, size = (total(one.double().square()) for one in (flat - start, start))
    distance = (moved / size).sqrt()
    return nan_unless(distance.isfinite(), distance)


def probe(view: View) -> Numbers:
    return {"initial_distance": initial_distance(view.flat, view.start())}
