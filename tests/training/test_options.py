"""Fields that change a training step: each against torch's own or by hand, and the same alone, stacked and resumed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch
from small import MLP, TRANSFORMER, facts, finish, mixed, trained
from stepping import LAYOUT, different, noise, stepped
from torch import Tensor
from torch.nn import functional as F

from phasemap import Task
from phasemap.fields import Fault
from phasemap.networks.layers import attention
from phasemap.networks.network import Piece
from phasemap.numerics.losses import losses
from phasemap.numerics.random_streams import NOISE, normals, quantiles, step_keys
from phasemap.optimizers.muon import Muon
from phasemap.plan.space import Space
from phasemap.plan.trial import LOSSES, Trial
from phasemap.training.checkpoint import Storage
from phasemap.training.train import begin, started
from phasemap.training.update import clamp, clipped, rates, slope

CPU = torch.device("cpu")
ODD = {"width": 9, "batch_size": 21, "steps": 20, "evaluate_every": 10, "probe_every": 10, "probes": "logits"}
DIFFERING = {  # field -> a value for each trial of a stack
    "temperature": (0.5, 3.0, 1.5, 2.0, 0.7),
    "gradient_clip": (0.01, 0.1, 1.0, 1e-3, 0.05),
    "norm_clamp": (3.0, 5.0, 20.0, 1e30, 8.0),
    "embedding_rate": (0.1, 3.0, 0.0, 2.0, 0.5),
    "readout_rate": (2.0, 0.3, 0.0, 5.0, 0.5),
    "embedding_scale": (1.0, 0.1, 4.0, 2.0, 0.0),
    "readout_scale": (0.0, 1.0, 4.0, 2.0, 0.5),
    "weight_noise": (0.01, 0.1, 0.3, 1.0, 0.03),
}
SIX = {"model": "transformer", "task": "sparse_parity", "context": 6, "heads": 3}
FIXED = {
    "dropout": {"dropout": 0.2},
    "dropout, six tokens": {"dropout": 0.2, **SIX},
    "annealed, cosine": {"annealing": "cosine", "warmup": 5},
    "cross-entropy in float64": {"loss": "cross_entropy_float64", "temperature": 0.5},
    "stablemax in float64": {"loss": "stablemax_float64"},
}
ALL = {**DIFFERING, "dropout": (0.3,) * 5, "orthogonal_gradient": (True,) * 5, "annealing": ("linear",) * 5}


def alone_stacked_and_resumed(trials: list[Trial], storage: Storage) -> None:
    assert len({one.shape for one in trials}) == 1
    together = trained(trials)
    assert len({facts(one)["curve of train_loss"] for one in together.values()}) == len(trials)
    for one in (trials[0], trials[-1]):
        assert facts(trained([one])[one.id]) == facts(together[one.id])
    chosen = (trials[-1], trials[1], trials[0])
    training = begin(chosen)
    training.advance(7)
    storage.save(training)
    (again,) = storage.resume(chosen, say=pytest.fail)
    assert again.step == 7
    assert {key: facts(one) for key, one in finish(again).items()} == {
        one.id: facts(together[one.id]) for one in chosen
    }


@pytest.mark.parametrize("model", [MLP, TRANSFORMER.replace(heads=3)], ids=["mlp", "transformer"])
@pytest.mark.parametrize("names", [*((name,) for name in DIFFERING), tuple(ALL)], ids=[*DIFFERING, "all"])
def test_a_trial_alone_is_the_same_in_a_stack_of_different_values_and_resumed(model, names, tmp_path):
    trials = [
        trial.replace(**{name: ALL[name][k] for name in names}) for k, trial in enumerate(mixed(model.replace(**ODD)))
    ]
    alone_stacked_and_resumed(trials, Storage(str(tmp_path)))


@pytest.mark.parametrize("fields", FIXED.values(), ids=FIXED)
def test_a_trial_with_other_steps_is_the_same_in_a_stack_and_resumed(fields, tmp_path):
    alone_stacked_and_resumed(mixed(MLP.replace(**ODD, **fields)), Storage(str(tmp_path)))


LONE = {"dropout": {"dropout": 0.1}, "seven tokens": {"dropout": 0.1, "context": 7}, "tf32": {"precision": "tf32"}}


@pytest.mark.product
@pytest.mark.parametrize("fields", LONE.values(), ids=LONE)
def test_a_transformers_steps_of_one_example_are_the_same_alone_and_in_a_stack(fields):
    trial = TRANSFORMER.replace(task="sparse_parity", width=15, heads=5, depth=1, batch_size=1)
    trial = trial.replace(**{"context": 5, "parity_examples": 97, **fields})
    alone, together = begin((trial,)), begin(tuple(trial.replace(seed=seed) for seed in range(3)))
    for steps in (1, 2, 8):
        for training in (alone, together):
            training.advance(steps)
        assert torch.equal(alone.flat[0], together.flat[0])


@pytest.mark.product
@pytest.mark.parametrize("size", [1, 3, 8, 16])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "tf32"), (torch.float64, "fp32")])
def test_the_attention_of_one_example_and_its_gradients_are_the_same_alone_and_in_a_stack(size, dtype, precision):
    for tokens, heads, asking in itertools.product((5, 6, 9), (1, 2, 5), (1, None)):
        generator = torch.Generator().manual_seed(0)
        parts = torch.randn(4, 1, 1, tokens, heads * size, generator=generator, dtype=dtype)
        found = []
        for trials in (1, 3):
            q, k, v, above = (part.repeat(trials, 1, 1, 1).requires_grad_() for part in parts)
            out = attention(q[:, :, :asking], k, v, heads, precision)
            gradients = torch.autograd.grad((out * above[:, :, :asking]).sum(), (q, k, v))
            found.append([one[0] for one in (out, *gradients)])
        for alone, stacked in zip(*found, strict=True):
            assert torch.equal(alone, stacked)


@pytest.mark.long
def test_a_compiled_trial_with_every_option_is_the_same_alone_and_in_a_stack():
    trials = [
        trial.replace(**{name: values[k] for name, values in ALL.items()}, optimizer="muon")
        for k, trial in enumerate(mixed(MLP.replace(**ODD)))
    ]
    together = trained(trials, compiled=True)
    assert {one.notes["engine"] for one in together.values()} == {"compiled"}
    assert facts(trained(trials[4:], compiled=True)[trials[4].id]) == facts(together[trials[4].id])


# ------------------------------------------------------------------ the learning rate


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("kind", ["none", "linear", "cosine"])
def test_the_learning_rate_anneals_as_torchs_schedulers_do(kind, warmup):
    steps = 20
    trial = Trial(optimizer="sgd", learning_rate=0.3, warmup=warmup, annealing=kind, steps=steps, evaluate_every=5)
    found = rates((trial,), 0, steps, CPU).step_size[:, 0, 0]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    left = steps - warmup
    schedule = {
        "none": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, left),
        "linear": lambda: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-12, left),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, left),
    }[kind]()
    wanted = [0.3 * (s + 1) / warmup for s in range(warmup)]
    for _ in range(left):
        wanted.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=1e-8)


def test_decoupled_weight_decay_anneals_with_the_learning_rate():
    trial = Trial(annealing="linear", steps=10, evaluate_every=5, weight_decay=2.0)
    found = rates((trial,), 0, 10, CPU)
    torch.testing.assert_close(found.decay[:, 0, 0], 2e-3 * (1 - torch.arange(10) / 10))


def split(flat: Tensor) -> Iterator[tuple[Piece, Tensor]]:
    return zip(LAYOUT.pieces, LAYOUT.split(flat).values(), strict=True)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_groups_have_learning_rates_of_their_own_as_torchs_parameter_groups(name):
    torchs = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name]
    trials = [one.replace(embedding_rate=0.1 * k, readout_rate=3.0) for k, one in enumerate(different(optimizer=name))]
    start, gradients = noise(5, LAYOUT.size), noise(6, 5, LAYOUT.size)
    found = stepped(trials, start, gradients)
    for k, trial in enumerate(trials):
        parameters = {piece.name: torch.nn.Parameter(part[k].clone()) for piece, part in split(start)}
        factor = {"embedding": 0.1 * k, "readout": 3.0, "body": 1.0}
        groups = [{"params": [parameters[p.name]], "lr": trial.learning_rate * factor[p.group]} for p in LAYOUT.pieces]
        optimizer = torchs(groups, lr=1.0, weight_decay=trial.weight_decay)
        for s in range(6):
            for piece, part in split(gradients[s]):
                parameters[piece.name].grad = part[k].clone()
            optimizer.step()
            for piece, part in split(found[s]):
                torch.testing.assert_close(part[k], parameters[piece.name].detach(), rtol=1e-5, atol=1e-6)


def test_muon_gives_embeddings_and_readout_their_rates_and_leaves_its_matrices():
    (plain, *_) = different(optimizer="muon")
    start, gradients = noise(1, LAYOUT.size), noise(3, 1, LAYOUT.size)
    whole = stepped([plain], start, gradients)[-1]
    frozen = stepped([plain.replace(embedding_rate=0.0, readout_rate=0.0)], start, gradients)[-1]
    for piece in LAYOUT.pieces:
        place = LAYOUT.places[piece.name]
        wanted = whole if piece.group == "body" else start
        torch.testing.assert_close(frozen[:, place], wanted[:, place], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("trial", [MLP, TRANSFORMER], ids=["mlp", "transformer"])
def test_a_group_starts_times_its_scale(trial):
    changed = trial.replace(embedding_scale=0.25, readout_scale=3.0, initial_scale=2.0)
    before, after = started((trial,), CPU, {}), started((changed,), CPU, {})
    layout = trial.shape.network.layout
    assert trial.shape.network.groups == {"embedding", "body", "readout"}
    for piece in layout.pieces:
        factor = {"embedding": 0.25, "body": 1.0, "readout": 3.0}[piece.group]
        assert torch.equal(after[:, layout.places[piece.name]], before[:, layout.places[piece.name]] * 2.0 * factor)


# ------------------------------------------------------------------ norms


def test_a_gradient_is_clipped_as_torch_clips_it():
    gradient = noise(4, LAYOUT.size) * torch.tensor([[1e-3], [1.0], [30.0], [1.0]])
    largest = torch.tensor([[1.0], [0.5], [2.0], [1e-9]])
    found = clipped(gradient, largest)
    for k in range(4):
        weights = torch.nn.Parameter(torch.zeros(LAYOUT.size))
        weights.grad = gradient[k].clone()
        torch.nn.utils.clip_grad_norm_([weights], float(largest[k]))
        torch.testing.assert_close(found[k], weights.grad, rtol=1e-5, atol=0)
    assert torch.equal(found[0], gradient[0])


def test_a_clipped_step_of_sgd_is_the_learning_rate_times_the_clip_long():
    trial = MLP.replace(optimizer="sgd", gradient_clip=0.05, learning_rate=0.5, weight_decay=0.0)
    free, held = begin((trial.replace(gradient_clip=0.0),)), begin((trial,))
    start = held.flat.clone()
    for training in (free, held):
        training.advance(1)
    whole, part = (start - training.flat for training in (free, held))
    assert whole.norm() > 0.05 * 0.5 * 1.5
    torch.testing.assert_close(part, whole * (0.05 * 0.5 / whole.norm()), rtol=1e-3, atol=1e-6)


def test_weights_are_held_at_a_norm_after_every_step():
    training = begin(tuple(MLP.replace(norm_clamp=norm, seed=seed) for norm, seed in ((3.0, 0), (25.0, 1))))
    wanted = torch.tensor([3.0, 25.0]).double()
    for step in (1, 2, 30):
        training.advance(step)
        torch.testing.assert_close(training.flat.double().norm(dim=1), wanted, rtol=1e-5, atol=0)


def test_clamping_changes_no_direction():
    flat = noise(2, 70)
    held = flat.clone()
    clamp(held, torch.tensor([[2.0], [0.1]]))
    torch.testing.assert_close(F.cosine_similarity(held, flat), torch.ones(2))
    torch.testing.assert_close(held.norm(dim=1), torch.tensor([2.0, 0.1]))


# ------------------------------------------------------------------ the loss


@pytest.mark.parametrize("kind", get_args(LOSSES))
def test_the_slope_at_a_temperature_is_that_of_the_loss_of_divided_logits(kind):
    logits, labels = 5 * noise(2, 6, 4), torch.arange(12).view(2, 6) % 4
    weights, temperature = torch.full((2, 6), 1 / 6), torch.tensor([[0.5], [3.0]])
    exact = logits.double().requires_grad_()
    loss = (losses(kind, exact / temperature[..., None].double(), labels) * weights).sum()
    (wanted,) = torch.autograd.grad(loss, exact)
    found = slope(kind, logits, labels, weights, temperature)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-7)


def test_evaluation_takes_the_loss_at_the_temperature():
    trials = tuple(MLP.replace(temperature=value, seed=seed) for value, seed in ((0.25, 0), (4.0, 1)))
    training = begin(trials)
    training.advance(20)
    logits = training.network.logits(training.network.layout.split(training.flat), training.inputs[None])
    assert training.evaluate() == []
    for k, trial in enumerate(trials):
        loss = F.cross_entropy(logits[k] / trial.temperature, training.labels, reduction="none")
        (point,) = training.curves[trial.id]["test_loss"]
        assert point[1] == pytest.approx(loss[training.split.test[k]].double().mean().item(), rel=1e-6)


def test_a_softmax_in_float64_does_not_collapse():
    """At a logit 30 above the others fp32 has neither loss nor slope left (Prieto et al. 2025)."""
    logits, label, weights = torch.tensor([[[30.0, 0.0, 0.0]]]), torch.tensor([[0]]), torch.ones(1, 1)
    assert losses("cross_entropy", logits, label).item() == 0
    assert losses("cross_entropy_float64", logits, label).item() == pytest.approx(2 * math.exp(-30), rel=1e-2)
    assert slope("cross_entropy", logits, label, weights)[0, 0, 0] == 0
    found = slope("cross_entropy_float64", logits, label, weights)
    assert found.dtype == torch.float32
    assert found[0, 0].tolist() == pytest.approx([-2 * math.exp(-30), math.exp(-30), math.exp(-30)], rel=1e-2)


def test_a_stablemax_in_float64_is_that_of_its_authors():
    """utils.py of LucasPrietoAl/grokking-at-the-edge-of-numerical-stability 0cc9e8d, line by line."""
    logits, labels = 5 * noise(1, 6, 4), torch.arange(6).view(1, 6) % 4
    exact = logits[0].double()
    s = torch.where(exact < 0, 1 / (1 - exact + 1e-30), exact + 1)
    wanted = -torch.log(s / s.sum(-1, keepdim=True)).gather(1, labels[0, :, None])[:, 0]
    found = losses("stablemax_float64", logits, labels)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[0], wanted, rtol=1e-14, atol=0)


# ------------------------------------------------------------------ noise


def test_the_noise_of_a_step_is_added_to_the_weights_for_its_gradient_alone():
    """By sgd, whose step is the gradient: that of a network whose weights are the noisy ones."""
    trial = MLP.replace(optimizer="sgd", weight_noise=0.3, weight_decay=0.0, seed=4)
    noisy, plain = begin((trial,)), begin((trial.replace(weight_noise=0.0),))
    start = noisy.flat.clone()
    noise = normals(step_keys((4,), NOISE, 0, 1, CPU)[0], start.shape[1], quantiles(CPU))
    plain.flat += 0.3 * noise
    moved = plain.flat.clone()
    for training in (noisy, plain):
        training.advance(1)
    torch.testing.assert_close(start - noisy.flat, moved - plain.flat, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("fields", [{"dropout": 0.4}, {"weight_noise": 0.5}], ids=["dropout", "weight noise"])
def test_evaluation_knows_no_noise(fields):
    training = begin((MLP.replace(**fields),))
    training.advance(20)
    logits = training.network.logits(training.network.layout.split(training.flat), training.inputs[None])
    training.evaluate()
    loss = F.cross_entropy(logits[0], training.labels, reduction="none")[training.split.test[0]].double().mean()
    (point,) = training.curves[MLP.replace(**fields).id]["test_loss"]
    assert point[1] == pytest.approx(loss.item(), rel=1e-6)


# ------------------------------------------------------------------ a network of your own


class Net(torch.nn.Module):
    def __init__(self, task, width: int = 9):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.body = torch.nn.Linear(task.tokens * width, 2 * width)
        self.head = torch.nn.Linear(2 * width, task.classes)

    def forward(self, tokens):
        return self.head(self.body(self.table(tokens).flatten(1)).relu())


class Table(torch.nn.Module):
    def __init__(self, task):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(task.features, task.classes))

    def forward(self, inputs):
        return inputs @ self.logits


def own(model: object, **fields: object) -> Trial:
    known = {"modulus": 13, "data_fraction": 0.5, "learning_rate": 1e-2, "batch_size": 21, "steps": 20}
    return Trial(**{"model": model, "evaluate_every": 10, "probe_every": 10, "probes": "logits", **known, **fields})


def test_a_modules_groups_are_its_embeddings_and_its_last_linear_layer(tmp_path):
    pieces = own(Net).shape.network.layout.pieces
    assert {piece.name: piece.group for piece in pieces} == {
        "table.weight": "embedding",
        "body.weight": "body",
        "body.bias": "body",
        "head.weight": "readout",
        "head.bias": "readout",
    }
    trials = [
        own(Net, seed=k, optimizer="muon", **{name: values[k] for name, values in DIFFERING.items()}) for k in range(3)
    ]
    alone_stacked_and_resumed(trials, Storage(str(tmp_path)))


def test_muon_reads_a_modules_matrix_as_torch_stores_it():
    bound = own(Net, optimizer="muon").shape.rule.on(own(Net).shape.network.layout)
    assert isinstance(bound, Muon)
    assert bound.factors == {"body.weight": 1.0}  # 26 inputs, 18 outputs: not sqrt(26 / 18)


def test_groups_that_a_network_has_not_are_refused_as_axes():
    where = "where the network has no embedding of its own; leave it out"
    with pytest.raises(Fault) as caught:
        Space(
            model=Table, task=rings, steps=20, evaluate_every=10, embedding_rate=[0.1, 1], readout_scale=[1, 2]
        ).trials()
    assert caught.value.faults == [
        f"embedding_rate: has no effect {where}",
        f"readout_scale: has no effect {where.replace('embedding', 'readout')}",
    ]


def rings(size: int = 5) -> Task:
    """Real inputs."""
    angle = 2 * np.pi * np.arange(60) / 60
    return Task(np.stack([np.cos(angle), np.sin(angle)], 1), np.arange(60) * size // 60)
