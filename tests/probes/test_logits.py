"""The scale of the logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import MLP

from phasemap.probes.logits import deviations
from phasemap.training.train import begin


def test_a_deviation_by_hand():
    """Of 1, 2, 3, 4 around 2.5: the root of (2.25 + 0.25) / 2."""
    assert deviations(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])).item() == pytest.approx(1.25**0.5)


def test_the_curve_is_numpys_mean_over_the_test_examples_before_any_temperature():
    trial = MLP.replace(probes="logits", temperature=5.0)
    training = begin((trial, trial.replace(seed=1)))
    training.advance(20)
    network = training.network
    logits = network.logits(network.layout.split(training.flat), training.inputs[None]).detach().double().numpy()
    tests = training.split.test.numpy()
    assert training.evaluate() == []
    for k, one in enumerate(training.trials):
        wanted = np.std(logits[k][tests[k]], axis=1).mean()
        ((step, value),) = training.curves[one.id]["logit_scale"]
        assert step == 20
        assert value == pytest.approx(wanted, rel=1e-6)
