"""Steps of an optimizer by itself, on a layout of a few weights. Known to the tests alone."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.networks.network import Layout, Piece, Start
from phasemap.plan.trial import Trial
from phasemap.training.update import Rates, by_group, orthogonal, rates

ZERO = Start("constant", 0.0)
LAYOUT = Layout(
    (
        Piece("table", (6, 3), ZERO, "embedding"),
        Piece("wide", (4, 7), ZERO),
        Piece("bias", (7,), ZERO),
        Piece("tall", (7, 4), ZERO),
        Piece("wide2", (4, 7), ZERO),
        Piece("readout", (3, 5), ZERO, "readout"),
    )
)
RATES = ((1e-3, 1.0), (1e-2, 0.0), (3e-2, 0.1), (1e-1, 5.0), (1e-3, 1e-4))


def different(**fields: object) -> list[Trial]:
    """Five trials, each with its own learning rate and weight decay."""
    return [Trial(learning_rate=rate, weight_decay=decay, **fields) for rate, decay in RATES]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def stepped(trials: list[Trial], start: Tensor, gradients: Tensor, layout: Layout = LAYOUT) -> list[Tensor]:
    """Weights [K, P] after each of the gradients [S, K, P]."""
    optimizer = trials[0].shape.rule.on(layout)
    flat, state = start.clone(), [torch.zeros_like(start) for _ in optimizer.state]
    rate = rates(tuple(trials), 0, len(gradients), torch.device("cpu"))
    found = []
    for s, gradient in enumerate(gradients):
        step_size, decay, root, *more = (part[s] for part in rate.tensors)
        now = Rates(step_size, decay, root, dict(zip(rate.more, more, strict=True)))
        if trials[0].orthogonal_gradient:
            gradient = orthogonal(layout, flat, gradient)
        optimizer.update(flat, *state, gradient.clone(), by_group(layout, now, optimizer.decoupled))
        found.append(flat.clone())
    return found


def theirs(optimizer: torch.optim.Optimizer, weights: torch.nn.Parameter, gradients: Tensor) -> list[Tensor]:
    """One tensor of one trial, moved by an optimizer of torch's, after each of its gradients."""
    found = []
    for gradient in gradients:
        weights.grad = gradient.clone()
        optimizer.step()
        found.append(weights.detach().clone())
    return found
