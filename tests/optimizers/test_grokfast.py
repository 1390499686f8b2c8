"""Grokfast against its authors' filter before torch's AdamW."""

from __future__ import annotations

import pytest
import torch
from stepping import LAYOUT, different, noise, stepped, theirs


@pytest.mark.parametrize(("alpha", "strength"), [(0.98, 2.0), (0.5, 5.0), (0.0, 1.0)])
def test_ten_steps_equal_the_filter_and_torchs_adamw(alpha, strength):
    """As in gradfilter_ema: the slow gradient begins as the first one."""
    trials = different(optimizer="grokfast", grokfast_alpha=alpha, grokfast_lambda=strength)
    start, gradients = noise(5, LAYOUT.size), noise(10, 5, LAYOUT.size)
    found = stepped(trials, start, gradients)
    for k, trial in enumerate(trials):
        slow, filtered = gradients[0, k], []
        for gradient in gradients[:, k]:
            slow = slow * alpha + gradient * (1 - alpha)
            filtered.append(gradient + slow * strength)
        weights = torch.nn.Parameter(start[k].clone())
        optimizer = torch.optim.AdamW([weights], lr=trial.learning_rate, weight_decay=trial.weight_decay)
        for s, wanted in enumerate(theirs(optimizer, weights, torch.stack(filtered))):
            torch.testing.assert_close(found[s][k], wanted, rtol=1e-5, atol=1e-5)


def test_without_its_slow_part_it_is_adamw():
    start, gradients = noise(5, LAYOUT.size), noise(10, 5, LAYOUT.size)
    fast = stepped(different(optimizer="grokfast", grokfast_lambda=0.0), start, gradients)
    assert all(map(torch.equal, fast, stepped(different(), start, gradients)))
