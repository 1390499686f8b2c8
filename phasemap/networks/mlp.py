"""A multilayer perceptron over token embeddings, or over real inputs.

Embeddings are summed or concatenated, then come ``depth`` hidden layers. The first layer is linear in the embeddings,
so it is applied to the tables and its outputs are looked up: each distinct token is projected once, not each example.
A hidden layer is activation(norm(linear(x))); with ``residual`` all but the first, whose width may change, add x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from phasemap import networks
from phasemap.fields import Fault
from phasemap.networks.network import (
    Activation,
    Bottleneck,
    Depth,
    DropoutShare,
    Piece,
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

__all__ = ("MLP",)


class MLP(TokenNetwork):
    """Embeddings, ``depth`` hidden layers of ``width``, readout."""

    def __init__(
        self,
        task: Task,
        width: Width = 128,
        depth: Depth = 2,
        embedding: Annotated[Literal["sum", "concatenate"], "how the MLP joins its token vectors"] = "sum",
        activation: Activation = "relu",
        bottleneck: Bottleneck = 0,
        tie_embeddings: TieEmbeddings = False,
        hidden_norm: Annotated[Literal["none", "layer", "rms"], "norm before each activation of the MLP"] = "none",
        residual: Annotated[bool, "hidden layers after the first add their input"] = False,
        dropout: DropoutShare = 0.0,
    ):
        super().__init__(task, width, depth, activation, bottleneck, tie_embeddings, dropout)
        self.embedding, self.hidden_norm, self.residual = embedding, hidden_norm, residual
        if embedding == "sum" and not task.is_real and not task.separate_tables:
            raise Fault(
                [
                    "embedding: must be concatenate for an MLP on a task with one table for all positions, because a "
                    "sum forgets the order of the tokens, got 'sum'; use concatenate"
                ]
            )

    def body(self) -> list[Piece]:
        joined = self.width * (self.task.tokens if self.embedding == "concatenate" else 1)
        sizes = [self.task.features if self.task.is_real else joined, *[self.width] * (self.depth - 1)]
        pieces = []
        for layer, inputs in enumerate(sizes):
            pieces += linear_pieces(f"layer{layer}", inputs, self.width)
            pieces += norm_pieces(f"norm{layer}", self.hidden_norm, self.width)
        return pieces

    def hidden(self, weights: dict[str, Tensor], inputs: Tensor, drop: Dropout | None = None) -> Tensor:
        x = self._first_layer(weights, inputs) + weights["layer0.bias"][:, None]
        x = self.masked(self._active(weights, 0, x), drop)
        for layer in range(1, self.depth):
            further = self._active(weights, layer, self.linear(weights, f"layer{layer}", x))
            further = self.masked(further, drop)
            x = x + further if self.residual else further
        return x

    def _active(self, weights: dict[str, Tensor], layer: int, x: Tensor) -> Tensor:
        return self.activate(self.normalized(weights, f"norm{layer}", self.hidden_norm, x))

    def _first_layer(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """[K, B, width], without its bias."""
        first = weights["layer0.weight"]
        if self.task.is_real:
            return self.product(inputs.flatten(2).expand(len(first), -1, -1), first)
        joined = self.embedding == "concatenate"
        return networks.layers.looked_up(weights["table"], first, inputs, joined, self.precision)

    def cost(self, batch: int) -> float:
        first = (
            self.task.features * batch if self.task.is_real else self.task.tokens * self.task.vocabulary * self.width
        )
        return 3 * self.width * (batch * ((self.depth - 1) * self.width + self.task.classes) + first) + 2e6
