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


def test_a_relabelled_prediction_tells_as_much() -> None:
    assert bits((LABELS * 5 + 7) % 96) == pytest.approx(math.log2(96))


def test_the_parity_of_a_label_is_one_bit() -> None:
    assert bits(LABELS % 2) == pytest.approx(1)


def test_a_constant_tells_nothing() -> None:
    assert bits(torch.zeros_like(LABELS)) == 0


def test_a_random_prediction_tells_only_the_bias_of_the_estimate() -> None:
    guess = torch.randint(96, (9600,), generator=torch.Generator().manual_seed(0))
    assert bits(guess) == pytest.approx(95**2 / (2 * math.log(2) * 9600), rel=0.2)


def test_only_chosen_examples_count() -> None:
    chosen = torch.stack([LABELS < 2, LABELS < 0])
    found = learned_bits(LABELS.expand(2, -1), LABELS, chosen, 96)
    assert found[0].item() == pytest.approx(1)
    assert found[1].isnan()
