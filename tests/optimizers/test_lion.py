"""Lion against its authors' algorithm, written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from stepping import LAYOUT, different, noise, stepped


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.95, 0.98)])
def test_ten_steps_are_those_of_algorithm_2(betas):
    trials = different(optimizer="lion", lion_beta1=betas[0], lion_beta2=betas[1])
    start, gradients = noise(5, LAYOUT.size), noise(10, 5, LAYOUT.size)
    found = stepped(trials, start, gradients)
    for k, trial in enumerate(trials):
        weights, mean = start[k].double().numpy(), np.zeros(LAYOUT.size)
        for s, gradient in enumerate(gradients[:, k].double().numpy()):
            direction = np.sign(betas[0] * mean + (1 - betas[0]) * gradient)
            weights = weights - trial.learning_rate * (direction + trial.weight_decay * weights)
            mean = betas[1] * mean + (1 - betas[1]) * gradient
            np.testing.assert_allclose(found[s][k].numpy(), weights, rtol=1e-5, atol=1e-5)
