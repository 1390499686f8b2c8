"""Class vectors, laid out on the circles of a cyclic group.

A circle is a cyclic order of places, each with one vector: ``[K, G, n, D]`` holds, for every
trial, G circles of n places. Multiplication mod 97 is the cyclic group of order 96, y = 5^k. Its
outer circle is the quotient (k mod 12: the 12 cosets of the subgroup of order 8), its inner
circles are the cosets themselves (k div 12: 8 members each). That is a quotient and a subgroup, not
a product Z12 x Z8, which would not be cyclic.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phasemap.numerics.matmul import batched
from phasemap.tasks.task import Group

FEWEST_PLACES = 4  # with 3 places everyone's two nearest others are everyone


def class_vectors(hidden: Tensor, labels: Tensor, chosen: Tensor, classes: int) -> Tensor:
    """Mean hidden vector of each class over the chosen examples.

    Args:
        hidden: [K, N, D].
        labels: [N] classes.
        chosen: [K, N] bool.
        classes: C.

    Returns:
        [K, C, D]; NaN for a class without a chosen example.
    """
    belongs = labels == torch.arange(classes, device=labels.device)[:, None]
    members = (belongs & chosen[:, None, :]).float()
    return batched(members, hidden.float()) / members.sum(2, keepdim=True)


def whole_circle(vectors: Tensor, group: Group) -> Tensor:
    """The group's own circle: [K, C, D] -> [K, 1, order, D]."""
    return vectors[:, torch.from_numpy(class_at(group)).to(vectors.device)][:, None]


def class_at(group: Group) -> np.ndarray:
    """The class at each place of the circle, [order]."""
    classes = np.full(group.order, -1)
    inside = np.flatnonzero(group.exponent >= 0)
    classes[group.exponent[inside]] = inside
    return classes


def outer_circle(vectors: Tensor, group: Group) -> Tensor | None:
    """The circle of coset centroids, or of the whole group where it is read without cosets.

    [K, C, D] -> [K, 1, n, D]; None if it has fewer than 4 places.
    """
    circle = whole_circle(vectors, group)
    if group.cosets:
        circle = circle.unflatten(2, (-1, group.cosets)).mean(2)
    return circle if circle.shape[2] >= FEWEST_PLACES else None


def inner_circles(vectors: Tensor, group: Group) -> Tensor | None:
    """The members of each of the m cosets: [K, C, D] -> [K, m, n / m, D].

    None if the group is read without cosets or a coset has fewer than 4 members.
    """
    if not group.cosets or group.order // group.cosets < FEWEST_PLACES:
        return None
    return whole_circle(vectors, group)[:, 0].unflatten(1, (-1, group.cosets)).transpose(1, 2)
