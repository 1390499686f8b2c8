"""SGD with momentum against torch's."""

from __future__ import annotations

import pytest
import torch
from stepping import LAYOUT, different, noise, stepped, theirs

from phasemap.plan.trial import Trial


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.5, True)])
def test_ten_steps_equal_torchs(momentum, nesterov):
    trials = different(optimizer="sgd", momentum=momentum, nesterov=nesterov)
    start, gradients = noise(5, LAYOUT.size), noise(10, 5, LAYOUT.size)
    found = stepped(trials, start, gradients)
    for k, trial in enumerate(trials):
        weights = torch.nn.Parameter(start[k].clone())
        settings = {"lr": trial.learning_rate, "weight_decay": trial.weight_decay}
        optimizer = torch.optim.SGD([weights], momentum=momentum, nesterov=nesterov, **settings)
        for s, wanted in enumerate(theirs(optimizer, weights, gradients[:, k])):
            torch.testing.assert_close(found[s][k], wanted, rtol=1e-6, atol=1e-6)


def test_without_momentum_nothing_is_kept():
    assert Trial(optimizer="sgd").shape.rule.state == ()
    assert Trial(optimizer="sgd", momentum=0.9).shape.rule.state == ("momentum",)
