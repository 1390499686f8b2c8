from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasemap.probes.circles import inner_circles, outer_circle
from phasemap.probes.spectrum import nearest_stride, power, spectrum
from phasemap.probes.stride import winning_stride
from phasemap.tasks.task import Group


def waves(places: int, amplitudes: dict[int, float]) -> Tensor:
    """Each frequency turns in a plane of its own: [1, 1, n, 2 F]."""
    angle = 2 * torch.pi * torch.arange(places).double() / places
    parts = [a * f(k * angle) for k, a in amplitudes.items() for f in (torch.sin, torch.cos)]
    return torch.stack(parts, 1)[None, None] + 3


def test_power_lies_where_it_was_put() -> None:
    found = power(waves(97, {3: 2.0, 40: 1.0}))[0]
    expected = torch.zeros(48, dtype=torch.float64)
    expected[[2, 39]] = torch.tensor([0.8, 0.2], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_power_is_the_variance() -> None:
    """Half a turn of an even circle has no opposite; counted twice, the shares would be off."""
    circles = torch.randn(1, 1, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    transformed = torch.fft.fft(circles[0, 0], dim=0).abs().square().sum(1)[1:]
    expected = transformed[:6].clone()
    expected[:5] += transformed[6:].flip(0)
    torch.testing.assert_close(power(circles)[0], expected / expected.sum())


@pytest.mark.parametrize("frequency", [1, 5, 13, 48])
def test_one_frequency_predicts_the_stride_that_is_measured(frequency: int) -> None:
    circles = waves(97, {frequency: 1.0})
    found, measured = spectrum(circles), winning_stride(circles)
    assert (found.frequencies.item(), found.dominant.item()) == (1, frequency)
    assert found.dominant_share.item() == pytest.approx(1)
    assert found.predicted_stride.item() == measured.stride.item()
    assert measured.stride.item() * frequency % 97 in (1, 96)


@pytest.mark.parametrize(("frequency", "stride"), [(5, 5), (2, 6), (6, 2), (4, 3), (3, 4)])
def test_a_common_divisor_puts_places_on_one_point(frequency: int, stride: int) -> None:
    alone = torch.zeros(1, 6, dtype=torch.float64)
    alone[0, frequency - 1] = 1
    assert nearest_stride(alone, 12).item() == stride


def test_ninety_percent_of_the_power() -> None:
    found = spectrum(waves(97, {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.5}))  # shares 4, 4, 4, 1 of 13
    assert found.frequencies.item() == 3
    assert spectrum(waves(97, {1: 3.1, 2: 1.0})).frequencies.item() == 1


def test_all_frequencies_can_overrule_the_dominant_one() -> None:
    found = spectrum(waves(97, {1: 1.0, 10: 0.9, 11: 0.9, 30: 0.9}))
    assert found.dominant.item() == 1
    assert found.predicted_stride.item() != 1


def test_even_frequencies_only_mean_half_a_turn() -> None:
    group = Group(order=96, exponent=torch.arange(96).numpy(), cosets=12)
    member = torch.arange(96) // 12
    vectors = torch.stack([torch.cos(torch.pi * member / 2), torch.sin(torch.pi * member / 2)], 1)[None]
    inner = inner_circles(vectors, group)
    assert inner is not None
    found = spectrum(inner)
    assert found.dominant.item() == 2
    outer = outer_circle(vectors, group)
    assert outer is not None
    assert outer.shape == (1, 1, 12, 2)


def test_no_extent_no_spectrum() -> None:
    found = spectrum(torch.ones(1, 1, 12, 3))
    assert all(value.isnan().all() for value in vars(found).values())
