"""The linear layers of a user's module that stand on embeddings, applied to whole tables.

Such a layer is given token vectors, summed, averaged or side by side. It gives the same where it is applied to the
tables and its outputs are looked up: each distinct token is projected once, not each example. The built-in perceptron
is written so. In a user's module these layers are known by what they are given, however the module is written: where
that is a join of the looked-up vectors at drawn weights, small ones and large ones, it is taken for one at all weights.
The module itself runs as before; only the layer's product is made elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from phasemap.networks import layers
from phasemap.networks.arithmetic import KNOWN, is_embedding, is_linear

JOINS: dict[str, Callable[[Tensor], Tensor]] = {  # [B, T, D] -> [B, D], or [B, T·D]
    "sum": lambda vectors: vectors.sum(1),
    "mean": lambda vectors: vectors.mean(1),
    "concatenate": lambda vectors: vectors.flatten(1),
}
PAYS = 0.8  # distinct tokens for each example: at 0.76 steps became 2 to 11 % faster, at 0.92 2 to 7 % slower
SCALES = (1.0, 2.0**-20, 2.0**20)  # of drawn weights
FEW = 32  # examples that show for most modules that there is none

Weights = Mapping[str, Tensor]
Calls = list[tuple[nn.Module, Tensor]]  # a layer, and what it was given


@dataclass(frozen=True)
class FirstLayer:
    """A linear layer on embeddings. Names are those of the module and of its trained weights."""

    layer: str
    weight: str
    tables: tuple[str, ...]  # of each looked-up vector
    positions: tuple[int, ...]  # of the tokens that are looked up in them
    join: str

    def pays(self, weights: Weights, examples: int) -> bool:
        """Whether it saves time. It depends on shapes alone, so it is the same for a trial in any stack."""
        tables = 1 if self.join == "concatenate" else len(set(self.tables))
        return tables * weights[self.tables[0]].shape[-2] <= PAYS * examples

    def product(self, weights: Weights, inputs: Tensor) -> Tensor:
        """The layer's output without its bias: weights [K, ...], inputs [K or 1, B, T] -> [K, B, out]."""
        names = self.tables[:1] if len(set(self.tables)) == 1 else self.tables
        table = torch.stack([weights[name] for name in names], 1)
        tokens = torch.stack([inputs[..., t] for t in self.positions], -1)
        out = layers.looked_up(table, weights[self.weight].mT, tokens, self.join == "concatenate")
        return out / len(self.positions) if self.join == "mean" else out


def known(first: Iterable[FirstLayer], weights: Weights, inputs: Tensor) -> dict[str, Tensor]:
    """The products of these layers, by the names under which ``arithmetic.py`` finds them."""
    return {f"{one.layer}.{KNOWN}": one.product(weights, inputs) for one in first}


def find(
    module: nn.Module, trained: Weights, run: Callable[[Weights, Tensor], object], inputs: Tensor
) -> tuple[FirstLayer, ...]:
    """The module's linear layers on embeddings.

    Args:
        trained: the module's own parameters.
        run: calls the module with weights of these names on some of the inputs.
        inputs: [N, T].
    """
    first_layers: tuple[FirstLayer, ...] = ()
    for count, scale in ((FEW, 1.0), *((len(inputs), scale) for scale in SCALES)):
        weights, some = _drawn(trained, scale), inputs[:count]
        with _listening(module) as calls, torch.no_grad():
            run(weights, some)
        first_layers = tuple(_known(module, trained, weights, calls, some))
        if not first_layers:
            break
    return first_layers


def _drawn(trained: Weights, scale: float) -> dict[str, Tensor]:
    """Numbers of 17 bits, so that a hundred of them have the same sum in any order."""
    generator = torch.Generator().manual_seed(0)
    wide = {name: torch.randint(-(2**16), 2**16, one.shape, generator=generator) for name, one in trained.items()}
    return {name: one * (scale / 2**10) for name, one in wide.items()}


@contextmanager
def _listening(module: nn.Module) -> Iterator[Calls]:
    calls: Calls = []
    heard = [one for one in module.modules() if is_linear(one) or is_embedding(one)]
    hooks = [one.register_forward_hook(lambda one, given, _: calls.append((one, given[0]))) for one in heard]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _known(module: nn.Module, trained: Weights, weights: Weights, calls: Calls, inputs: Tensor) -> Iterator[FirstLayer]:
    names = {id(one): name for name, one in trained.items()}
    terms = dict.fromkeys(
        (names[id(one.weight)], t)
        for one, rows in calls
        if is_embedding(one) and id(one.weight) in names
        for column in rows.reshape(rows.shape[:1].numel(), -1).unbind(1)
        for t in range(inputs.shape[1])
        if torch.equal(column, inputs[:, t])
    )
    if len({weights[table].shape for table, _ in terms}) != 1:
        return
    tables, positions = zip(*terms, strict=True)
    vectors = torch.stack([weights[table][inputs[:, t]] for table, t in terms], 1)
    for layer, one in module.named_modules():
        given = [x for other, x in calls if other is one]
        if is_linear(one) and given and id(one.weight) in names:
            for join in JOINS:
                if all(_is(x, JOINS[join](vectors)) for x in given):
                    yield FirstLayer(layer, names[id(one.weight)], tables, positions, join)
                    break


def _is(x: Tensor, wanted: Tensor) -> bool:
    """Equal, but for the rounding of a mean."""
    return x.shape == wanted.shape and bool((x - wanted).abs().max() <= 1e-6 * wanted.abs().max())
