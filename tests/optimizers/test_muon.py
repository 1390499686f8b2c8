"""Muon against torch's, and against its formula in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import MLP, TRANSFORMER
from stepping import LAYOUT, different, noise, stepped, theirs

from phasemap.fields import Fault
from phasemap.networks.network import Layout
from phasemap.numerics.newton_schulz import orthogonalized
from phasemap.plan.trial import Trial

MATRICES = ("wide", "tall", "wide2")


def formula(matrix: np.ndarray) -> np.ndarray:
    """Jordan's Newton-Schulz iteration of one matrix."""
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / max(np.linalg.norm(x), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


@pytest.mark.parametrize("kind", ["original", "match_rms_adamw"])
def test_ten_steps_are_those_of_the_formula_for_matrices_and_of_torchs_adamw_for_the_rest(kind):
    trials = different(optimizer="muon", muon_rate=kind, muon_momentum=0.9)
    start, gradients = noise(5, LAYOUT.size), noise(10, 5, LAYOUT.size)
    found = [LAYOUT.split(flat) for flat in stepped(trials, start, gradients)]
    first, slopes = LAYOUT.split(start), [LAYOUT.split(one) for one in gradients]
    for k, trial in enumerate(trials):
        for name in MATRICES:
            weights, mean = first[name][k].double().numpy(), np.zeros(first[name][k].shape)
            inputs, outputs = weights.shape
            factor = math.sqrt(max(1, outputs / inputs)) if kind == "original" else 0.2 * math.sqrt(max(weights.shape))
            for s in range(10):
                gradient = slopes[s][name][k].double().numpy()
                mean = 0.9 * mean + 0.1 * gradient
                step = formula(0.1 * gradient + 0.9 * mean)
                weights = weights * (1 - trial.learning_rate * trial.weight_decay)
                weights = weights - trial.learning_rate * factor * step
                np.testing.assert_allclose(found[s][name][k].numpy(), weights, rtol=1e-4, atol=1e-4)
        for name in ("table", "bias", "readout"):
            parameter = torch.nn.Parameter(first[name][k].clone())
            optimizer = torch.optim.AdamW([parameter], lr=trial.learning_rate, weight_decay=trial.weight_decay)
            for s, wanted in enumerate(theirs(optimizer, parameter, torch.stack([one[name][k] for one in slopes]))):
                torch.testing.assert_close(found[s][name][k], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["original", "match_rms_adamw"])
def test_a_step_is_torchs_to_the_precision_of_its_bfloat16(kind):
    """torch keeps a matrix as [out, in]; an error of 5 % of a step of unit singular values."""
    (trial, *_) = different(optimizer="muon", muon_rate=kind)
    start, gradients = noise(1, LAYOUT.size), noise(4, 1, LAYOUT.size)
    found = stepped([trial], start, gradients)
    for name in MATRICES:
        weights = torch.nn.Parameter(LAYOUT.split(start)[name][0].T.clone())
        settings = {"lr": trial.learning_rate, "weight_decay": trial.weight_decay, "adjust_lr_fn": kind}
        slopes = torch.stack([LAYOUT.split(one)[name][0].T for one in gradients])
        for s, wanted in enumerate(theirs(torch.optim.Muon([weights], **settings), weights, slopes)):
            off = (LAYOUT.split(found[s])[name][0].T - wanted).abs().max()
            assert off < 0.05 * trial.learning_rate * (s + 1)


def test_singular_values_come_close_to_one_and_directions_stay():
    matrix = noise(1, 24, 24) + 3 * torch.eye(24)  # none of them near 0
    (found,) = orthogonalized([matrix])
    u, _, v = torch.linalg.svd(matrix[0].double())
    values = (u.T @ found[0].double() @ v.T).diagonal()
    assert ((values > 0.6) & (values < 1.25)).all()


def test_a_matrix_of_zeros_does_not_move():
    (found,) = orthogonalized([torch.zeros(2, 3, 4)])
    assert (found == 0).all()


@pytest.mark.parametrize(
    ("trial", "matrices"),
    [
        (MLP.replace(depth=2, bottleneck=3), {"layer0", "layer1", "squeeze", "widen"}),
        (TRANSFORMER.replace(depth=1), {f"block0.{name}" for name in ("qkv", "out", "up", "down")}),
    ],
    ids=["mlp", "transformer"],
)
def test_hidden_matrices_are_those_between_embeddings_and_readout(trial, matrices):
    bound = trial.replace(optimizer="muon").shape.rule.on(trial.shape.network.layout)
    assert bound.factors.keys() == {f"{name}.weight" for name in matrices}
    places = [bound.layout.places[name] for name in bound.factors]
    covered = sorted(n for place in [*bound.others, *places] for n in range(place.start, place.stop))
    assert covered == list(range(bound.layout.size))


def test_a_network_without_hidden_matrices_is_refused():
    layout = Layout(tuple(piece for piece in LAYOUT.pieces if piece.group != "body" or len(piece.shape) == 1))
    with pytest.raises(Fault, match=r"optimizer: muon needs a hidden matrix, got a network without one; use adamw"):
        Trial(optimizer="muon").shape.rule.on(layout)
