from __future__ import annotations

import pytest
import torch

from phasemap.plan.component import load_task
from phasemap.probes.purity import coset_purity
from phasemap.tasks.task import Group


def group(modulus: int) -> Group:
    found = load_task("modular_multiplication", modulus=modulus).group
    assert found is not None
    return found


GROUP = group(97)
COSET = torch.from_numpy(GROUP.exponent) % GROUP.cosets  # class 0 is in none


def purity(vectors: torch.Tensor) -> torch.Tensor:
    found = coset_purity(vectors, GROUP)
    assert found is not None
    return found


def test_cosets_apart_are_pure() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = 100 * torch.randn(12, 8, generator=generator)
    vectors = centers[COSET] + torch.randn(97, 8, generator=generator)
    assert purity(vectors[None]).item() == 1


def test_members_away_from_their_own_are_impure() -> None:
    k = torch.from_numpy(GROUP.exponent)
    vectors = 100 * torch.nn.functional.one_hot(k.clamp(min=0) // 12, 8).double()  # blocks of 12 in a row
    assert purity(vectors[None]).item() == 0


def test_vectors_without_structure_are_as_pure_as_chance() -> None:
    vectors = torch.randn(50, 97, 8, generator=torch.Generator().manual_seed(0))
    assert purity(vectors).mean().item() == pytest.approx(7 / 95, abs=0.01)


def test_groups_without_cosets_have_none() -> None:
    group = load_task("modular_addition", modulus=11).group
    assert group is not None
    assert coset_purity(torch.randn(1, 11, 4), group) is None
