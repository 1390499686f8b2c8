"""Adam and AdamW against torch's, with the epsilons that grokking papers use."""

from __future__ import annotations

import pytest
import torch
from stepping import LAYOUT, different, noise, stepped, theirs

from phasemap.fields import Fault
from phasemap.plan.trial import make_trial

TORCHS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.98), (0.0, 0.5)])
@pytest.mark.parametrize("name", TORCHS)
def test_ten_steps_equal_torchs_with_every_trial_at_its_own_rates(name, betas):
    trials = different(optimizer=name, beta1=betas[0], beta2=betas[1])
    start, gradients = noise(5, LAYOUT.size), noise(10, 5, LAYOUT.size) * torch.logspace(-3, 1, 10)[:, None, None]
    found = stepped(trials, start, gradients)
    for k, trial in enumerate(trials):
        weights = torch.nn.Parameter(start[k].clone())
        settings = {"lr": trial.learning_rate, "weight_decay": trial.weight_decay}
        optimizer = TORCHS[name]([weights], betas=betas, **settings)
        for s, wanted in enumerate(theirs(optimizer, weights, gradients[:, k])):
            torch.testing.assert_close(found[s][k], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("epsilon", [1e-4, 1e-8, 1e-25, 1e-30])
@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-12])
def test_ten_steps_equal_torchs_with_every_epsilon(name, epsilon, size):
    trials = [trial.replace(weight_decay=0) for trial in different(optimizer=name, epsilon=epsilon)]
    start, gradients = noise(5, LAYOUT.size), size * noise(10, 5, LAYOUT.size)
    found = stepped(trials, start, gradients)
    for k, trial in enumerate(trials):
        weights = torch.nn.Parameter(start[k].clone())
        optimizer = TORCHS[name]([weights], lr=trial.learning_rate, eps=epsilon, weight_decay=0)
        for s, wanted in enumerate(theirs(optimizer, weights, gradients[:, k])):
            torch.testing.assert_close(found[s][k], wanted, rtol=1e-6, atol=1e-6)


def test_a_tiny_epsilon_lets_a_tiny_gradient_move_as_far_as_a_large_one():
    """The first step is learning rate x gradient / (|gradient| + epsilon), by hand."""
    for epsilon, share in ((1e-8, 1e-12 / (1e-12 + 1e-8)), (1e-30, 1.0)):
        (trial, *_) = different(epsilon=epsilon)
        start, gradient = torch.zeros(1, LAYOUT.size), torch.full((1, 1, LAYOUT.size), 1e-12)
        moved = -stepped([trial.replace(weight_decay=0)], start, gradient)[0]
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-3 * share), rtol=1e-5, atol=0)


def test_an_epsilon_of_zero_is_refused():
    with pytest.raises(Fault, match=r"epsilon: must be positive, got 0.0; use a number above 0"):
        make_trial({"epsilon": 0})
