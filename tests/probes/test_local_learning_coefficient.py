"""Potentials whose coefficient is known: half the dimension where it is curved, less where it is flatter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import MLP, TRANSFORMER, facts, trained

from phasemap.probes.local_learning_coefficient import BATCH, learning_coefficient, probe, training_slope
from phasemap.training import evaluate
from phasemap.training.train import begin

DIMENSIONS = 1_000  # independent copies
ZERO = torch.zeros(1, DIMENSIONS, dtype=torch.float64)
SCALE = torch.tensor([50.0], dtype=torch.float64)


def per_dimension(slope, **settings) -> float:
    found = learning_coefficient(slope, ZERO, torch.zeros(1, dtype=torch.float64), SCALE, **settings)
    return found.item() / DIMENSIONS


@pytest.mark.parametrize("power", [2, 4, 6])
def test_the_coefficient_of_a_power_is_one_over_it(power):
    """The learning coefficient of w^m is 1 / m (Watanabe 2009), of a sum of d copies d / m."""

    def slope(w, step):
        return (w**power).sum(1), power * w ** (power - 1)

    found = per_dimension(slope, step_size=1e-3, pull=0.0, first=3_000, draws=4_000)
    assert found == pytest.approx(1 / power, rel=0.05)


def test_flat_directions_add_nothing():
    def slope(w, step):
        half = w[:, : DIMENSIONS // 2]
        return half.square().sum(1), torch.cat([2 * half, torch.zeros_like(half)], 1)

    found = per_dimension(slope, step_size=1e-3, pull=1.0, first=1_000, draws=2_000)
    assert found == pytest.approx(0.25 * 100 / (100 + 1), rel=0.04)  # 2 n b against n b 2 + g


def test_a_short_chain_on_a_quadratic_is_where_the_recursion_says():
    """The variance of w after t steps is known exactly, so every setting of the estimator counts."""
    curvature, step_size, pull, first, draws = 3.0, 2e-4, 40.0, 30, 70
    kept = 1 - step_size / 2 * (50 * curvature + pull)
    variances = [step_size * (1 - kept ** (2 * t)) / (1 - kept**2) for t in range(first, first + draws)]
    expected = 50 * curvature / 2 * np.mean(variances)

    def slope(w, step):
        return curvature / 2 * w.square().sum(1), curvature * w

    found = per_dimension(slope, step_size=step_size, pull=pull, first=first, draws=draws)
    assert found == pytest.approx(expected, rel=0.04)


def view_of(trials, steps):
    training = begin(tuple(trials))
    training.advance(steps)
    stack = training.stacked()
    return training, evaluate.view(stack, evaluate.measure(stack, keep=True), list(range(len(trials))), last=True)


def test_batches_hold_training_examples_alone_and_their_mean_loss_is_the_curves():
    trials = [MLP.replace(label_noise=0.2), MLP.replace(data_fraction=0.3, seed=1)]
    training, view = view_of(trials, 40)
    slope = training_slope(view)
    seen = torch.stack([slope(view.flat, step)[0] for step in range(100)]).mean(0)
    assert training.evaluate() == []
    for k, trial in enumerate(trials):
        curve = training.curves[trial.id]["train_loss"][-1][1]
        spread = view.losses[k][view.train[k]].std().item() / (100 * BATCH) ** 0.5
        assert abs(seen[k].item() - curve) < 5 * spread


@pytest.mark.parametrize("trial", [MLP, pytest.param(TRANSFORMER, marks=pytest.mark.long)], ids=["mlp", "transformer"])
def test_a_trained_network_has_one_that_is_the_same_alone_and_in_a_stack(trial):
    plain = trial.replace(probes="local_learning_coefficient", steps=20, evaluate_every=20, probe_every=20)
    trials = [plain, plain.replace(seed=1, data_fraction=0.4)]
    together, alone = trained(trials), trained(trials[1:])[trials[1].id]
    assert facts(alone) == facts(together[trials[1].id])
    assert len({one.outcome.local_learning_coefficient for one in together.values()} - {None}) == 2


def test_a_diverged_trial_has_none():
    _, view = view_of([MLP, MLP.replace(initial_scale=1e20, learning_rate=1e6, seed=3)], 20)
    found = probe(view)["local_learning_coefficient"]
    assert found.isnan().tolist() == [False, True]
