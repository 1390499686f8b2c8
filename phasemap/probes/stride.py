"""In which stride the class vectors walk around their circle, and whether chance would do as well.

For a stride s, the adjacency score is the share of hits when each place's two nearest others are
compared with the places s before and s after it; where these coincide (s half of an even circle),
the one nearest with the one expected. The winning stride has the highest score of 1..n/2. The
p-value relabels the places at random, inside each circle, and lets the best stride win again.

Circles ``[K, G, n, D]`` come from ``circles.py``; scores are averaged over the G circles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from phasemap.numerics.matmul import batched
from phasemap.probes.batch import nan_unless, only_finite
from phasemap.probes.view import Found, View

OUTCOMES = {
    "winning_stride": "stride s with the highest adjacency score of the class centroids, outer reading: the whole "
    "group for addition and subtraction mod p, the cosets of the subgroup for multiplication and division",
    "winning_stride_p_value": "share of 999 random relabellings whose best score is as high, (1 + hits) / 1000",
    "inner_winning_stride": "as winning_stride, inside each coset, averaged over cosets (multiplication and division "
    "only)",
    "inner_winning_stride_p_value": "its p-value against random relabellings",
}
CURVES = {
    "winning_stride_score": "adjacency score of winning_stride, 0 to 1",
    "inner_winning_stride_score": "adjacency score of inner_winning_stride, 0 to 1",
}

DRAWS = 999
COMPARISONS = 2**22  # neighbour pairs relabelled at once


@dataclass(frozen=True)
class Stride:
    """The winner of each trial; all [K] float64, NaN where a class vector is not finite."""

    stride: Tensor
    score: Tensor
    p_value: Tensor


def adjacency(circles: Tensor) -> Tensor:
    """Adjacency score of every stride 1..n/2: [K, G, n, D] -> [K, n // 2], 0 to 1."""
    neighbours, sound = _neighbours(circles)
    places = torch.arange(circles.shape[2], device=circles.device).expand(1, *circles.shape[1:3])
    points = _points(neighbours, places)[:, 0].double()
    return (points / _most(circles)).masked_fill(~sound[:, None], torch.nan)


def winning_score(circles: Tensor) -> Tensor:
    """The highest adjacency score, cheap enough for a curve: [K, G, n, D] -> [K]."""
    return adjacency(circles).amax(1)


def winning_stride(circles: Tensor) -> Stride:
    """The stride with the highest score (the smallest, if tied) and its p-value, (1 + hits) / 1000."""
    neighbours, sound = _neighbours(circles)
    score, stride = adjacency(circles).max(1)
    own = score * _most(circles)
    hits = torch.zeros_like(score)
    relabellings = _relabellings(*circles.shape[1:3]).to(circles.device)
    for some in relabellings.split(max(1, COMPARISONS // neighbours.numel())):
        best = _points(neighbours, some).amax(2)
        hits += (best >= own.round()[:, None]).sum(1)
    return Stride(nan_unless(sound, stride + 1), score, nan_unless(sound, (1 + hits) / (1 + DRAWS)))


def _most(circles: Tensor) -> int:
    """Points of a perfect walk: two for every place."""
    return 2 * circles.shape[1] * circles.shape[2]


def _neighbours(circles: Tensor) -> tuple[Tensor, Tensor]:
    """Each place's two nearest others, nearest first [K, G, n, 2], and which trials have any [K]."""
    vectors, finite = only_finite(circles.double())
    vectors = vectors - vectors.mean(2, keepdim=True)  # the product form below loses digits far from 0
    norms = (vectors**2).sum(3)
    squared = norms[:, :, :, None] + norms[:, :, None, :] - 2 * batched(vectors, vectors.mT)
    squared.diagonal(dim1=2, dim2=3).fill_(torch.inf)
    apart = norms.flatten(1).amax(1) > 0
    return squared.topk(2, dim=3, largest=False).indices, finite & apart


def _points(neighbours: Tensor, labels: Tensor) -> Tensor:
    """Points of every stride under R labellings of the places, whole numbers so that ties are ties.

    A neighbour at stride s or -s earns a point. At half a circle only the nearest can, and earns two.

    Args:
        neighbours: [K, G, n, 2].
        labels: [R, G, n], a permutation of 0..n-1 for each circle.

    Returns:
        [K, R, n // 2].
    """
    trials, places = len(neighbours), neighbours.shape[2]
    wanted = neighbours[:, None].expand(-1, len(labels), -1, -1, -1)
    there = labels[None, :, :, :, None].expand(trials, -1, -1, -1, 2).gather(3, wanted)
    step = (there - labels[None, :, :, :, None]).abs()
    stride = torch.minimum(step, places - step)
    worth = torch.where(2 * stride == places, stride.new_tensor([2, 0]), 1)
    points = torch.zeros(trials, len(labels), places // 2 + 1, dtype=torch.long, device=labels.device)
    return points.scatter_add_(2, stride.flatten(2), worth.flatten(2))[..., 1:]


@lru_cache(maxsize=16)
def _relabellings(circles: int, places: int) -> Tensor:
    """The same random relabellings for every trial: [DRAWS, G, n]."""
    ordered = np.tile(np.arange(places), (DRAWS, circles, 1))
    return torch.from_numpy(np.random.default_rng(0).permuted(ordered, axis=2))


def probe(view: View) -> Found:
    """The score for the curve; the stride and its p-value at a trial's end."""
    found = {}
    for prefix, circle in view.circles:
        if view.last:
            winner = winning_stride(circle)
            found[f"{prefix}winning_stride"] = winner.stride
            found[f"{prefix}winning_stride_score"] = winner.score
            found[f"{prefix}winning_stride_p_value"] = winner.p_value
        else:
            found[f"{prefix}winning_stride_score"] = winning_score(circle)
    return found
