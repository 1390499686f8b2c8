from __future__ import annotations

import pytest
import torch

from phasemap.probes.attention import attention_weights, example_entropy
from phasemap.probes.batch import finite_mean


def test_even_attention_has_the_entropy_of_the_tokens() -> None:
    assert example_entropy(torch.full((1, 5, 4, 8, 8), 1 / 8)).tolist() == [pytest.approx([3] * 5)]


def test_attention_to_one_token_has_none() -> None:
    weights = torch.zeros(1, 5, 4, 1, 8)
    weights[..., 3] = 1
    assert example_entropy(weights).tolist() == [[0] * 5]


def test_only_chosen_examples_count() -> None:
    weights = torch.full((1, 2, 1, 1, 2), 0.5)
    weights[0, 1] = torch.tensor([1.0, 0.0])
    assert finite_mean(example_entropy(weights), torch.tensor([[True, False]])).item() == pytest.approx(1)
    assert finite_mean(example_entropy(weights), torch.tensor([[True, True]])).item() == pytest.approx(0.5)


def test_weights_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, 5, 3, 8, generator=generator) for _ in range(3))
    weights = attention_weights(queries, keys, heads=2)
    assert weights.shape == (2, 5, 2, 3, 3)
    per_head = [x.unflatten(-1, (2, 4)).transpose(2, 3) for x in (queries, keys, values)]
    expected = torch.nn.functional.scaled_dot_product_attention(*per_head)
    torch.testing.assert_close(weights @ per_head[2], expected)
