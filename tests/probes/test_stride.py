from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from phasemap.plan.component import load_task
from phasemap.probes.circles import class_vectors, inner_circles, outer_circle
from phasemap.probes.stride import adjacency, best_stride, winning_stride
from phasemap.tasks.task import Group


def ring(places: int) -> Tensor:
    """Places on a circle in the plane: [n, 2]."""
    angle = 2 * torch.pi * torch.arange(places).double() / places
    return torch.stack([angle.cos(), angle.sin()], 1)


def walked(places: int, stride: int) -> Tensor:
    """Walking the ring, one meets the places 0, s, 2s, ...: [1, 1, n, 2], s prime to n."""
    circle = torch.empty(places, 2, dtype=torch.float64)
    circle[torch.arange(places) * stride % places] = ring(places)
    return circle[None, None]


@pytest.mark.parametrize(("places", "stride"), [(97, 1), (97, 5), (97, 48), (12, 5), (96, 7)])
def test_a_walked_circle_shows_its_stride(places: int, stride: int) -> None:
    found = winning_stride(walked(places, stride))
    assert (found.stride.item(), found.score.item(), found.p_value.item()) == (stride, 1, 0.001)
    assert best_stride(walked(places, stride))[1].item() == 1


def test_a_stride_and_its_opposite_are_one() -> None:
    assert winning_stride(walked(97, 92)).stride.item() == 5


def test_half_a_circle_needs_only_the_nearest() -> None:
    pairs = 10 * torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    circles = torch.cat([pairs, pairs + 0.1], 2)  # k and k + 4 stand together
    found = winning_stride(circles)
    assert (found.stride.item(), found.score.item()) == (4, 1)
    assert found.p_value.item() < 0.05


def test_scores_of_a_small_circle_by_hand() -> None:
    line = torch.tensor([0.0, 1.0, 2.1, 3.3]).view(1, 1, 4, 1)  # nearest two: 12, 02, 13, 21
    # stride 1 expects 13, 02, 13, 02: hits 1, 2, 2, 1. Half: nearest 1, 0, 1, 2: none is across
    assert adjacency(line).tolist() == [[6 / 8, 0]]


def test_inner_scores_of_a_small_circle_by_hand() -> None:
    line = torch.tensor([0.0, 1.0, 2.1, 3.3]).view(1, 1, 4, 1)  # nearest: 1, 0, 1, 2
    # stride 1: all four, 1. Half: none of four, expected 1 in 3: -1/3 over 2/3
    assert adjacency(line, inner=True).tolist() == [[1.0, pytest.approx(-0.5)]]


def test_chance_favors_no_inner_stride() -> None:
    random = torch.randn(400, 12, 8, 16, generator=torch.Generator().manual_seed(0))
    scores = adjacency(random, inner=True)
    assert scores.mean(0).abs().max() < 0.01
    p_values = winning_stride(random[:100], inner=True).p_value
    assert (p_values <= 0.1).double().mean().item() <= 0.18


def test_chance_gives_p_values_spread_over_the_unit_interval() -> None:
    random = torch.randn(200, 1, 97, 16, generator=torch.Generator().manual_seed(0))
    p_values = winning_stride(random).p_value
    assert (p_values >= 0.001).all()
    assert (p_values <= 1).all()
    for level in (0.1, 0.5):
        assert (p_values <= level).double().mean().item() <= level + 0.08
    assert p_values.mean().item() > 0.4


def test_coinciding_vectors_have_no_stride() -> None:
    found = winning_stride(torch.ones(1, 1, 12, 4))
    assert found.stride.isnan().all()
    assert found.score.isnan().all()
    assert found.p_value.isnan().all()


def nested_vectors(group: Group, outer_stride: int, inner_stride: int) -> Tensor:
    """Cosets far apart on a walked circle, members of each on a small walked circle: [1, C, 4]."""
    members = group.order // group.cosets
    outer, inner = walked(group.cosets, outer_stride)[0, 0], walked(members, inner_stride)[0, 0]
    vectors = torch.full((1, len(group.exponent), 4), torch.nan, dtype=torch.float64)
    for label, k in enumerate(group.exponent):
        if k >= 0:
            vectors[0, label] = torch.cat([100 * outer[k % group.cosets], inner[k // group.cosets]])
    return vectors


def test_a_group_of_order_96_is_read_outside_and_inside_its_cosets() -> None:
    group = load_task("modular_multiplication", modulus=97).group
    assert group is not None
    vectors = nested_vectors(group, outer_stride=5, inner_stride=3)
    outer, inner = outer_circle(vectors, group), inner_circles(vectors, group)
    assert outer is not None
    assert inner is not None
    assert (outer.shape, inner.shape) == ((1, 1, 12, 4), (1, 12, 8, 4))
    for circles, stride, inside in ((outer, 5, False), (inner, 3, True)):
        found = winning_stride(circles, inside)
        assert (found.stride.item(), found.score.item(), found.p_value.item()) == (stride, 1, 0.001)


def test_a_group_without_cosets_has_one_circle() -> None:
    group = load_task("modular_addition", modulus=11).group
    assert group is not None
    vectors = torch.randn(2, 11, 3)
    assert inner_circles(vectors, group) is None
    outer = outer_circle(vectors, group)
    assert outer is not None
    assert torch.equal(outer[:, 0], vectors)


def test_circles_of_fewer_than_four_places_are_not_read() -> None:
    group = Group(order=9, exponent=np.arange(9), cosets=3)
    vectors = torch.randn(1, 9, 2)
    assert outer_circle(vectors, group) is None
    assert inner_circles(vectors, group) is None


def test_class_vectors_are_means_over_the_chosen() -> None:
    hidden = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]])
    labels, chosen = torch.tensor([0, 1, 0, 1]), torch.tensor([[True, True, True, False]])
    assert class_vectors(hidden, labels, chosen, 3).nan_to_num(-1).tolist() == [[[2.5], [2.0], [-1.0]]]
