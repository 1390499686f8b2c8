"""In which stride the class vectors walk around their circle, and whether chance would do as well.

For a stride s, the adjacency score is the share of hits when each place's two nearest others are
compared with the places s before and s after it; where these coincide (s half of an even circle),
the one nearest with the one expected. The winning stride has the highest score of 1..n/2. The
p-value relabels the places at random, inside each circle, and lets the best stride win again.

On a small circle that reading favors strides below a half, which chance hits twice as often (2/7
against 1/7 of 8 places). So inner circles are read with one nearest neighbor for every stride, and
the hits are counted above chance: (hits - chance) / (1 - chance), 0 at chance and 1 for a perfect
walk whatever the stride (kappa: Cohen 1960, Educ. Psychol. Meas. 20:37).

Circles ``[K, G, n, D]`` come from ``circles.py``; scores are averaged over the G circles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from phasemap.numerics.matmul import batched
from phasemap.probes.batch import has_extent, nan_unless, only_finite
from phasemap.probes.view import Numbers, View

OUTCOMES = {
    "winning_stride_p_value": "share of 999 random relabelings whose best score is as high, (1 + hits) / 1000",
    "inner_winning_stride_p_value": "its p-value against random relabelings",
}
CURVES = {
    "winning_stride": "stride s with the highest adjacency score of the class centroids, outer reading: the whole "
    "group for addition and subtraction mod p, the cosets of the subgroup for multiplication and division",
    "winning_stride_score": "adjacency score of winning_stride, 0 to 1",
    "inner_winning_stride": "as winning_stride, inside each coset, averaged over cosets, from one nearest neighbor of "
    "each place (multiplication and division only)",
    "inner_winning_stride_score": "adjacency score of inner_winning_stride above chance: 0 at chance for every stride, "
    "1 for a perfect walk",
}

DRAWS = 999
COMPARISONS = 2**22  # neighbor pairs relabeled at once


@dataclass(frozen=True)
class Stride:
    """The winner of each trial; all [K] float64, NaN where a class vector is not finite."""

    stride: Tensor
    score: Tensor
    p_value: Tensor


def adjacency(circles: Tensor, inner: bool = False) -> Tensor:
    """Adjacency score of every stride 1..n/2: [K, G, n, D] -> [K, n // 2], at most 1."""
    neighbors, sound = _neighbors(circles, 1 if inner else 2)
    places = torch.arange(circles.shape[2], device=circles.device).expand(1, *circles.shape[1:3])
    return _scores(_points(neighbors, places)[:, 0], circles, inner).masked_fill(~sound[:, None], torch.nan)


def best_stride(circles: Tensor, inner: bool = False) -> tuple[Tensor, Tensor]:
    """The stride with the highest score (the smallest, if tied) and that score, cheap enough for a
    curve: [K, G, n, D] -> two [K]."""
    score, stride = adjacency(circles, inner).max(1)
    return nan_unless(score.isfinite(), stride + 1), score


def winning_stride(circles: Tensor, inner: bool = False) -> Stride:
    """``best_stride`` with its p-value, (1 + hits) / 1000."""
    neighbors, sound = _neighbors(circles, 1 if inner else 2)
    stride, score = best_stride(circles, inner)
    hits = torch.zeros_like(score)
    relabelings = _relabelings(*circles.shape[1:3]).to(circles.device)
    for some in relabelings.split(max(1, COMPARISONS // neighbors.numel())):
        best = _scores(_points(neighbors, some), circles, inner).amax(2)
        hits += (best >= score[:, None]).sum(1)  # scores of equal points are equal, bit for bit
    return Stride(stride, score, nan_unless(sound, (1 + hits) / (1 + DRAWS)))


def _scores(points: Tensor, circles: Tensor, inner: bool) -> Tensor:
    """Scores from the points [..., n // 2] of every stride."""
    places = circles.shape[2]
    share = points.double() / ((1 if inner else 2) * circles.shape[1] * places)
    if not inner:
        return share
    expected = torch.full((places // 2,), 2 / (places - 1), dtype=torch.float64, device=points.device)
    if places % 2 == 0:
        expected[-1] /= 2  # one place is half a circle away, not two
    return (share - expected) / (1 - expected)


def _neighbors(circles: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each place's nearest others, nearest first [K, G, n, count], and which trials have any [K]."""
    vectors, finite = only_finite(circles.double())
    size = vectors.square().sum((1, 2, 3))
    vectors = vectors - vectors.mean(2, keepdim=True)  # the product form below loses digits far from 0
    norms = (vectors**2).sum(3)
    squared = norms[:, :, :, None] + norms[:, :, None, :] - 2 * batched(vectors, vectors.mT)
    squared.diagonal(dim1=2, dim2=3).fill_(torch.inf)
    nearest = squared.topk(count, dim=3, largest=False).indices
    return nearest, finite & has_extent(norms.sum((1, 2)), size)


def _points(neighbors: Tensor, labels: Tensor) -> Tensor:
    """Points of every stride under R labelings of the places, whole numbers so that ties are ties.

    A neighbor at stride s or -s earns a point. At half a circle only the nearest can, and earns for all.

    Args:
        neighbors: [K, G, n, 1 or 2].
        labels: [R, G, n], a permutation of 0..n-1 for each circle.

    Returns:
        [K, R, n // 2].
    """
    trials, places = len(neighbors), neighbors.shape[2]
    count = neighbors.shape[3]
    wanted = neighbors[:, None].expand(-1, len(labels), -1, -1, -1)
    there = labels[None, :, :, :, None].expand(trials, -1, -1, -1, count).gather(3, wanted)
    step = (there - labels[None, :, :, :, None]).abs()
    stride = torch.minimum(step, places - step)
    worth = torch.where(2 * stride == places, stride.new_tensor([2, 0] if count == 2 else [1]), 1)
    points = torch.zeros(trials, len(labels), places // 2 + 1, dtype=torch.long, device=labels.device)
    return points.scatter_add_(2, stride.flatten(2), worth.flatten(2))[..., 1:]


@lru_cache(maxsize=16)
def _relabelings(circles: int, places: int) -> Tensor:
    """The same random relabelings for every trial: [DRAWS, G, n]."""
    ordered = np.tile(np.arange(places), (DRAWS, circles, 1))
    return torch.from_numpy(np.random.default_rng(0).permuted(ordered, axis=2))


def probe(view: View) -> Numbers:
    """The stride and its score for the curve; its p-value at a trial's end."""
    numbers: Numbers = {}
    for prefix, circle in view.circles:
        inner = bool(prefix)
        best, score = best_stride(circle, inner)
        numbers |= {f"{prefix}winning_stride": best, f"{prefix}winning_stride_score": score}
        if view.last:
            numbers[f"{prefix}winning_stride_p_value"] = winning_stride(circle, inner).p_value
    return numbers
