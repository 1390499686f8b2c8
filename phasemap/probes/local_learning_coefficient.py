"""How degenerate the training loss is around the weights: the local learning coefficient of Lau et al. 2023.

"The local learning coefficient: a singularity-aware complexity measure", arXiv 2308.12108. From the weights w* a chain
of stochastic gradient Langevin dynamics samples exp(-n b L(w) - g |w - w*|^2 / 2), where n is the number of training
examples, b = 1 / log n and L the mean loss; the estimate is n b (mean of L over the chain - L(w*)). A minimum with d
curved directions has d / 2, a flatter one less.

- The step size, the pull g and the length of the chain are those that the authors' code takes unless told otherwise,
  with one chain. Directions that are softer than the pull do not come to rest within it, so that the number ranks
  trials of one network, and is no exact coefficient.
- Weights under weight decay, or still in training, are no minimum of the loss: the estimate may be below 0.
- The noise and the places of the batches are the same for every trial and at every probe, so that differences are
  those of the trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from phasemap.numerics.losses import losses
from phasemap.probes.batch import mean_chosen, nan_unless, total
from phasemap.probes.view import Numbers, View

CURVES = {
    "local_learning_coefficient": "n / log n x (mean loss of a Langevin chain from the weights - their own), over n "
    "training examples, at temperature 1",
}

STEP_SIZE, PULL = 1e-5, 100.0
FIRST, DRAWS = 100, 200  # steps that are left out, and those that count
BATCH = 512

Slope = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # weights [K, P], step -> losses [K], their gradients [K, P]


def learning_coefficient(
    slope: Slope,
    start: Tensor,
    own_loss: Tensor,
    scale: Tensor,
    step_size: float = STEP_SIZE,
    pull: float = PULL,
    first: int = FIRST,
    draws: int = DRAWS,
) -> Tensor:
    """The estimate of K potentials.

    Args:
        slope: the loss and its gradient, of all examples or of a batch.
        start: w* [K, P].
        own_loss: L(w*) [K].
        scale: n b [K].
        step_size: of the chain: a step has noise of this variance, and half of it times the slope of the exponent.
        pull: g.
        first: steps before the first that counts.
        draws: steps that count.

    Returns:
        [K]; NaN where the chain did not stay finite.
    """
    generator = torch.Generator().manual_seed(0)
    weights, seen = start.clone(), torch.zeros_like(own_loss, dtype=torch.float64)
    for step in range(first + draws):
        loss, gradient = slope(weights, step)
        if step >= first:
            seen += loss
        noise = torch.randn(start.shape[1], generator=generator, dtype=start.dtype).to(start.device)
        drift = scale[:, None].to(start) * gradient + pull * (weights - start)
        weights = weights - step_size / 2 * drift + math.sqrt(step_size) * noise
    estimate = scale * (seen / draws - own_loss)
    return nan_unless(estimate.isfinite(), estimate)


def training_slope(view: View) -> Slope:
    """The loss of batches of each trial's training examples, drawn with replacement."""
    network, count = view.shape.network, view.train.sum(1, keepdim=True)
    examples = (~view.train).to(torch.uint8).argsort(dim=1, stable=True)  # the training examples first
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(FIRST + DRAWS, BATCH, generator=generator, dtype=torch.float64).to(view.flat.device)

    def slope(weights: Tensor, step: int) -> tuple[Tensor, Tensor]:
        index = examples.gather(1, (drawn[step] * count).long())
        with torch.enable_grad():
            point = weights.detach().requires_grad_()
            logits = network.logits(network.layout.split(point), view.inputs[index])
            loss = losses(view.shape.loss, logits, view.targets.gather(1, index)) / BATCH
            (gradient,) = torch.autograd.grad(loss.sum(), point)
        return total(loss.detach()), gradient

    return slope


def probe(view: View) -> Numbers:
    examples = view.train.sum(1).double()
    own = [losses(view.shape.loss, logits, view.targets[:, block]) for block, logits in view.logits()]
    own_loss = mean_chosen(torch.cat(own, 1), view.train)  # as in the chain: view.losses has the trial's temperature
    scale = examples / examples.log().clamp(min=1)
    return {"local_learning_coefficient": learning_coefficient(training_slope(view), view.flat, own_loss, scale)}
