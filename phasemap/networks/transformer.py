"""The transformer of the published runs: post-norm blocks over token and position embeddings, one token read out.

Work that cannot change the readout is not done: the first block's queries, keys and values are computed for each
distinct token once, and only the readout token goes through the last block. With ``pooling`` mean all tokens do, and
the readout is given their mean.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from phasemap import networks
from phasemap.fields import POSITIVE_COUNT, Fault
from phasemap.networks.network import (
    Activation,
    Bottleneck,
    Depth,
    DropoutShare,
    Piece,
    Start,
    TieEmbeddings,
    TokenNetwork,
    Width,
    linear_pieces,
    norm_pieces,
)
from phasemap.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.numerics.random_streams import Dropout

__all__ = ("Transformer",)

Asked = list[tuple["Tensor", "Tensor", "Tensor"]]


class Transformer(TokenNetwork):
    """``depth`` blocks of attention over ``heads`` and a two-layer perceptron of 4 x ``width``."""

    def __init__(
        self,
        task: Task,
        width: Width = 128,
        depth: Depth = 2,
        heads: Annotated[int, "attention heads", POSITIVE_COUNT] = 4,
        activation: Activation = "relu",
        norm: Annotated[Literal["post", "pre", "none"], "where layer norms stand in a block"] = "post",
        bottleneck: Bottleneck = 0,
        clone_blocks: Annotated[bool, "the published code starts every block from the same weights"] = False,
        tie_embeddings: TieEmbeddings = False,
        norm_kind: Annotated[Literal["layer", "rms"], "layer norms of a block, or root-mean-square norms"] = "layer",
        pooling: Annotated[Literal["token", "mean"], "what is read out: one token, or the mean of all"] = "token",
        dropout: DropoutShare = 0.0,
    ):
        super().__init__(task, width, depth, activation, bottleneck, tie_embeddings, dropout)
        self.heads, self.norm, self.clone_blocks = heads, norm, clone_blocks
        self.norm_kind, self.pooling = "none" if norm == "none" else norm_kind, pooling
        if task.is_real:
            raise Fault(["model: a transformer needs inputs of whole numbers [N, T], got real ones; use an mlp"])
        if width % heads:
            below = width - width % heads
            cure = f"use {below} or {below + heads}" if below else f"use {heads}"
            raise Fault([f"width: must be a multiple of heads ({heads}), got {width}; {cure}"])

    def body(self) -> list[Piece]:
        width = self.width
        pieces = [Piece("position", (self.task.tokens, width), Start("normal", 0.02), "embedding")]
        for block in range(self.depth):
            name = f"block{block}."
            pieces += [  # torch.nn.MultiheadAttention: xavier over [3D, D], biases 0
                Piece(name + "qkv.weight", (width, 3 * width), Start("uniform", math.sqrt(6 / (4 * width)))),
                Piece(name + "qkv.bias", (3 * width,), Start("constant", 0.0)),
                Piece(name + "out.weight", (width, width), Start("uniform", 1 / math.sqrt(width))),
                Piece(name + "out.bias", (width,), Start("constant", 0.0)),
            ]
            pieces += norm_pieces(name + "norm1", self.norm_kind, width)
            pieces += norm_pieces(name + "norm2", self.norm_kind, width)
            pieces += linear_pieces(name + "up", width, 4 * width) + linear_pieces(name + "down", 4 * width, width)
        return pieces

    def initial(self, seed: int) -> Tensor:
        drawn = super().initial(seed)
        if self.clone_blocks:
            parts = self.layout.split(drawn[None])
            for name, part in parts.items():
                if name.startswith("block"):
                    part.copy_(parts["block0" + name[name.index(".") :]].clone())
        return drawn

    def hidden(self, weights: dict[str, Tensor], inputs: Tensor, drop: Dropout | None = None) -> Tensor:
        return self.attending(weights, inputs, drop)[0]

    def attending(
        self, weights: dict[str, Tensor], tokens: Tensor, drop: Dropout | None = None
    ) -> tuple[Tensor, Asked]:
        """What is read out of the last block [K, B, D], and each block's queries [K, B, Q, D],
        keys and values [K, B, T, D]."""
        trials, examples, length = len(weights["table"]), tokens.shape[1], tokens.shape[2]
        here = 0 if self.task.readout == "first" else length - 1
        distinct = weights["table"] + weights["position"][:, :, None]  # [K, T, V, D]
        rows = networks.layers.positions(tokens, distinct.shape[2])  # [K or 1, B·T]
        table = distinct.view(trials, -1, self.width)
        x = networks.layers.gather(table, rows).view(trials, examples, length, self.width)
        asked: Asked = []
        for block in range(self.depth):
            last = block == self.depth - 1 and self.pooling == "token"
            name = f"block{block}."
            source, lookup = (table, rows) if block == 0 else (x.view(trials, -1, self.width), None)
            queries, keys, values = self._attention_inputs(
                weights, name, source, lookup, x.shape, here if last else None
            )
            asked.append((queries, keys, values))
            if last:
                x = x[:, :, here : here + 1]
            x = self._block(weights, name, x.reshape(trials, -1, self.width), queries, keys, values, drop)
            x = x.view(trials, examples, -1, self.width)
        if self.pooling == "mean":  # written out: a sum of few, in one order wherever a row lies
            first, *others = x.unbind(2)
            return sum(others, start=first) / length, asked
        return x[:, :, 0], asked

    def _attention_inputs(
        self,
        weights: dict[str, Tensor],
        name: str,
        source: Tensor,
        lookup: Tensor | None,
        shape: tuple[int, ...],
        here: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [K, B, Tq, D], keys and values [K, B, T, D]; queries only for token ``here`` if given."""
        trials, examples, length, width = shape
        normed = self._norm(weights, name + "norm1", source) if self.norm == "pre" else source
        weight, bias = weights[name + "qkv.weight"], weights[name + "qkv.bias"][:, None]
        if lookup is not None:
            qkv = networks.layers.gather(self.product(normed, weight) + bias, lookup)
            q, k, v = qkv.view(trials, examples, length, 3 * width).split(width, dim=-1)
            return (q if here is None else q[:, :, here : here + 1]), k, v
        if here is None:
            qkv = (self.product(normed, weight) + bias).view(trials, examples, length, 3 * width)
            q, k, v = qkv.split(width, dim=-1)
            return q, k, v
        one = normed.view(trials, examples, length, width)[:, :, here]
        q = self.product(one.contiguous(), weight[..., :width]) + bias[..., :width]
        kv = self.product(normed, weight[..., width:]) + bias[..., width:]
        k, v = kv.view(trials, examples, length, 2 * width).split(width, dim=-1)
        return q.view(trials, examples, 1, width), k, v

    def _block(
        self,
        weights: dict[str, Tensor],
        name: str,
        x: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        drop: Dropout | None,
    ) -> Tensor:
        """The rest of a block for x [K, R, D], its residual stream; dropout where torch.nn.TransformerEncoderLayer has
        it: the shares of attention, both outputs, and the perceptron's activations."""
        attended = networks.layers.attention(q, k, v, self.heads, self.precision, drop).reshape(x.shape)
        x = x + self.masked(self.linear(weights, name + "out", attended), drop)
        x = self._norm(weights, name + "norm1", x) if self.norm == "post" else x
        inner = self._norm(weights, name + "norm2", x) if self.norm == "pre" else x
        wide = self.masked(self.activate(self.linear(weights, name + "up", inner)), drop)
        x = x + self.masked(self.linear(weights, name + "down", wide), drop)
        return self._norm(weights, name + "norm2", x) if self.norm == "post" else x

    def _norm(self, weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        return self.normalized(weights, name, self.norm_kind, x)

    def cost(self, batch: int) -> float:
        inner = 12 * self.width * self.task.tokens * (self.depth - 0.5 * (self.pooling == "token"))
        return 3 * batch * self.width * (inner + self.task.classes) + 1e7

    def outputs(self, batch: int) -> int:
        return batch * self.task.tokens * self.width

    def memory(self, batch: int) -> int:
        held = self.task.tokens * self.depth * 24 * self.width + 3 * self.task.classes
        return 10 * self.parameters + batch * held
