"""How widely the attention of a block spreads over the tokens. It says nothing about where."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phasemap.networks.transformer import Transformer
from phasemap.numerics.matmul import batched
from phasemap.probes.batch import blocks, finite_mean
from phasemap.probes.view import Numbers, View

CURVES = {
    "attention_entropy": "mean entropy, in bits, of the readout token's attention in the last block, or of all tokens' "
    "if they are pooled, over heads and test examples; 1 is even attention to two tokens",
}


def attention_weights(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Softmax of scaled products, head by head.

    Args:
        queries: [K, N, Q, D], Q asking tokens.
        keys: [K, N, T, D].
        heads: H, a divisor of D.

    Returns:
        [K, N, H, Q, T].
    """
    queries, keys = (x.unflatten(-1, (heads, -1)).transpose(2, 3) for x in (queries, keys))
    return torch.softmax(batched(queries, keys.mT) / math.sqrt(queries.shape[-1]), -1)


def example_entropy(weights: Tensor) -> Tensor:
    """Mean entropy over heads and asking tokens, of each example: [K, N, H, Q, T] -> [K, N] bits, 0 (one token) to
    log2(T) (all alike)."""
    return torch.special.entr(weights).sum(-1).flatten(2).mean(2) / math.log(2)


def probe(view: View) -> Numbers:
    """Block by block. The outcome is the last block's, where only the readout token asks."""
    network = view.shape.network
    if not isinstance(network, Transformer):
        return {}
    weights, parts = network.layout.split(view.flat), []
    for chunk in blocks(len(view.inputs)):
        asked = network.attending(weights, view.inputs[None, chunk])[1]
        spread = [attention_weights(queries, keys, network.heads) for queries, keys, _ in asked]
        parts.append(torch.stack([example_entropy(weights) for weights in spread]))
    entropies = [finite_mean(block, view.test) for block in torch.cat(parts, 2)]
    named = {f"attention_entropy/block{block}": value for block, value in enumerate(entropies)}
    return named | {"attention_entropy": entropies[-1]}
