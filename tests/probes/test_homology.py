from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from phasemap.probes.homology import homology


def rings(count: int) -> Tensor:
    """Unit circles of 150 points, ten apart: [1, 150 count, 3]."""
    angle = 2 * torch.pi * torch.arange(150) / 150
    return torch.cat([torch.stack([angle.cos(), angle.sin(), 0 * angle + 10 * i], 1) for i in range(count)])[None]


def everything(hidden: Tensor) -> Tensor:
    return torch.ones(hidden.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rings_are_pieces_with_a_loop_each(count: int) -> None:
    pytest.importorskip("ripser", reason="ripser is an optional extra")
    found = homology(rings(count), everything(rings(count)))
    assert (found.beta0.item(), found.beta1.item()) == (count, count)


def test_scattered_points_are_pieces() -> None:
    pytest.importorskip("ripser", reason="ripser is an optional extra")
    hidden = torch.eye(40)[None]
    found = homology(hidden, everything(hidden))
    assert (found.beta0.item(), found.beta1.item()) == (40, 0)


def test_a_trial_reads_the_same_alone_and_beside_a_diverged_neighbor() -> None:
    pytest.importorskip("ripser", reason="ripser is an optional extra")
    hidden = torch.randn(3, 60, 4, generator=torch.Generator().manual_seed(0))
    hidden[1, 5, 2] = torch.nan
    chosen = everything(hidden)
    chosen[2, :20] = False
    together = homology(hidden, chosen)
    assert together.beta0.isnan().tolist() == together.beta1.isnan().tolist() == [False, True, False]
    for k in (0, 2):
        alone = homology(hidden[k : k + 1], chosen[k : k + 1])
        assert (alone.beta0[0], alone.beta1[0]) == (together.beta0[k], together.beta1[k])


def test_without_ripser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(ImportError, match="needs ripser, which is not installed; pip install ripser"):
        homology(rings(1), everything(rings(1)))
