"""How many directions the hidden vectors use, weighing each: a smooth count beside those of ``dimension``."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.probes.batch import nan_unless
from phasemap.probes.dimension import pca_spectrum
from phasemap.probes.view import Numbers, View

CURVES = {
    "effective_rank": "exp of the entropy of the singular values' shares, of the hidden test vectors about their mean",
}


def effective_rank(variances: Tensor) -> Tensor:
    """Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", EUSIPCO.

    Args:
        variances: [K, D] along the principal components. The singular values are proportional to their roots, which
            raise the rounding of the smallest: take them in float64.

    Returns:
        [K], 1 to D: the number of singular values, where all that are not 0 are equal.
    """
    singular = variances.double().sqrt()
    whole = singular.sum(1, keepdim=True)
    return nan_unless(whole[:, 0] > 0, torch.special.entr(singular / whole).sum(1).exp())


def probe(view: View) -> Numbers:
    return {"effective_rank": effective_rank(pca_spectrum(view.hidden, view.test, torch.float64))}
