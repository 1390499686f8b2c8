from __future__ import annotations

import numpy as np
import pytest
import torch
from small import MLP

from phasemap.probes.spread import loss_percentile, loss_spread
from phasemap.training import evaluate
from phasemap.training.train import begin

LOSSES = torch.tensor([[4.0, 1.0, 2.0, 5.0, 3.0]])
ALL = torch.ones(1, 5, dtype=torch.bool)


def test_the_spread_of_one_to_five_by_hand() -> None:
    assert loss_spread(LOSSES, ALL).item() == pytest.approx(2**0.5)
    assert [loss_percentile(LOSSES, ALL, percent).item() for percent in (5, 20, 21, 80, 81, 95)] == [1, 1, 2, 4, 5, 5]


def test_equal_losses_have_no_spread() -> None:
    losses = torch.full((1, 1_000), 0.1)
    chosen = torch.ones_like(losses, dtype=torch.bool)
    assert loss_spread(losses, chosen).item() == pytest.approx(0, abs=1e-9)
    assert loss_percentile(losses, chosen, 95).item() == losses[0, 0].item()


@pytest.mark.parametrize("count", [1, 7, 100, 333])
def test_only_chosen_losses_count_as_numpy_counts_them(count: int) -> None:
    losses = torch.rand(1, 400, generator=torch.Generator().manual_seed(0))
    chosen = (torch.randperm(400, generator=torch.Generator().manual_seed(1)) < count)[None]
    kept = losses[chosen].double().numpy()
    assert loss_spread(losses, chosen).item() == pytest.approx(kept.std())
    for percent in (5, 95):
        expected = np.percentile(kept, percent, method="inverted_cdf")
        assert loss_percentile(losses, chosen, percent).item() == expected


def test_the_losses_that_probes_see_are_those_that_the_curves_average() -> None:
    training = begin(tuple(MLP.replace(seed=seed) for seed in range(3)))
    training.advance(10)
    stack = training.stacked()
    seen = evaluate.measure(stack, keep=True)
    for looked in (seen, evaluate.Seen(seen.curves, None)):  # hidden vectors kept, or too many to keep
        view = evaluate.view(stack, looked, [0, 2], last=False)
        for side, chosen in (("train", view.train), ("test", view.test)):
            means = [losses[mask].double().mean().item() for losses, mask in zip(view.losses, chosen, strict=True)]
            assert means == pytest.approx([seen.curves[f"{side}_loss"][k] for k in (0, 2)])
