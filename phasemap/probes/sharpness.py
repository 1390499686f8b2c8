"""How curved the training loss is where the weights stand: the largest eigenvalue of its Hessian.

By Lanczos' iteration on products of the Hessian with a vector, each the derivative of a gradient, exact and in float64
(Pearlmutter 1994, https://doi.org/10.1162/neco.1994.6.1.147; Cohen et al. 2021, arXiv 2103.00065, follow it over
training). A relu has no curvature of its own: its kinks count for nothing, as in these papers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phasemap.numerics.losses import losses
from phasemap.probes.batch import nan_unless, only_finite, sample, total
from phasemap.probes.view import Numbers, View

CURVES = {
    "sharpness": "largest eigenvalue of the Hessian of the mean loss over at most 512 training examples, without "
    "weight decay and at temperature 1",
}

EXAMPLES = 512
STEPS = 16  # a multiple of 8, so that LAPACK finds every trial's matrix at one alignment
BLOCK = 256  # examples differentiated at once

Product = Callable[[Tensor], Tensor]  # [K, P] -> the Hessians times it, [K, P]


def largest_eigenvalue(product: Product, size: int, trials: int, device: torch.device | str = "cpu") -> Tensor:
    """Of K symmetric matrices [P, P] that are known by their products: [K].

    No older vector is kept than two: those that come again through rounding are copies of the largest eigenvalue, and
    move it nowhere (Paige 1972).
    """
    start = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    now = (start / start.norm()).expand(trials, -1)
    before, off = torch.zeros_like(now), now.new_zeros(trials, 1)
    diagonal, beside = [], []
    for _ in range(STEPS):
        then = product(now) - off * before
        along = total(then * now)[:, None]
        then = then - along * now
        off = total(then.square()).sqrt()[:, None]
        done = off <= 1e-12 * along.abs()  # all directions that the start has a part in are found
        off = off.masked_fill(done, 0)
        before, now = now, torch.where(done, 0, then / off)
        diagonal.append(along)
        beside.append(off)
    filled = torch.cat(diagonal, 1)
    ended = torch.cat([torch.zeros_like(off), *beside[:-1]], 1) == 0
    ended[:, 0] = False
    filled = torch.where(ended, filled[:, :1], filled)  # a mean of eigenvalues is never the largest
    matrix = torch.diag_embed(filled) + torch.diag_embed(torch.cat(beside[:-1], 1), 1)
    lower, finite = only_finite(matrix.mT.contiguous())
    return nan_unless(finite, torch.linalg.eigvalsh(lower)[:, -1])


def loss_hessian(view: View) -> Product:
    """Products with the Hessian of each trial's training loss at its weights [K, P]."""
    index, real = sample(view.train, EXAMPLES)
    targets, weight = view.targets.gather(1, index), real.double() / real.sum(1, keepdim=True)
    network, flat = view.shape.network, view.flat.double()

    def product(vector: Tensor) -> Tensor:
        found = torch.zeros_like(flat)
        for start in range(0, index.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            with torch.enable_grad():
                point = flat.detach().requires_grad_()
                inputs = view.inputs[index[:, block]]
                if view.shape.examples.is_real:
                    inputs = inputs.to(point.dtype)  # not every matrix product takes two kinds of numbers
                logits = network.logits(network.layout.split(point), inputs)
                loss = losses(view.shape.loss, logits, targets[:, block]) * weight[:, block]
                (gradient,) = torch.autograd.grad(loss.sum(), point, create_graph=True)
                (turned,) = torch.autograd.grad((gradient * vector).sum(), point)
            found += turned
        return found

    return product


def probe(view: View) -> Numbers:
    trials, size = view.flat.shape
    return {"sharpness": largest_eigenvalue(loss_hessian(view), size, trials, view.flat.device)}
