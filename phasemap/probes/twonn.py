"""TwoNN at every probe step; ``dimension``, where the arithmetic stands, measures it at a trial's end alone."""

from __future__ import annotations

from phasemap.probes.dimension import twonn_dimension
from phasemap.probes.view import Numbers, View

CURVES = {
    "twonn_dimension": "TwoNN (Facco): dimension from the ratio of the two nearest neighbor distances (a curve with "
    "the probe twonn)",
}


def probe(view: View) -> Numbers:
    return {"twonn_dimension": twonn_dimension(view.hidden, view.test)}
