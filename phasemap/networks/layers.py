"""The arithmetic of a stack: layers with a leading trial axis K, and how weights start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from phasemap.networks.network import Piece, Start
from phasemap.numerics.matmul import LINE, operand, outcome
from phasemap.numerics.matmul import product as product
from phasemap.numerics.random_streams import Dropout


def initial(pieces: Sequence[Piece], seed: int) -> Tensor:
    """[P]: weights drawn piece by piece from one seed, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([_drawn(piece.start, piece.shape, generator).flatten() for piece in pieces])


def _drawn(start: Start, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if start.kind == "normal":
        return torch.randn(shape, generator=generator) * start.size
    if start.kind == "uniform":
        return (torch.rand(shape, generator=generator) * 2 - 1) * start.size
    return torch.full(shape, start.size)


def linear(x: Tensor, weight: Tensor, bias: Tensor, precision: str) -> Tensor:
    """x [K, R, in], weight [K, in, out], bias [K, out] -> [K, R, out]."""
    return product(x, weight, precision) + bias[:, None]


def _sigmoid(x: Tensor) -> Tensor:
    """By tanh: torch's own rounds the last numbers of a tensor, fewer than a vector, otherwise than the rest."""
    return 0.5 * (0.5 * x).tanh() + 0.5


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "square": lambda x: x * x,
    "tanh": torch.tanh,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
}


def activate(x: Tensor, kind: str) -> Tensor:
    """The nonlinearity of that name."""
    return ACTIVATIONS[kind](x)


def gather(table: Tensor, rows: Tensor) -> Tensor:
    """table [K, R, D], rows [K or 1, B] -> [K, B, D]. As one lookup in a [K·R, D] table, whose
    gradient is a plain sum in index order: the same for a trial in any stack."""
    trials, count, width = table.shape
    offsets = torch.arange(trials, device=table.device)[:, None] * count
    return F.embedding(rows + offsets, table.reshape(-1, width))


def positions(tokens: Tensor, vocabulary: int) -> Tensor:
    """Rows [K or 1, B·T] of tokens [K or 1, B, T] in tables that stand one after another, one per position."""
    return (tokens + torch.arange(tokens.shape[2], device=tokens.device) * vocabulary).flatten(1)


def looked_up(table: Tensor, weight: Tensor, tokens: Tensor, concatenated: bool, precision: str = "fp32") -> Tensor:
    """A linear layer on the vectors of T tokens, summed or concatenated: each distinct token is projected once.

    Args:
        table: [K, 1 or T, V, D], for all positions or one for each.
        weight: [K, D or T·D, out].
        tokens: [K or 1, B, T].

    Returns:
        [K, B, out].
    """
    (trials, _, vocabulary, width), length = table.shape, tokens.shape[-1]
    if concatenated:
        tables = table.expand(-1, length, -1, -1).reshape(trials * length, vocabulary, width)
        # A user's weights come transposed, and of one trial a reshape is a view: another way through the product.
        weights = weight.contiguous().view(trials * length, width, -1)
        projected = product(tables, weights, precision)
    else:
        projected = product(table.reshape(trials, -1, width), weight, precision)
    projected = projected.view(trials, -1, weight.shape[-1])
    step = vocabulary if projected.shape[1] > vocabulary else 0
    looked = [gather(projected, tokens[..., t] + t * step) for t in range(length)]
    return sum(looked[1:], start=looked[0])


def attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, precision: str = "fp32", drop: Dropout | None = None
) -> Tensor:
    """q [K, B, Tq, D], k and v [K, B, T, D] -> [K, B, Tq, D], to all tokens; dropout on the shares of attention."""
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in (q, k, v))
    return attend(q, k, v, precision, drop).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor, precision: str = "fp32", drop: Dropout | None = None) -> Tensor:
    """q [K, B, Tq, H, d], k and v [K, B, T, H, d] -> [K, B, Tq, H, d]. Two tokens are too few for a matrix product:
    there the sums are written out."""
    scale = q.shape[-1] ** -0.5
    if k.shape[2] > 4:
        if precision != "fp32" or drop or q.dtype == torch.float64:  # which is what is differentiated twice
            return _attention_by_products(q, k, v, scale, precision, drop)
        lead, size = q.shape[:2], q.shape[-1]  # padded, for torch's sums depend on where a row begins within 64 bytes
        q, k, v = (F.pad(part, (0, -size % LINE)).flatten(0, 1).transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=scale)[..., :size].transpose(1, 2).unflatten(0, lead)
    q, k, v = (operand(part, precision) for part in (q, k, v))
    scores = outcome((q[:, :, :, None] * k[:, :, None]).sum(-1), precision) * scale  # [K, B, Tq, T, H]
    shares = scores.softmax(3)
    shares = operand(drop(shares) if drop else shares, precision)
    return outcome((shares[..., None] * v[:, :, None]).sum(3), precision)


def _attention_by_products(
    q: Tensor, k: Tensor, v: Tensor, scale: float, precision: str, drop: Dropout | None
) -> Tensor:
    """q [K, B, Tq, H, d], k and v [K, B, T, H, d] -> [K, B, Tq, H, d], by rounded matrix products."""
    lead, heads = q.shape[:2], q.shape[3]
    # Of one example of one trial a flatten, and its gradient, is a view with gaps: another way through the product.
    q, k, v = (part.transpose(2, 3).flatten(0, 2).contiguous() for part in (q, k, v))  # [K·B·H, T, d]
    shares = (product(q, k.mT, precision) * scale).softmax(-1)
    shares = drop(shares.unflatten(0, (lead[0], -1))).flatten(0, 1) if drop else shares
    out: Tensor = _DenseGradient.apply(product(shares, v, precision))  # type: ignore[no-untyped-call]
    return out.unflatten(0, (*lead, heads)).transpose(2, 3)


class _DenseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous()


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [K, R, D], weight and bias [K, D]."""
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-5)
    return torch.addcmul(bias[:, None], normed, weight[:, None])


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x [K, R, D] over its root mean square, times weight [K, D] (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight[:, None]
