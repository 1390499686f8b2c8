"""Attention in the emulated precisions: both its products read rounded operands, on the way back too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasemap.networks.layers import attention
from phasemap.numerics.matmul import rounded


def by_hand(q: Tensor, k: Tensor, v: Tensor, above: Tensor, precision: str) -> tuple[Tensor, ...]:
    """One head's result and its three gradients under ``above``, in float64 of rounded operands."""

    def r(x: Tensor) -> Tensor:
        return rounded(x.float(), precision).double()

    scale = q.shape[-1] ** -0.5
    shares = (r(q) @ r(k).mT * scale).softmax(-1)
    by_shares = r(above) @ r(v).mT
    by_scores = shares * (by_shares - (shares * by_shares).sum(-1, keepdim=True)) * scale
    return r(shares) @ r(v), r(by_scores) @ r(k), r(by_scores).mT @ r(q), r(shares).mT @ r(above)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("tokens", [2, 7])
def test_scores_and_values_are_products_of_rounded_operands(tokens, precision):
    generator = torch.Generator().manual_seed(0)
    q, k, v, above = torch.randn(4, 2, 3, tokens, 8, generator=generator).unbind()
    for part in (q, k, v):
        part.requires_grad_()
    found = attention(q, k, v, 1, precision)
    gradients = torch.autograd.grad(found, (q, k, v), above)
    expected = by_hand(q.detach(), k.detach(), v.detach(), above, precision)
    unrounded = by_hand(q.detach(), k.detach(), v.detach(), above, "fp32")
    step = {"bf16": 2.0**-8, "tf32": 2.0**-11}[precision]
    for got, want, plain in zip((found, *gradients), expected, unrounded, strict=True):
        off = (got.double() - want).abs()
        assert off.median() < 1e-6  # a number at the edge of two may round the other way
        assert off.max() < 8 * step
        assert (plain - want).abs().median() > 0.02 * step


def test_heads_are_independent():
    generator = torch.Generator().manual_seed(1)
    for tokens in (2, 7):
        q, k, v = torch.randn(3, 2, 3, tokens, 8, generator=generator).unbind()
        both = attention(q, k, v, 2, "bf16")
        sides = (slice(4), slice(4, 8))
        halves = [attention(q[..., half], k[..., half], v[..., half], 1, "bf16") for half in sides]
        torch.testing.assert_close(both, torch.cat(halves, -1))
