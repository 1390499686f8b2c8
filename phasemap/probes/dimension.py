"""How many dimensions the hidden vectors fill: PCA, participation ratio, TwoNN.

The first two come from one spectrum of variances, cheap enough for a curve. TwoNN compares all
pairs of up to 1,000 points and is meant for the end of a run. A cloud without extent (all vectors
equal, or fewer than two) has no dimension and reads NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.numerics.matmul import batched, eigenvalues
from phasemap.probes.batch import COPY, blocks, has_extent, nan_unless, only_finite, sample
from phasemap.probes.view import Numbers, View

CURVES = {
    "intrinsic_dimension": "principal components of the hidden test vectors holding 95 % of the variance, at the end",
    "pca99_dimension": "as intrinsic_dimension, for 99 % of the variance",
    "participation_ratio": "(sum of PCA variances)^2 / sum of their squares, of the hidden test vectors",
}

TWONN_POINTS = 1_000
TWONN_KEPT = 0.9  # the largest tenth of the ratios is discarded, as in the paper
TWONN_FEWEST = 10  # points below which a slope means nothing
PAIRS = 2**24  # distances held at once


def pca_spectrum(hidden: Tensor, chosen: Tensor, sums: torch.dtype = torch.float32) -> Tensor:
    """Variances along the principal components, largest first.

    Args:
        hidden: [K, N, D].
        chosen: [K, N] bool.
        sums: what the sums of products are taken in.

    Returns:
        [K, D]; NaN for a trial with a hidden value that is not finite, or whose vectors are all equal.
    """
    count = chosen.sum(1)[:, None, None]
    mean = torch.zeros_like(hidden[:, 0], dtype=sums)
    for part in blocks(hidden.shape[1]):
        mean += (hidden[:, part] * chosen[:, part, None]).sum(1)
    mean = mean[:, None] / count
    scatter = mean.new_zeros(len(hidden), hidden.shape[2], hidden.shape[2])
    for part in blocks(hidden.shape[1]):
        centered = (hidden[:, part] - mean) * chosen[:, part, None]
        scatter += batched(centered.mT, centered)
    covariance, finite = only_finite(scatter / (count - 1))
    spread, size = scatter.diagonal(dim1=1, dim2=2).sum(1), count[:, 0, 0] * mean.square().sum((1, 2))
    return eigenvalues(covariance).masked_fill(~(finite & has_extent(spread, size + spread))[:, None], torch.nan)


def pca_dimension(variances: Tensor, share: float = 0.95) -> Tensor:
    """Number of principal components holding ``share`` of the variance: [K, D] -> [K]."""
    held = variances.double().cumsum(1)
    whole = held[:, -1:]
    return nan_unless(whole[:, 0] > 0, (held < share * whole).sum(1) + 1)


def participation_ratio(variances: Tensor) -> Tensor:
    """(sum of variances)^2 / sum of their squares: [K, D] -> [K], between 1 and D."""
    exact = variances.double()
    return exact.sum(1) ** 2 / (exact**2).sum(1)


def twonn_dimension(hidden: Tensor, chosen: Tensor) -> Tensor:
    """Intrinsic dimension from the ratio of each point's two nearest neighbor distances.

    Facco et al. 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", https://doi.org/10.1038/s41598-017-11873-y. Of more than 1,000 chosen examples
    the first 1,000 in a fixed random order are taken; copies of a point count once.

    Args:
        hidden: [K, N, D].
        chosen: [K, N] bool.

    Returns:
        [K]; NaN with fewer than 10 different points.
    """
    hidden, finite = only_finite(hidden)
    index, valid = sample(chosen, TWONN_POINTS)
    points = hidden.gather(1, index[:, :, None].expand(-1, -1, hidden.shape[2]))
    together = max(1, PAIRS // points.shape[1] ** 2)
    pieces = zip(points.split(together), valid.split(together), strict=True)
    ratios = torch.cat([_log_ratios(*piece) for piece in pieces])
    return nan_unless(finite, _slope_through_origin(ratios))


def _log_ratios(points: Tensor, valid: Tensor) -> Tensor:
    """log(r2 / r1) of every point [K, P, D], ascending, infinite where there is none: [K, P]."""
    squared, copy = _squared_distances(points, valid)
    valid = valid & ~copy
    squared.masked_fill_(~valid[:, None, :], torch.inf)
    squared.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = squared.topk(2, dim=2, largest=False).values
    ratios = 0.5 * (nearest[:, :, 1].log() - nearest[:, :, 0].log())
    return ratios.masked_fill(~valid | ratios.isnan(), torch.inf).sort(1).values


def _squared_distances(points: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs [K, P, P], and which points are copies of an earlier one [K, P].

    float64, for the product form cancels: in fp32 it would blur every distance below 1e-3 radii.
    """
    points = points.double() * valid[:, :, None]
    points = (points - points.sum(1, keepdim=True) / valid.sum(1)[:, None, None]) * valid[:, :, None]
    norms = (points**2).sum(2)
    squared = batched(points, points.mT).mul_(-2).add_(norms[:, None, :]).add_(norms[:, :, None])
    radius = norms.sum(1) / valid.sum(1)
    near = (squared <= COPY**2 * radius[:, None, None]) & valid[:, None, :]
    return squared, near.tril_(-1).any(2)


def _slope_through_origin(ratios: Tensor) -> Tensor:
    """Fit of -log(1 - F) = d log(r2 / r1), F the empirical distribution of the ratios [K, P]: d [K]."""
    count = ratios.isfinite().sum(1)
    rank = torch.arange(1, ratios.shape[1] + 1, device=ratios.device)
    kept = rank <= (TWONN_KEPT * count).floor()[:, None]
    x = ratios.masked_fill(~kept, 0)
    y = -torch.log1p(-(rank / count[:, None]).masked_fill(~kept, 0).double())
    return nan_unless(count >= TWONN_FEWEST, (x * y).sum(1) / (x * x).sum(1))


def probe(view: View) -> Numbers:
    """Two of them for the curves; TwoNN at a trial's end."""
    variances = pca_spectrum(view.hidden, view.test)
    dimensions = {
        "intrinsic_dimension": pca_dimension(variances, 0.95),
        "pca99_dimension": pca_dimension(variances, 0.99),
        "participation_ratio": participation_ratio(variances),
    }
    return dimensions | ({"twonn_dimension": twonn_dimension(view.hidden, view.test)} if view.last else {})
