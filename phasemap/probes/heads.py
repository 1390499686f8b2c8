"""Whether the heads of a transformer do the same: how alike their outputs are."""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.networks.transformer import Transformer
from phasemap.numerics.matmul import batched
from phasemap.probes.attention import attention_weights
from phasemap.probes.batch import blocks, mean_chosen
from phasemap.probes.view import Numbers, View

CURVES = {
    "head_similarity": "mean cosine of the outputs of two heads of the last block, over all pairs and test examples",
}


def head_similarity(outputs: Tensor) -> Tensor:
    """Mean cosine of two heads' outputs, over the pairs of different heads.

    Li et al. 2018, "Multi-head attention with disagreement regularization", arXiv 1810.10183: their disagreement on
    outputs is minus this mean, but over all H² pairs, a head with itself included.

    Args:
        outputs: [K, N, H, d], before the heads are joined.

    Returns:
        [K, N], -1 / (H - 1) to 1.
    """
    heads = outputs.shape[2]
    together = torch.nn.functional.normalize(outputs.double(), dim=3).sum(2).square().sum(2)
    return (together - heads) / (heads * (heads - 1))


def probe(view: View) -> Numbers:
    network = view.shape.network
    if not isinstance(network, Transformer) or network.heads == 1:
        return {}
    weights, parts = network.layout.split(view.flat), []
    for chunk in blocks(len(view.inputs)):
        queries, keys, values = network.attending(weights, view.inputs[None, chunk])[1][-1]
        shares = attention_weights(queries, keys, network.heads)  # [K, n, H, Q, T]
        outputs = batched(shares, values.unflatten(-1, (network.heads, -1)).transpose(2, 3))
        parts.append(
            head_similarity(outputs.transpose(2, 3).flatten(1, 2)).unflatten(1, (-1, queries.shape[2])).mean(2)
        )
    return {"head_similarity": mean_chosen(torch.cat(parts, 1), view.test)}
