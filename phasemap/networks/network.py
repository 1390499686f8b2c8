"""The networks, each with a leading trial axis K: K models of one shape in one set of tensors.

All weights of a trial are one row of a flat [K, P] tensor; ``Layout`` names the pieces. Row k is
drawn from trial k's seed alone. Work that cannot change the readout is not done: the first layer
projects each distinct token once, not each example, and only the readout token goes through the
last block. Nothing here knows about data splits, losses or optimisers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from phasemap.numerics.matmul import LINE, product
from phasemap.plan.trial import Trial
from phasemap.tasks.task import Task

Weights = dict[str, Tensor]  # name -> [K, *shape]
Asked = list[tuple[Tensor, Tensor]]
Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]


def normal(std: float) -> Draw:
    return lambda shape, generator: torch.randn(shape, generator=generator) * std


def uniform(bound: float) -> Draw:
    return lambda shape, generator: (torch.rand(shape, generator=generator) * 2 - 1) * bound


def constant(value: float) -> Draw:
    return lambda shape, generator: torch.full(shape, value)


@dataclass(frozen=True)
class Piece:
    """One weight tensor: its shape without K, and how it starts."""

    name: str
    shape: tuple[int, ...]
    draw: Draw

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Where each weight tensor lies in a trial's row of P numbers."""

    pieces: tuple[Piece, ...]

    @cached_property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    def split(self, flat: Tensor) -> Weights:
        """[K, P] -> name: [K, *shape], as views."""
        parts = flat.split([piece.size for piece in self.pieces], dim=1)
        return {piece.name: part.view(-1, *piece.shape) for piece, part in zip(self.pieces, parts, strict=True)}

    def initial(self, seed: int, scale: float, clone_blocks: bool) -> Tensor:
        """[P]: one trial's initial weights, drawn piece by piece on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {piece.name: piece.draw(piece.shape, generator) for piece in self.pieces}
        if clone_blocks:
            drawn |= {name: drawn["block0" + name[name.index(".") :]] for name in drawn if name.startswith("block")}
        return torch.cat([part.flatten() for part in drawn.values()]) * scale


@dataclass(frozen=True)
class Model:
    """A network of one shape: its layout and its function."""

    trial: Trial  # any trial of the stack: only the fields that fix the shape are read
    task: Task

    @cached_property
    def layout(self) -> Layout:
        trial, task = self.trial, self.task
        tables = task.tokens.shape[1] if task.separate_tables and not trial.tie_embeddings else 1
        pieces = [Piece("table", (tables, task.vocabulary, trial.width), normal(1.0))]
        body = _transformer_pieces if trial.model == "transformer" else _mlp_pieces
        pieces += body(trial, task.tokens.shape[1])
        if trial.bottleneck:
            pieces += _linear("squeeze", trial.width, trial.bottleneck) + _linear(
                "widen", trial.bottleneck, trial.width
            )
        return Layout(tuple(pieces + _linear("readout", trial.width, task.classes)))

    def hidden(self, weights: Weights, tokens: Tensor, asked: Asked | None = None) -> Tensor:
        """tokens [K or 1, B, T] -> the readout token's output of the last block, [K, B, D].

        Appends each block's queries [K, B, Q, D] and keys [K, B, T, D] to ``asked``, if given.
        """
        if self.trial.model == "transformer":
            return _transformer(self, weights, tokens, [] if asked is None else asked)
        return _mlp(self, weights, tokens)

    def logits(self, weights: Weights, hidden: Tensor) -> Tensor:
        """hidden [K, B, D] -> [K, B, C]."""
        if self.trial.bottleneck:
            hidden = self.linear(weights, "widen", self.linear(weights, "squeeze", hidden).relu())
        return self.linear(weights, "readout", hidden)

    def linear(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        """x [K, R, in] -> [K, R, out]."""
        return self.product(x, weights[name + ".weight"]) + weights[name + ".bias"][:, None]

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return product(a, b, self.trial.precision)

    def activation(self, x: Tensor) -> Tensor:
        if self.trial.activation == "square":
            return x * x
        return x.relu() if self.trial.activation == "relu" else F.gelu(x)


def gather(table: Tensor, rows: Tensor) -> Tensor:
    """table [K, R, D], rows [K or 1, B] -> [K, B, D]. As one lookup in a [K·R, D] table, whose
    gradient is a plain sum in index order: the same for a trial in any stack."""
    trials, count, width = table.shape
    offsets = torch.arange(trials, device=table.device)[:, None] * count
    return F.embedding(rows + offsets, table.reshape(-1, width))


def _linear(name: str, inputs: int, outputs: int) -> list[Piece]:
    """torch.nn.Linear's default start; the weight is stored [in, out]."""
    start = uniform(1 / math.sqrt(inputs))
    return [Piece(name + ".weight", (inputs, outputs), start), Piece(name + ".bias", (outputs,), start)]


def _mlp_pieces(trial: Trial, tokens: int) -> list[Piece]:
    joined = trial.width * (tokens if trial.embedding == "concatenate" else 1)
    pieces = _linear("layer0", joined, trial.width)
    for layer in range(1, trial.depth):
        pieces += _linear(f"layer{layer}", trial.width, trial.width)
    return pieces


def _mlp(model: Model, weights: Weights, tokens: Tensor) -> Tensor:
    """Embeddings, summed or concatenated, then ``depth`` hidden layers. The first layer is linear
    in the embeddings, so it is applied to the tables and its outputs are looked up."""
    trial, (trials, _, vocabulary, width) = model.trial, weights["table"].shape
    length, first = tokens.shape[-1], weights["layer0.weight"]
    table = weights["table"].expand(-1, length if trial.embedding == "concatenate" else -1, -1, -1)
    if trial.embedding == "concatenate":
        rows = table.reshape(trials * length, vocabulary, width)
        projected = model.product(rows, first.reshape(trials * length, width, width))
    else:
        projected = model.product(table.reshape(trials, -1, width), first)
    projected = projected.view(trials, -1, width)
    step = vocabulary if table.shape[1] > 1 else 0
    x = sum(gather(projected, tokens[..., t] + t * step) for t in range(length))
    x = model.activation(x + weights["layer0.bias"][:, None])
    for layer in range(1, trial.depth):
        x = model.activation(model.linear(weights, f"layer{layer}", x))
    return x


def _transformer_pieces(trial: Trial, tokens: int) -> list[Piece]:
    width = trial.width
    pieces = [Piece("position", (tokens, width), normal(0.02))]
    for block in range(trial.depth):
        name = f"block{block}."
        pieces += [  # torch.nn.MultiheadAttention: xavier over [3D, D], biases 0
            Piece(name + "qkv.weight", (width, 3 * width), uniform(math.sqrt(6 / (4 * width)))),
            Piece(name + "qkv.bias", (3 * width,), constant(0.0)),
            Piece(name + "out.weight", (width, width), uniform(1 / math.sqrt(width))),
            Piece(name + "out.bias", (width,), constant(0.0)),
        ]
        if trial.norm != "none":
            for norm in ("norm1", "norm2"):
                pieces += [Piece(f"{name}{norm}.weight", (width,), constant(1.0))]
                pieces += [Piece(f"{name}{norm}.bias", (width,), constant(0.0))]
        pieces += _linear(name + "up", width, 4 * width) + _linear(name + "down", 4 * width, width)
    return pieces


def _transformer(model: Model, weights: Weights, tokens: Tensor, asked: Asked) -> Tensor:
    trials, examples, length = len(weights["table"]), tokens.shape[1], tokens.shape[2]
    width = model.trial.width
    here = 0 if model.task.readout == "first" else length - 1
    distinct = weights["table"] + weights["position"][:, :, None]  # [K, T, V, D]
    vocabulary = distinct.shape[2]
    rows = (tokens + torch.arange(length, device=tokens.device) * vocabulary).flatten(1)  # [K or 1, B·T]
    table = distinct.view(trials, -1, width)
    x = gather(table, rows).view(trials, examples, length, width)
    for block in range(model.trial.depth):
        last = block == model.trial.depth - 1
        name = f"block{block}."
        source, lookup = (table, rows) if block == 0 else (x.view(trials, -1, width), None)
        queries, keys, values = _attention_inputs(model, weights, name, source, lookup, x.shape, here if last else None)
        asked.append((queries, keys))
        if last:
            x = x[:, :, here : here + 1]
        x = _block(model, weights, name, x.reshape(trials, -1, width), queries, keys, values)
        x = x.view(trials, examples, -1, width)
    return x[:, :, 0]


def _attention_inputs(
    model: Model, weights: Weights, name: str, source: Tensor, lookup: Tensor | None, shape: tuple, here: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [K, B, Tq, D], keys and values [K, B, T, D]; queries only for token ``here`` if given."""
    trials, examples, length, width = shape
    normed = _norm(model, weights, name + "norm1", source) if model.trial.norm == "pre" else source
    weight, bias = weights[name + "qkv.weight"], weights[name + "qkv.bias"][:, None]
    if lookup is not None:
        qkv = gather(model.product(normed, weight) + bias, lookup).view(trials, examples, length, 3 * width)
        q, k, v = qkv.split(width, dim=-1)
        return (q if here is None else q[:, :, here : here + 1]), k, v
    if here is None:
        q, k, v = (model.product(normed, weight) + bias).view(trials, examples, length, 3 * width).split(width, dim=-1)
        return q, k, v
    one = normed.view(trials, examples, length, width)[:, :, here]
    q = model.product(one.contiguous(), weight[..., :width]) + bias[..., :width]
    kv = model.product(normed, weight[..., width:]) + bias[..., width:]
    k, v = kv.view(trials, examples, length, 2 * width).split(width, dim=-1)
    return q.view(trials, examples, 1, width), k, v


def _block(model: Model, weights: Weights, name: str, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The rest of a block for x [K, R, D], its residual stream."""
    post = model.trial.norm == "post"
    x = x + model.linear(weights, name + "out", _attention(q, k, v, model.trial.heads).reshape(x.shape))
    x = _norm(model, weights, name + "norm1", x) if post else x
    inner = _norm(model, weights, name + "norm2", x) if model.trial.norm == "pre" else x
    x = x + model.linear(weights, name + "down", model.activation(model.linear(weights, name + "up", inner)))
    return _norm(model, weights, name + "norm2", x) if post else x


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """q [K, B, Tq, D], k and v [K, B, T, D] -> [K, B, Tq, D], unmasked. Two tokens are too few for
    a matrix product: there the sums are written out."""
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in (q, k, v))
    scale = q.shape[-1] ** -0.5
    if k.shape[2] > 4:
        size = q.shape[-1]  # padded, for torch's sums here hang on where a row begins within 64 bytes
        q, k, v = (F.pad(part, (0, -size % LINE)).flatten(0, 1).transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=scale)[..., :size].transpose(1, 2).flatten(-2)
    scores = (q[:, :, :, None] * k[:, :, None]).sum(-1) * scale  # [K, B, Tq, T, H]
    return (scores.softmax(3)[..., None] * v[:, :, None]).sum(3).flatten(-2)


def _norm(model: Model, weights: Weights, name: str, x: Tensor) -> Tensor:
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-5)
    return torch.addcmul(weights[name + ".bias"][:, None], normed, weights[name + ".weight"][:, None])
