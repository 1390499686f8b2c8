"""How much of the hidden vectors' spread lies within classes: what a network keeps of an input beside its answer."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.numerics.matmul import batched
from phasemap.probes.batch import blocks, finite_trials, has_extent, nan_unless, total
from phasemap.probes.circles import class_vectors
from phasemap.probes.view import Numbers, View

CURVES = {
    "within_class_share": "share of the variance of the hidden test vectors within classes; 0 if each is one point",
}


def within_class_share(hidden: Tensor, labels: Tensor, chosen: Tensor, classes: int) -> Tensor:
    """Squared distances from the class means over those from the mean of all, summed over the chosen examples.

    If N vectors know nothing of C classes it is (N - C) / (N - 1) on average.

    Args:
        hidden: [K, N, D].
        labels: [N] classes.
        chosen: [K, N] bool.
        classes: C.

    Returns:
        [K], 0 to 1; NaN for a trial with a hidden value that is not finite, or whose vectors are all equal.
    """
    means = class_vectors(hidden, labels, chosen, classes)
    apart = [(hidden[:, part] - means[:, labels[part]]).square().sum(2) for part in blocks(hidden.shape[1])]
    within = total(torch.cat(apart, 1).masked_fill(~chosen, 0))

    count = torch.zeros_like(means[:, :, 0], dtype=torch.int64)
    count.scatter_add_(1, labels.expand(len(hidden), -1), chosen.long())
    weight = count / chosen.sum(1, keepdim=True)
    means = means.masked_fill((count == 0)[:, :, None], 0).double()
    middle = batched(weight[:, None].double(), means)
    between = total((means - middle).square().sum(2) * count)
    size = within + between + middle.square().sum((1, 2)) * chosen.sum(1)
    return nan_unless(finite_trials(hidden) & has_extent(within + between, size), within / (within + between))


def probe(view: View) -> Numbers:
    classes = view.shape.examples.classes
    return {"within_class_share": within_class_share(view.hidden, view.labels, view.test, classes)}
