"""Matrices made nearly orthogonal by five products each, for Muon (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phasemap.numerics.matmul import product

A, B, C = 3.4445, -4.7750, 2.0315  # its authors': they push small singular values up as fast as can be
ITERATIONS = 5
SMALLEST = 1e-7  # a norm below counts as this


def orthogonalized(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Each [K, A, B] with its singular values pushed to between 0.7 and 1.2, in fp32 (torch.optim.Muon: bfloat16).
    Matrices of one shape go through one batch of products."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for place, matrix in enumerate(matrices):
        by_shape.setdefault((matrix.shape[1], matrix.shape[2]), []).append(place)
    found: dict[int, Tensor] = {}
    for (rows, columns), places in by_shape.items():
        batch = torch.stack([matrices[place] for place in places], 1)  # [K, n, A, B]
        wide = _iterated((batch if rows <= columns else batch.mT).flatten(0, 1).contiguous())
        whole = (wide if rows <= columns else wide.mT).unflatten(0, batch.shape[:2])
        found |= dict(zip(places, whole.unbind(1), strict=True))
    return [found[place] for place in range(len(matrices))]


def _iterated(x: Tensor) -> Tensor:
    """x [N, A, B], A <= B."""
    x = x / (x * x).flatten(1).sum(1)[:, None, None].sqrt().clamp(min=SMALLEST)
    for _ in range(ITERATIONS):
        gram = product(x, x.mT, "fp32")
        x = A * x + product(B * gram + C * product(gram, gram, "fp32"), x, "fp32")
    return x
