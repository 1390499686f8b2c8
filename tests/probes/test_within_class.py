from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasemap.probes.within_class import within_class_share

LABELS = torch.arange(60) % 5
ALL = torch.ones(1, 60, dtype=torch.bool)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def share(hidden: Tensor, labels: Tensor = LABELS, chosen: Tensor = ALL, classes: int = 5) -> float:
    return within_class_share(hidden[None], labels, chosen, classes).item()


def test_classes_that_are_one_point_each_have_nothing_within() -> None:
    assert share(drawn(5, 8)[LABELS]) == pytest.approx(0, abs=1e-12)
    assert share(drawn(5, 8)[LABELS] + 100) == pytest.approx(0, abs=1e-9)


def test_classes_around_one_middle_have_everything_within() -> None:
    hidden = drawn(60, 8)
    for c in range(5):
        members = c == LABELS
        hidden[members] -= hidden[members].mean(0)
    assert share(hidden) == pytest.approx(1)


def test_the_share_of_two_pairs_by_hand() -> None:
    """Around 1 and 11 by 1 each, around 6 by 36 and 16 twice: 4 of 104."""
    hidden, labels = torch.tensor([[0.0], [2.0], [10.0], [12.0]]), torch.tensor([0, 0, 1, 1])
    assert share(hidden, labels, ALL[:, :4], 2) == pytest.approx(4 / 104)


def test_unequal_classes_count_by_their_examples() -> None:
    """0 and 2 around 1, and 7 alone: middle 3, 2 of 9 + 1 + 16."""
    hidden, labels = torch.tensor([[0.0], [2.0], [7.0]]), torch.tensor([0, 0, 1])
    assert share(hidden, labels, ALL[:, :3], 2) == pytest.approx(2 / 26)


def test_vectors_that_know_nothing_of_the_classes_leave_their_number_between() -> None:
    hidden = drawn(400, 60, 8)
    found = within_class_share(hidden, LABELS, ALL.expand(400, -1), 5)
    assert found.mean().item() == pytest.approx((60 - 5) / (60 - 1), abs=0.003)


def test_only_chosen_examples_count_and_a_class_may_have_none() -> None:
    hidden, chosen = drawn(60, 8), (LABELS != 3)[None] & (torch.arange(60) > 10)[None]
    kept = chosen[0]
    alone = share(hidden[kept], LABELS[kept], ALL[:, : int(kept.sum())])
    hidden[~kept] = 1e3
    assert share(hidden, chosen=chosen) == pytest.approx(alone)
