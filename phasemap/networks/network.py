"""What every network is: K models of one shape in one set of tensors, with a leading trial axis K.

All weights of a trial are one row of a flat [K, P] tensor; ``Layout`` names the pieces. Row k is drawn from trial k's
seed alone. A subclass writes the arithmetic of a whole stack by hand; ``module.py`` makes one of any torch.nn.Module.
Nothing here knows about data splits, losses or optimizers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from phasemap import networks
from phasemap.fields import NOT_NEGATIVE, POSITIVE_COUNT, SHARE_BELOW_ONE
from phasemap.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.numerics.random_streams import Dropout

Width = Annotated[int, "length of a hidden vector", POSITIVE_COUNT]
Depth = Annotated[int, "blocks or hidden layers", POSITIVE_COUNT]
Activation = Annotated[Literal["relu", "gelu", "square", "tanh", "sigmoid", "silu"], "nonlinearity"]
Bottleneck = Annotated[int, "0: none; r: hidden -> Linear(r) -> ReLU -> Linear(width) -> readout", NOT_NEGATIVE]
DropoutShare = Annotated[float, "share of activations set to 0 in a training step", SHARE_BELOW_ONE]
TieEmbeddings = Annotated[bool, "one table for all token positions"]


Group = Literal["embedding", "body", "readout"]


@dataclass(frozen=True)
class Start:
    """How weights start: ``normal`` (standard deviation), ``uniform`` (bound) or ``constant`` (value)."""

    kind: Literal["normal", "uniform", "constant"]
    size: float


@dataclass(frozen=True)
class Piece:
    """One weight tensor: its shape without K, how it starts, and the group of layers that it is part of."""

    name: str
    shape: tuple[int, ...]
    start: Start
    group: Group = "body"

    @property
    def size(self) -> int:
        """Numbers in the piece."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Where each weight tensor lies in a trial's row of P numbers."""

    pieces: tuple[Piece, ...]

    def room(self, piece: Piece) -> int:
        """How many of the P numbers it takes."""
        return piece.size

    @cached_property
    def size(self) -> int:
        """Numbers in a trial's row."""
        return sum(map(self.room, self.pieces))

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where each piece lies."""
        ends = list(itertools.accumulate(map(self.room, self.pieces)))
        starts = [0, *ends[:-1]]
        return {piece.name: slice(*both) for piece, *both in zip(self.pieces, starts, ends, strict=True)}

    def runs(self, chosen: Iterable[Piece]) -> list[slice]:
        """Where chosen pieces lie; those that follow each other as one."""
        runs: list[slice] = []
        for place in sorted((self.places[piece.name] for piece in chosen), key=lambda place: place.start):
            if runs and runs[-1].stop == place.start:
                place = slice(runs.pop().start, place.stop)
            runs.append(place)
        return runs

    def sides(self, matrix: Piece) -> tuple[int, int]:
        """Inputs and outputs of a piece with two axes."""
        inputs, outputs = matrix.shape
        return inputs, outputs

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """[K, P] -> name: [K, *shape], as views."""
        parts = flat.split([piece.size for piece in self.pieces], dim=1)
        return {piece.name: part.view(-1, *piece.shape) for piece, part in zip(self.pieces, parts, strict=True)}


def linear_pieces(name: str, inputs: int, outputs: int, group: Group = "body") -> list[Piece]:
    """torch.nn.Linear's default start; the weight is stored [in, out]."""
    start = Start("uniform", 1 / math.sqrt(inputs))
    return [Piece(name + ".weight", (inputs, outputs), start, group), Piece(name + ".bias", (outputs,), start, group)]


def norm_pieces(name: str, kind: str, width: int) -> list[Piece]:
    """The weights of a ``layer`` or ``rms`` norm, as torch.nn starts them; none for ``none``."""
    weight = Piece(name + ".weight", (width,), Start("constant", 1.0))
    bias = Piece(name + ".bias", (width,), Start("constant", 0.0))
    return {"none": [], "rms": [weight], "layer": [weight, bias]}[kind]


class Network:
    """A stack of networks of one shape. The parameters of a subclass's ``__init__`` after ``task`` are its fields.

    Weights are a dict ``name -> [K, *shape]``; inputs [K or 1, B, ...].
    """

    precision = "fp32"  #: of every matrix product
    dropout = 0.0  #: share; where it is not 0, ``logits`` takes the step's ``Dropout`` too
    width: int  #: of a hidden vector

    def __init__(self, task: Task):
        self.task = task

    def pieces(self) -> list[Piece]:
        """All weight tensors, in the order in which they are drawn."""
        raise NotImplementedError

    def hidden(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """The vectors that the probes look at, [K, B, D]."""
        raise NotImplementedError

    def readout(self, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
        """hidden [K, B, D] -> logits [K, B, C]."""
        raise NotImplementedError

    @cached_property
    def layout(self) -> Any:
        """Where each piece stands in a trial's row of weights."""
        return Layout(tuple(self.pieces()))

    @property
    def parameters(self) -> int:
        """How many weights a trial has."""
        return self.layout.size

    @property
    def groups(self) -> set[Group]:
        """The groups that its weights belong to."""
        return {piece.group for piece in self.layout.pieces}

    def initial(self, seed: int) -> Tensor:
        """[P]: one trial's initial weights, drawn piece by piece on the CPU."""
        return networks.layers.initial(self.layout.pieces, seed)

    def named(self, row: Tensor) -> dict[str, Tensor]:
        """[P], one trial's weights -> name: tensor, as they are kept."""
        return {name: one[0].clone() for name, one in self.layout.split(row[None]).items()}

    def logits(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """inputs [K or 1, B, ...] -> logits [K, B, C]."""
        return self.readout(weights, self.hidden(weights, inputs))

    def look(self, weights: dict[str, Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden vectors [K, B, D] and logits [K, B, C], without a gradient."""
        hidden = self.hidden(weights, inputs)
        return hidden, self.readout(weights, hidden)

    def logits_again(self, weights: dict[str, Tensor], inputs: Tensor, hidden: Tensor) -> Tensor:
        """Logits [K, B, C] of inputs whose hidden vectors [K, B, D] are known from a look."""
        return self.readout(weights, hidden)

    def cost(self, batch: int) -> float:
        """Multiply-adds of one training step of one trial, roughly: by default, three per weight and example."""
        return 3.0 * batch * self.parameters + 2e6

    def outputs(self, batch: int) -> int:
        """Numbers in the widest layer's output for a batch: as many as stay in a core's cache train fastest."""
        return batch * self.width

    def memory(self, batch: int) -> int:
        """Numbers that one more trial holds at most: weights, moments, gradients, outputs."""
        return 10 * self.parameters + batch * (24 * self.width + 3 * self.task.classes)

    def linear(self, weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        """x [K, R, in] -> [K, R, out]."""
        return networks.layers.linear(x, weights[name + ".weight"], weights[name + ".bias"], self.precision)


class TokenNetwork(Network):
    """What our own networks share: embedding tables, an optional bottleneck, a linear readout."""

    def __init__(
        self,
        task: Task,
        width: int,
        depth: int,
        activation: str,
        bottleneck: int,
        tie_embeddings: bool,
        dropout: float = 0.0,
    ):
        super().__init__(task)
        self.dropout = dropout
        self.width, self.depth, self.activation = width, depth, activation
        self.bottleneck, self.tie_embeddings = bottleneck, tie_embeddings

    def body(self) -> list[Piece]:
        """The pieces between the tables and the bottleneck."""
        raise NotImplementedError

    def pieces(self) -> list[Piece]:
        """The token tables, the body, the bottleneck if any, and the readout."""
        tables = self.task.tokens if self.task.separate_tables and not self.tie_embeddings else 1
        table = Piece("table", (tables, self.task.vocabulary, self.width), Start("normal", 1.0), "embedding")
        pieces = ([] if self.task.is_real else [table]) + self.body()
        if self.bottleneck:
            pieces += linear_pieces("squeeze", self.width, self.bottleneck)
            pieces += linear_pieces("widen", self.bottleneck, self.width)
        return pieces + linear_pieces("readout", self.width, self.task.classes, "readout")

    def hidden(self, weights: dict[str, Tensor], inputs: Tensor, drop: Dropout | None = None) -> Tensor:
        """The vectors that the probes look at, [K, B, D]; ``drop`` masks activations in a training step."""
        raise NotImplementedError

    def logits(self, weights: dict[str, Tensor], inputs: Tensor, drop: Dropout | None = None) -> Tensor:
        """inputs [K or 1, B, ...] -> logits [K, B, C]."""
        return self.readout(weights, self.hidden(weights, inputs, drop))

    def readout(self, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
        """Logits, from the hidden vectors: a linear layer, through the bottleneck if there is one."""
        if self.bottleneck:
            hidden = self.linear(weights, "widen", self.linear(weights, "squeeze", hidden).relu())
        return self.linear(weights, "readout", hidden)

    def normalized(self, weights: dict[str, Tensor], name: str, kind: str, x: Tensor) -> Tensor:
        """x [K, R, D] after the norm of ``norm_pieces``."""
        if kind == "none":
            return x
        if kind == "rms":
            return networks.layers.rms_norm(x, weights[name + ".weight"])
        return networks.layers.layer_norm(x, weights[name + ".weight"], weights[name + ".bias"])

    @staticmethod
    def masked(x: Tensor, drop: Dropout | None) -> Tensor:
        """x [K, ...] after dropout, if there is any."""
        return x if drop is None else drop(x)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Matrix product in the trial's precision."""
        return networks.layers.product(a, b, self.precision)

    def activate(self, x: Tensor) -> Tensor:
        """The trial's activation function, element by element."""
        return networks.layers.activate(x, self.activation)
