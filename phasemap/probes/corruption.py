"""What a network answers on the training examples whose label was replaced (the field ``label_noise``).

It memorizes the wrong label, or answers by the rule against its own training label: Doshi et al. 2023, "To grok
or not to grok", arXiv 2310.13061, who call the second inversion.
"""

from __future__ import annotations

from phasemap.probes.batch import mean_chosen
from phasemap.probes.view import Numbers, View

CURVES = {
    "corrupted_accuracy": "share of the training examples with a replaced label that are answered by that label",
    "restored_accuracy": "share of the training examples with a replaced label that are answered by the task's own",
}


def probe(view: View) -> Numbers:
    replaced = view.train & (view.targets != view.labels)
    return {
        "corrupted_accuracy": mean_chosen((view.predictions == view.targets).double(), replaced),
        "restored_accuracy": mean_chosen((view.predictions == view.labels).double(), replaced),
    }
