"""What is measured on every trial, whatever else it asks for."""

from __future__ import annotations

from phasemap.probes.batch import total
from phasemap.probes.information import learned_bits
from phasemap.probes.view import Numbers, View

CURVES = {"weight_norm": "Euclidean norm of all weights"}
OUTCOMES = {
    "learned_bits": "mutual information of prediction and label over the test examples, in bits, adjusted for chance: "
    "0 for independent predictions, the entropy of the labels for perfect ones (Vinh et al. 2010)",
}


def probe(view: View) -> Numbers:
    numbers = {"weight_norm": total(view.flat.square()).sqrt()}
    if view.last:
        numbers["learned_bits"] = learned_bits(view.predictions, view.labels, view.test, view.shape.examples.classes)
    return numbers
