"""Whether class vectors stand among their own coset.

Only for groups read in cosets. Unlike a clustering it needs no start and no number of clusters: a
coset has M members, so each class looks at its M - 1 nearest others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasemap.numerics.matmul import batched
from phasemap.probes.batch import has_extent, nan_unless, only_finite
from phasemap.probes.circles import whole_circle
from phasemap.probes.view import Numbers, View
from phasemap.tasks.task import Group

CURVES = {
    "coset_purity": "share of the classes' M - 1 nearest others that are of their own coset of M members "
    "(multiplication and division only; 0.07 is chance mod 97)",
}


def coset_purity(vectors: Tensor, group: Group) -> Tensor | None:
    """Share of the M - 1 nearest other class vectors (Euclidean) that are of the same coset.

    Args:
        vectors: [K, C, D] class vectors.
        group: its cosets have M = order / cosets members.

    Returns:
        [K], 0 to 1; None if the group is read without cosets or they have one member.
    """
    if not group.cosets or group.order == group.cosets:
        return None
    places, finite = only_finite(whole_circle(vectors, group)[:, 0].double())
    size = places.square().sum((1, 2))
    places = places - places.mean(1, keepdim=True)
    norms = places.square().sum(2)
    squared = norms[:, :, None] + norms[:, None, :] - 2 * batched(places, places.mT)
    squared.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = squared.topk(group.order // group.cosets - 1, dim=2, largest=False).indices
    own = torch.arange(group.order, device=vectors.device)[:, None] % group.cosets
    pure = (nearest % group.cosets == own).flatten(1).double().mean(1)
    return nan_unless(finite & has_extent(norms.sum(1), size), pure)


def probe(view: View) -> Numbers:
    group = view.shape.examples.group
    purity = coset_purity(view.vectors, group) if group else None
    return {} if purity is None else {"coset_purity": purity}
