"""The update of a stack against torch.optim, one optimizer per trial; the losses by hand."""

from __future__ import annotations

import math

import pytest
import torch
from stepping import LAYOUT, different, noise, stepped
from torch import Tensor
from torch.nn import functional as F

from phasemap.networks.module import AlignedLayout
from phasemap.networks.network import Layout, Piece, Start
from phasemap.numerics.losses import losses
from phasemap.plan.trial import Trial
from phasemap.training.update import orthogonal, rates, slope

CPU = torch.device("cpu")
DIFFERENT = different()


def test_rates_do_not_depend_on_how_many_are_made_at_once():
    trials = tuple(t.replace(optimizer="grokfast", warmup=7, late_weight_decay=0.3, decay_switch=9) for t in DIFFERENT)
    whole, late = rates(trials, 0, 20, CPU), rates(trials, 6, 14, CPU)
    assert list(whole.more) == list(late.more) == ["share"]
    for one, other in zip(whole.tensors, late.tensors, strict=True):
        assert torch.equal(one[6:], other)


def test_warm_up_raises_the_learning_rate_by_equal_steps():
    trials = [Trial(optimizer="sgd", learning_rate=rate, weight_decay=0, warmup=4) for rate in (0.1, 0.4)]
    found = torch.stack(stepped(trials, torch.zeros(2, LAYOUT.size), torch.ones(6, 2, LAYOUT.size)))
    taken = -torch.diff(found, dim=0, prepend=torch.zeros(1, 2, LAYOUT.size))[..., 0]
    shares = torch.tensor([0.25, 0.5, 0.75, 1, 1, 1])
    torch.testing.assert_close(taken, shares[:, None] * torch.tensor([0.1, 0.4]))


def test_no_warm_up_takes_the_whole_first_step():
    trials = [Trial(learning_rate=0.125, weight_decay=0)]
    found = stepped(trials, torch.zeros(1, LAYOUT.size), torch.ones(1, 1, LAYOUT.size))[0]
    torch.testing.assert_close(found, torch.full((1, LAYOUT.size), -0.125))  # Adam's first step is lr x sign


@pytest.mark.parametrize("late", [0.0, 3.0])
def test_weight_decay_changes_at_the_switch(late):
    trials = [Trial(learning_rate=0.1, weight_decay=d, late_weight_decay=late, decay_switch=3) for d in (1.0, 0.5)]
    found = torch.stack(stepped(trials, torch.ones(2, LAYOUT.size), torch.zeros(5, 2, LAYOUT.size)))[..., 0]
    for k, decay in enumerate((1.0, 0.5)):
        expected = torch.tensor([1 - 0.1 * (decay if s < 3 else late) for s in range(5)]).cumprod(0)
        torch.testing.assert_close(found[:, k], expected)


def test_weight_decay_never_changes_without_a_late_one():
    found = stepped(
        [Trial(learning_rate=0.1, decay_switch=2)], torch.ones(1, LAYOUT.size), torch.zeros(5, 1, LAYOUT.size)
    )
    torch.testing.assert_close(found[-1], torch.full((1, LAYOUT.size), 0.9**5))


def published_orthogonal(weights: Tensor, gradient: Tensor) -> Tensor:
    """Of one tensor, as in the repository of Prieto et al. 2025 (orthograd.py)."""
    w, g = weights.reshape(-1), gradient.reshape(-1)
    left = g - torch.dot(w, g) / (torch.dot(w, w) + 1e-30) * w
    return left * (g.norm(2) / (left.norm(2) + 1e-30))


@pytest.mark.parametrize("layout", [LAYOUT, AlignedLayout(LAYOUT.pieces)], ids=["built-in", "a module's, with gaps"])
def test_the_orthogonal_gradient_is_that_of_its_authors(layout):
    flat, gradient = noise(3, layout.size), noise(2, 3, layout.size)[0]
    found = orthogonal(layout, flat, gradient)
    assert found.shape == gradient.shape
    kept, weights, whole = (layout.split(part) for part in (found, flat, gradient))
    for name in weights:
        for k in range(3):
            wanted = published_orthogonal(weights[name][k], whole[name][k])
            torch.testing.assert_close(kept[name][k].flatten(), wanted, rtol=1e-5, atol=1e-6)


def test_the_orthogonal_gradient_of_three_and_four_by_hand():
    """Along the weights (1, 0) nothing is left of (3, 4) but (0, 4), which becomes as long as the whole: (0, 5)."""
    layout = Layout((Piece("a", (2,), Start("constant", 0.0)),))
    found = orthogonal(layout, torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    assert found.tolist() == [[0.0, 5.0]]


def test_the_orthogonal_gradient_is_orthogonal_to_every_tensor_and_as_long_as_the_whole():
    flat, gradient = noise(3, LAYOUT.size), noise(2, 3, LAYOUT.size)[0]
    kept = LAYOUT.split(orthogonal(LAYOUT, flat, gradient))
    weights, whole = LAYOUT.split(flat), LAYOUT.split(gradient)
    for name in weights:
        w, g, left = (part[name].flatten(1).double() for part in (weights, whole, kept))
        assert ((w * left).sum(1).abs() < 1e-5 * w.norm(dim=1) * g.norm(dim=1)).all()
        torch.testing.assert_close(left.norm(dim=1), g.norm(dim=1), rtol=1e-5, atol=0)


def test_an_orthogonal_gradient_of_weights_at_zero_is_the_gradient():
    gradient = noise(1, LAYOUT.size)
    assert torch.equal(orthogonal(LAYOUT, torch.zeros(1, LAYOUT.size), gradient), gradient)


def test_an_orthogonal_step_changes_no_norm_to_first_order():
    trial = Trial(optimizer="sgd", learning_rate=1e-3, weight_decay=0, orthogonal_gradient=True)
    start = noise(1, LAYOUT.size)
    (after,) = stepped([trial], start, noise(1, 1, LAYOUT.size))
    for before, now in zip(LAYOUT.split(start).values(), LAYOUT.split(after).values(), strict=True):
        assert abs(float(now.norm() - before.norm())) < 1e-5


LOGITS = torch.tensor([[[2.0, -1.0, 0.0], [0.0, 0.0, 0.0]], [[-3.0, 1.0, 1.0], [5.0, -0.5, 4.0]]])
LABELS = torch.tensor([[0, 2], [0, 1]])


def test_cross_entropy_by_hand():
    found = losses("cross_entropy", LOGITS, LABELS)
    assert found.shape == (2, 2)
    assert found[0, 0].item() == pytest.approx(math.log(math.e**2 + math.e**-1 + 1) - 2)
    assert found[0, 1].item() == pytest.approx(math.log(3))


def test_mean_squared_error_by_hand():
    found = losses("mean_squared_error", LOGITS, LABELS)
    assert found[0].tolist() == pytest.approx([(1 + 1 + 0) / 3, 1 / 3])
    assert found[1].tolist() == pytest.approx([(16 + 1 + 1) / 3, (25 + 2.25 + 16) / 3])


def test_stablemax_by_hand():
    found = losses("stablemax", LOGITS, LABELS)
    assert found[0].tolist() == pytest.approx([-math.log(3 / (3 + 0.5 + 1)), math.log(3)])
    assert found[1].tolist() == pytest.approx(
        [-math.log(0.25 / (0.25 + 2 + 2)), -math.log((1 / 1.5) / (6 + 1 / 1.5 + 5))]
    )


def test_stablemax_keeps_a_slope_where_cross_entropy_has_none_left():
    logits = torch.tensor([[[200.0, 0.0, 0.0]]], requires_grad=True)
    label = torch.tensor([[0]])
    (slope,) = torch.autograd.grad(losses("cross_entropy", logits, label).sum(), logits)
    assert (slope == 0).all()
    (slope,) = torch.autograd.grad(losses("stablemax", logits, label).sum(), logits)
    assert (slope != 0).all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("kind", ["cross_entropy", "mean_squared_error", "stablemax"])
def test_the_slope_of_a_loss_is_its_slope(kind):
    logits = (3 * noise(2, 3, 5)).double().requires_grad_()
    labels = torch.tensor([[0, 4, 2], [1, 1, 3]])
    assert torch.autograd.gradcheck(lambda x: losses(kind, x, labels), logits)


def test_cross_entropy_is_torchs():
    logits, labels = noise(2, 3, 5), torch.tensor([[0, 4, 2], [1, 1, 3]])
    for k in range(2):
        torch.testing.assert_close(
            losses("cross_entropy", logits, labels)[k], F.cross_entropy(logits[k], labels[k], reduction="none")
        )


@pytest.mark.parametrize("kind", ["cross_entropy", "mean_squared_error", "stablemax"])
def test_the_slope_is_the_gradient_of_the_weighted_loss(kind):
    logits, labels = 5 * noise(2, 6, 4), torch.arange(12).view(2, 6) % 4
    weights = torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0, 0.0]).expand(2, -1)  # the last two are padding
    exact = logits.double().requires_grad_()
    (wanted,) = torch.autograd.grad((losses(kind, exact, labels) * weights).sum(), exact)
    torch.testing.assert_close(slope(kind, logits, labels, weights).double(), wanted, rtol=1e-5, atol=1e-7)
