"""How unequal the training examples' losses are: whether a mean loss is everybody's or that of a few."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.probes.batch import mean_chosen, nan_unless
from phasemap.probes.view import Numbers, View

CURVES = {
    "loss_spread": "standard deviation of the training examples' losses",
    "loss_percentile5": "loss that 5 % of the training examples do not exceed",
    "loss_percentile95": "the same for 95 %",
}


def loss_spread(losses: Tensor, chosen: Tensor) -> Tensor:
    """Standard deviation (of all there are, not of a sample) over the chosen examples: [K, N], [K, N] -> [K]."""
    exact = losses.double()
    mean = mean_chosen(exact, chosen)[:, None]
    return nan_unless(losses.isfinite().all(1), mean_chosen((exact - mean).square(), chosen).sqrt())


def loss_percentile(losses: Tensor, chosen: Tensor, percent: int) -> Tensor:
    """The smallest loss that ``percent`` of the chosen examples do not exceed: [K, N], [K, N] -> [K]."""
    rising = losses.masked_fill(~chosen, torch.inf).sort(1).values
    rank = (chosen.sum(1) * percent + 99).div(100, rounding_mode="floor").clamp(min=1)
    return nan_unless(losses.isfinite().all(1) & chosen.any(1), rising.gather(1, rank[:, None] - 1)[:, 0])


def probe(view: View) -> Numbers:
    return {
        "loss_spread": loss_spread(view.losses, view.train),
        "loss_percentile5": loss_percentile(view.losses, view.train, 5),
        "loss_percentile95": loss_percentile(view.losses, view.train, 95),
    }
