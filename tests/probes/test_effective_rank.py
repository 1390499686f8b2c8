"""Matrices with known singular values, and numpy's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import MLP, trained

from phasemap.probes.dimension import pca_spectrum
from phasemap.probes.effective_rank import effective_rank


def with_singular_values(values: list[float], rows: int = 60, width: int = 24) -> torch.Tensor:
    """A matrix [1, rows, width] of mean zero whose singular values are these."""
    generator = np.random.default_rng(1)
    drawn = generator.normal(size=(rows, len(values)))
    left = np.linalg.qr(drawn - drawn.mean(0))[0]
    right = np.linalg.qr(generator.normal(size=(width, len(values))))[0]
    return torch.from_numpy(left * values @ right.T)[None].float()


def read(hidden: torch.Tensor) -> float:
    everyone = torch.ones(hidden.shape[:2], dtype=torch.bool)
    return effective_rank(pca_spectrum(hidden, everyone, torch.float64)).item()


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_equal_singular_values_count_as_many_as_they_are(rank):
    assert read(with_singular_values([3.0] * rank)) == pytest.approx(rank, rel=1e-4)
    shifted = with_singular_values([3.0] * rank) + 5  # fp32 has rounded it
    assert read(shifted) == pytest.approx(rank, rel=1e-3)


def test_unequal_ones_weigh_as_the_papers_formula_says():
    values = np.array([4.0, 2.0, 1.0, 1.0])
    shares = values / values.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert read(with_singular_values(list(values))) == pytest.approx(expected, rel=1e-4)


def test_a_record_holds_that_of_the_hidden_test_vectors():
    from phasemap.training.train import begin

    trial = MLP.replace(probes="effective_rank", steps=20, probe_every=20)
    training = begin((trial,))
    training.advance(20)
    hidden = training.network.hidden(training.network.layout.split(training.flat), training.inputs[None])[0]
    rows = hidden[training.split.test[0]].detach().double().numpy()
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    shares = singular / singular.sum()
    expected = np.exp(-(shares * np.log(np.maximum(shares, 1e-300))).sum())
    found = trained([trial])[trial.id].outcome.effective_rank
    assert found == pytest.approx(expected, rel=1e-4)
    assert 1 < found < 16
