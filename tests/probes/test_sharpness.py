"""Against matrices with known eigenvalues, and against torch's own Hessian of a tiny network."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from small import MLP, PARITY, TRANSFORMER, facts, trained
from torch.nn import functional as F

from phasemap.numerics import matmul
from phasemap.probes.sharpness import largest_eigenvalue, loss_hessian
from phasemap.training import evaluate
from phasemap.training.train import begin

TINY = MLP.replace(modulus=5, width=4, depth=2, probes="sharpness", steps=20, evaluate_every=20, probe_every=20)
NETWORKS = {
    "mlp": TINY.replace(activation="gelu"),
    "relu, wrong labels": TINY.replace(label_noise=0.3),
    "mean squared error, stablemax": TINY.replace(loss="mean_squared_error"),
    "stablemax": TINY.replace(loss="stablemax"),
    "norms": TINY.replace(hidden_norm="rms", activation="tanh", residual=True),
    "transformer": TRANSFORMER.replace(modulus=5, width=4, heads=2, depth=1, probes="sharpness"),
    "transformer, six tokens": PARITY.replace(width=4, heads=2, depth=1, probes="sharpness"),
}


def views(trials, steps=20):
    training = begin(tuple(trials))
    training.advance(steps)
    stack = training.stacked()
    return training, evaluate.view(stack, evaluate.measure(stack, keep=True), list(range(len(trials))), last=False)


def mean_loss(training, k, row):
    """Trial k's training loss at weights [P], by torch's functions or the paper's."""
    train = training.split.train[k].nonzero()[:, 0]
    targets, layout = training.targets[k][train], training.network.layout
    logits = training.network.logits(layout.split(row[None]), training.inputs[train][None])[0]
    kind = training.trials[0].loss
    if kind == "cross_entropy":
        return F.cross_entropy(logits, targets)
    if kind == "mean_squared_error":
        return (logits - F.one_hot(targets, logits.shape[1])).square().mean()
    weights = torch.where(logits >= 0, logits + 1, 1 / (1 - logits.clamp(max=0)))
    return -(weights[range(len(weights)), targets] / weights.sum(1)).log().mean()


@pytest.mark.parametrize("trial", NETWORKS.values(), ids=NETWORKS)
def test_the_sharpness_is_the_largest_eigenvalue_of_torchs_hessian(trial):
    training, view = views([trial, trial.replace(seed=1, learning_rate=3e-3)])
    found = largest_eigenvalue(loss_hessian(view), view.flat.shape[1], 2)
    hessian = torch.autograd.functional.hessian(partial(mean_loss, training, 1), training.flat[1].double())
    wanted = torch.linalg.eigvalsh(hessian)[-1].item()
    assert found[1].item() == pytest.approx(wanted, rel=1e-3)
    assert wanted > 0.01


@pytest.mark.parametrize("size", [3, 24, 500])
def test_known_eigenvalues_are_met_whatever_the_others(size):
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(2, size, size, generator=generator, dtype=torch.float64))[0]
    values = torch.linspace(-30, 1, size, dtype=torch.float64).repeat(2, 1)
    values[0, -1], values[1] = 7.0, values[1] - 5  # the second's are all below zero
    matrix = turn @ torch.diag_embed(values) @ turn.mT
    found = largest_eigenvalue(lambda x: (matrix @ x[..., None])[..., 0], size, 2)
    assert found[0].item() == pytest.approx(7.0, rel=1e-4)
    assert found[1].item() == pytest.approx(-4.0, rel=0.02)


def test_weights_that_are_not_finite_have_no_sharpness_and_spoil_no_neighbors():
    trials = [TINY, TINY.replace(initial_scale=1e20, learning_rate=1e6, seed=3)]
    _, view = views(trials)
    found = largest_eigenvalue(loss_hessian(view), view.flat.shape[1], 2)
    assert found.isnan().tolist() == [False, True]


@pytest.mark.product
@pytest.mark.parametrize("name", ["mlp", "transformer", "transformer, six tokens"])
def test_a_trials_sharpness_is_the_same_alone_and_in_a_stack(name):
    trial = NETWORKS[name].replace(width=6, steps=10, evaluate_every=10, probe_every=10)
    trials = [trial.replace(seed=seed, data_fraction=0.4 + 0.1 * seed) for seed in range(3)]
    together, last = trained(trials), trials[-1]
    assert facts(trained([last])[last.id]) == facts(together[last.id])
    assert len({one.outcome.sharpness for one in together.values()} - {None}) == 3


def test_real_inputs_have_a_sharpness_with_every_matrix_product(monkeypatch):
    trial = TINY.replace(task="teacher_student", inputs_drawn=60, activation="gelu")
    found = {}
    for name in matmul.CANDIDATES:
        monkeypatch.setattr(matmul, "chosen", lambda name=name: name)
        found[name] = trained([trial])[trial.id]
        assert "fault" not in found[name].notes
    values = [one.outcome.sharpness for one in found.values()]
    assert values == pytest.approx([values[0]] * len(values), rel=1e-4)
    assert values[0] > 0.01


def test_a_users_network_has_a_sharpness():
    class Net(torch.nn.Module):
        def __init__(self, task):
            super().__init__()
            self.table = torch.nn.Embedding(task.vocabulary, 6)
            self.head = torch.nn.Linear(6, task.classes)

        def forward(self, tokens):
            return self.head(self.table(tokens).sum(1).tanh())

    from phasemap.plan.trial import Trial

    trial = Trial(model=Net, modulus=5, data_fraction=0.5, batch_size=8, probes="sharpness", steps=4, evaluate_every=4)
    result = trained([trial])[trial.id]
    assert "fault" not in result.notes
    assert result.outcome.sharpness > 0
