"""How large the logits are: what saturates the softmax (Khanh 2026, arXiv 2606.18465)."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.probes.batch import finite_mean
from phasemap.probes.view import Numbers, View

CURVES = {
    "logit_scale": "mean over the test examples of the logits' standard deviation over the classes; the logits as the "
    "network gives them, not divided by the temperature"
}


def deviations(logits: Tensor) -> Tensor:
    """Standard deviation (of all there are, not of a sample) over the classes: [K, N, C] -> [K, N], in float64."""
    exact = logits.double()
    return (exact - exact.mean(-1, keepdim=True)).square().mean(-1).sqrt()


def probe(view: View) -> Numbers:
    spread = torch.cat([deviations(logits) for _, logits in view.logits()], 1)
    return {"logit_scale": finite_mean(spread, view.test)}
