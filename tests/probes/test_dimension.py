from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasemap.probes.dimension import participation_ratio, pca_dimension, pca_spectrum, twonn_dimension


def cloud(dimensions: int, width: int = 32, examples: int = 3000, offset: float = 0.0) -> Tensor:
    """A Gaussian cloud of some dimensions, turned at random into more: [1, N, D]."""
    generator = torch.Generator().manual_seed(dimensions)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q[:dimensions]
    return (torch.randn(examples, dimensions, generator=generator) @ basis + offset)[None]


def everything(hidden: Tensor) -> Tensor:
    return torch.ones(hidden.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("dimensions", [1, 2, 5, 10, 32])
def test_pca_counts_the_dimensions_of_a_cloud(dimensions: int) -> None:
    hidden = cloud(dimensions, offset=3.0)
    variances = pca_spectrum(hidden, everything(hidden))
    assert pca_dimension(variances, 0.999).item() == dimensions
    assert participation_ratio(variances).item() == pytest.approx(dimensions, rel=0.02)


@pytest.mark.parametrize(("dimensions", "tolerance"), [(1, 0.1), (2, 0.15), (5, 0.4), (10, 1.2)])
def test_twonn_finds_the_dimensions_of_a_cloud(dimensions: int, tolerance: float) -> None:
    hidden = cloud(dimensions, offset=3.0)
    assert twonn_dimension(hidden, everything(hidden)).item() == pytest.approx(dimensions, abs=tolerance)


def test_twonn_sees_a_curve_where_pca_sees_the_space_it_winds_through() -> None:
    angle = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    turns = torch.stack([f(k * angle) for k in (1, 2, 3) for f in (torch.sin, torch.cos)], 1)[None]
    assert pca_dimension(pca_spectrum(turns, everything(turns))).item() == 6
    assert twonn_dimension(turns, everything(turns)).item() == pytest.approx(1, abs=0.1)


def test_variances_are_those_of_the_chosen_examples() -> None:
    hidden = cloud(5) * torch.linspace(1, 3, 32)
    chosen = torch.rand(1, 3000, generator=torch.Generator().manual_seed(3)) < 0.4
    expected = torch.linalg.eigvalsh(hidden[0][chosen[0]].double().T.cov()).flip(0)
    torch.testing.assert_close(pca_spectrum(hidden, chosen)[0].double(), expected, rtol=1e-4, atol=1e-4)


def test_share_is_reached_not_passed() -> None:
    variances = torch.tensor([[90.0, 5.0, 5.0], [94.0, 3.0, 3.0], [96.0, 2.0, 2.0]])
    assert pca_dimension(variances).tolist() == [2, 2, 1]
    assert pca_dimension(variances, 0.99).tolist() == [3, 3, 3]


def test_a_point_has_no_dimension() -> None:
    hidden = torch.zeros(2, 50, 4)
    hidden[1] = torch.randn(50, 4)
    chosen = everything(hidden)
    chosen[1] = False
    chosen[1, 0] = True
    variances = pca_spectrum(hidden, chosen)
    for measure in (pca_dimension(variances), participation_ratio(variances), twonn_dimension(hidden, chosen)):
        assert measure.isnan().all()


def test_twonn_counts_copies_once() -> None:
    hidden = cloud(3, examples=400)
    noise = 1e-7 * torch.randn(1, 1600, 32, generator=torch.Generator().manual_seed(1))
    copies = hidden.repeat(1, 4, 1) + noise
    once = twonn_dimension(hidden, everything(hidden)).item()
    assert twonn_dimension(copies, everything(copies)).item() == pytest.approx(once, abs=0.05)


def test_twonn_needs_ten_points() -> None:
    hidden = cloud(2, examples=7).repeat(1, 100, 1)
    assert twonn_dimension(hidden, everything(hidden)).isnan().all()


def test_twonn_takes_the_same_points_every_time() -> None:
    hidden = cloud(4, examples=5000)
    assert torch.equal(twonn_dimension(hidden, everything(hidden)), twonn_dimension(hidden, everything(hidden)))
