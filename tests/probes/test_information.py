from __future__ import annotations

import math

import pytest
import torch

from phasemap.probes.information import learned_bits

LABELS = torch.arange(9600) % 96


def bits(predictions: torch.Tensor) -> float:
    return learned_bits(predictions[None], LABELS, torch.ones(1, len(LABELS), dtype=torch.bool), 96).item()


def test_a_perfect_prediction_tells_all_the_bits() -> None:
    assert bits(LABELS) == pytest.approx(math.log2(96))


def test_a_relabeled_prediction_tells_as_much() -> None:
    assert bits((LABELS * 5 + 7) % 96) == pytest.approx(math.log2(96))


def test_the_parity_of_a_label_is_one_bit() -> None:
    assert bits(LABELS % 2) == pytest.approx(1, abs=0.01)


def test_a_constant_tells_nothing() -> None:
    assert bits(torch.zeros_like(LABELS)) == 0


def test_independent_predictions_read_zero_on_average() -> None:
    """The plug-in estimate reads 0.68 bits here, and 3 with as few examples as a test set has."""
    guess = torch.randint(96, (20, 9600), generator=torch.Generator().manual_seed(0))
    every = torch.ones(20, 9600, dtype=torch.bool)
    for chosen in (every, torch.rand(20, 9600, generator=torch.Generator().manual_seed(1)) < 0.2):
        found = learned_bits(guess, LABELS, chosen, 96)
        assert found.abs().max() < 0.1
        assert abs(found.mean().item()) < 0.02


def test_labels_that_leave_nothing_to_learn_read_nan() -> None:
    assert learned_bits(LABELS[None], LABELS, LABELS[None] == 3, 96).isnan().all()


def test_only_chosen_examples_count() -> None:
    chosen = torch.stack([LABELS < 2, LABELS < 0])
    found = learned_bits(LABELS.expand(2, -1), LABELS, chosen, 96)
    assert found[0].item() == pytest.approx(1)
    assert found[1].isnan()
