"""Size and sparsity of the hidden vectors: K trials, N examples, D values each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phasemap.probes.batch import finite_trials, mean_chosen, nan_unless
from phasemap.probes.view import Numbers, View

CURVES = {
    "activation_sparsity": "share of hidden test values with |h| < 0.1",
    "activation_norm": "mean L2 norm of the hidden test vectors",
    "activation_deviation": "standard deviation of the hidden test values",
    "activation_largest": "largest of the hidden test values",
}

SMALL = 0.1


@dataclass(frozen=True)
class Activation:
    """All [K] float64."""

    sparsity: Tensor
    deviation: Tensor
    largest: Tensor
    norm: Tensor


def activation(hidden: Tensor, chosen: Tensor) -> Activation:
    """All four over the chosen hidden vectors: [K, N, D], [K, N] -> [K] each."""
    return Activation(
        sparsity(hidden, chosen), deviation(hidden, chosen), largest(hidden, chosen), norm(hidden, chosen)
    )


def sparsity(hidden: Tensor, chosen: Tensor) -> Tensor:
    """Share of the chosen hidden values with |h| < 0.1: [K, N, D], [K, N] -> [K]."""
    share = (hidden.abs() < SMALL).sum(2, dtype=torch.int32) / hidden.shape[2]
    return nan_unless(finite_trials(hidden), mean_chosen(share, chosen))


def norm(hidden: Tensor, chosen: Tensor) -> Tensor:
    """Mean L2 norm of the chosen hidden vectors: [K, N, D], [K, N] -> [K]."""
    return nan_unless(finite_trials(hidden), mean_chosen(hidden.norm(dim=2), chosen))


def deviation(hidden: Tensor, chosen: Tensor) -> Tensor:
    """Standard deviation of all chosen hidden values: [K, N, D], [K, N] -> [K]."""
    mean = mean_chosen(hidden.mean(2), chosen)
    spread = (hidden - mean[:, None, None].to(hidden.dtype)).square().mean(2)
    return nan_unless(finite_trials(hidden), mean_chosen(spread, chosen).sqrt())


def largest(hidden: Tensor, chosen: Tensor) -> Tensor:
    """Largest of the chosen hidden values, signs kept: [K, N, D], [K, N] -> [K]."""
    value = hidden.amax(2).masked_fill(~chosen, -torch.inf).amax(1)
    return nan_unless(finite_trials(hidden) & chosen.any(1), value)


def probe(view: View) -> Numbers:
    return {
        "activation_sparsity": sparsity(view.hidden, view.test),
        "activation_norm": norm(view.hidden, view.test),
        "activation_deviation": deviation(view.hidden, view.test),
        "activation_largest": largest(view.hidden, view.test),
    }
