"""Logits made by hand: pure waves, a memorized table, both at once; and the paper's own projections."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import MLP, TRANSFORMER, facts, trained
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from phasemap.plan.component import load_task
from phasemap.plan.trial import Trial
from phasemap.probes.progress import answer_means, answer_places, key_frequencies, key_part, progress
from phasemap.tasks.task import Group, Task
from phasemap.training import evaluate
from phasemap.training.train import begin

WAVES = (14, 35, 41, 42, 46)
CYCLIC = ("modular_addition", "modular_subtraction", "modular_multiplication", "modular_division")


def waves(task: Task, frequencies: tuple[int, ...], size: float = 8.0) -> Tensor:
    """Sum of cos(w (place of the answer - place of the class)), 0 for classes outside the group: [1, N, C]."""
    assert task.group is not None
    apart = task.group.exponent[task.labels][:, None] - task.group.exponent
    turns = sum(np.cos(2 * np.pi * k * apart / task.group.order) for k in frequencies)
    return torch.from_numpy(size * turns * (task.group.exponent >= 0))[None]


def table(task: Task, train: Tensor, size: float = 15.0) -> Tensor:
    """The right class of the training examples; for the others one drawn at random: [1, N, C]."""
    drawn = torch.randint(task.classes, (len(task.labels),), generator=torch.Generator().manual_seed(1))
    said = torch.where(train[0], torch.from_numpy(task.labels), drawn)
    return size * one_hot(said, task.classes).double()[None]


def third(task: Task) -> Tensor:
    """A training set, [1, N]."""
    return torch.rand(1, len(task.labels), generator=torch.Generator().manual_seed(0)) < 0.3


def read(logits: Tensor, task: Task, train: Tensor, loss: str = "cross_entropy") -> dict[str, float]:
    """In three blocks, as a network's logits come."""
    cuts = [slice(0, 50), slice(50, 51), slice(51, None)]
    found = progress(lambda: [(cut, logits[:, cut]) for cut in cuts], task, train, loss)
    return {name: value.item() for name, value in found.items()}


def loss_of(logits: Tensor, task: Task, chosen: Tensor) -> float:
    return cross_entropy(logits[0][chosen[0]], torch.from_numpy(task.labels)[chosen[0]]).item()


@pytest.mark.parametrize("name", CYCLIC)
def test_waves_are_all_there_is_to_their_loss(name: str) -> None:
    task = load_task(name, modulus=97)
    logits, train = waves(task, WAVES), third(task)
    found = read(logits, task, train)
    assert found["restricted_loss"] == pytest.approx(loss_of(logits, task, torch.ones_like(train)), rel=1e-9)
    assert found["restricted_loss"] < 0.1
    assert found["excluded_loss"] == pytest.approx(math.log(97), rel=1e-9)
    assert found["key_frequencies"] == 5


def test_half_a_turn_of_an_even_circle_is_a_frequency_too() -> None:
    task = load_task("modular_multiplication", modulus=97)
    logits, train = waves(task, (7, 48)), third(task)
    found = read(logits, task, train)
    assert found["restricted_loss"] == pytest.approx(loss_of(logits, task, torch.ones_like(train)), rel=1e-9)
    assert found["excluded_loss"] == pytest.approx(math.log(97), rel=1e-9)


def test_a_table_learned_by_heart_has_no_frequency() -> None:
    task = load_task("modular_addition", modulus=97)
    train = third(task)
    logits = table(task, train)
    found = read(logits, task, train)
    assert found["key_frequencies"] == 0
    assert found["restricted_loss"] == pytest.approx(math.log(97), abs=0.05)
    assert found["excluded_loss"] == pytest.approx(loss_of(logits, task, train))
    assert found["excluded_loss"] < 1e-3


def test_beside_a_table_the_waves_are_found_and_can_be_spared() -> None:
    task = load_task("modular_addition", modulus=97)
    train = third(task)
    alone = read(waves(task, WAVES), task, train)
    found = read(waves(task, WAVES) + table(task, train), task, train)
    assert found["key_frequencies"] == 5
    assert found["restricted_loss"] < alone["restricted_loss"] < 0.1
    assert found["excluded_loss"] < 0.01


def test_what_every_input_adds_to_a_class_is_kept() -> None:
    task = load_task("modular_addition", modulus=97)
    train, bias = third(task), torch.linspace(-3, 3, 97, dtype=torch.float64)
    logits = waves(task, WAVES) + bias
    found = read(logits, task, train)
    assert found["restricted_loss"] == pytest.approx(loss_of(logits, task, torch.ones_like(train)), rel=1e-9)
    assert found["excluded_loss"] == pytest.approx(loss_of(bias.expand_as(logits), task, train), rel=1e-9)


def test_a_frequencys_part_is_the_papers_projection() -> None:
    """On products of one-dimensional waves of a and of b, written out, of logits that obey no rule."""
    p, chosen = 13, (2, 5)
    task = load_task("modular_addition", modulus=p)
    logits = torch.randn(1, p * p, p, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(logits[0])
    for k in chosen:
        turn = 2 * torch.pi * k * torch.arange(p, dtype=torch.float64) / p
        cos, sin = turn.cos(), turn.sin()
        for wave in (
            torch.outer(cos, cos) - torch.outer(sin, sin),
            torch.outer(sin, cos) + torch.outer(cos, sin),
        ):
            direction = wave.flatten() / wave.norm()
            expected += torch.outer(direction, direction @ logits[0])
    places = answer_places(task)
    assert places is not None
    place = torch.from_numpy(places)
    key = torch.tensor([[k in chosen for k in range(1, p // 2 + 1)]])
    part = key_part(answer_means([(slice(None), logits)], place, p), key)
    torch.testing.assert_close(part[0, place], expected)


def test_a_key_frequency_holds_twice_an_even_share() -> None:
    task = load_task("modular_addition", modulus=97)
    places = answer_places(task)
    assert places is not None
    even = waves(task, tuple(range(1, 49)), 1.0)
    for size, key in ((1.41, False), (1.45, True)):  # power grows with the square; 1 frequency of 48
        logits = even + waves(task, (9,), size - 1)
        found = key_frequencies(answer_means([(slice(None), logits)], torch.from_numpy(places), 97))
        assert found[0, 8].item() == key
        assert found.sum() == key


def test_logits_without_any_wave_are_kept_whole() -> None:
    task = load_task("modular_addition", modulus=97)
    train = third(task)
    found = read(torch.ones(1, 97 * 97, 97), task, train)
    assert found == {
        "restricted_loss": pytest.approx(math.log(97)),
        "excluded_loss": pytest.approx(math.log(97)),
        "key_frequencies": 0,
    }


def test_the_loss_is_the_trials_own() -> None:
    task = load_task("modular_addition", modulus=97)
    right = one_hot(torch.from_numpy(task.labels), 97).double()[None]
    found = read(right, task, third(task), "mean_squared_error")  # equal power on all frequencies, so none is key
    assert found["excluded_loss"] == 0
    assert found["restricted_loss"] == pytest.approx((1 / 97) * (96 / 97))  # the variance of a column


@pytest.mark.parametrize("name", ["modular_quadratic", "random_labels", "permutation_composition", "sparse_parity"])
def test_answers_on_no_circle_have_no_waves(name: str) -> None:
    assert read(torch.zeros(1, 100, 2), load_task(name, modulus=13, context=6), torch.ones(1, 100)) == {}


def test_answers_that_are_not_evenly_spread_have_none() -> None:
    inputs, group = np.arange(12)[:, None], Group(5, np.arange(5))
    assert answer_places(Task(inputs, np.arange(12) % 5, group=group)) is None
    assert answer_places(Task(inputs[:10], np.arange(10) % 5, group=group)) is not None
    outside = Group(5, np.array([0, 1, 2, 3, 4, -1]))
    assert answer_places(Task(inputs, np.arange(12) % 6, group=outside)) is None


class Net(torch.nn.Module):
    """A network of the user's, whose logits are more than a linear layer of its hidden vectors."""

    def __init__(self, task: Task, width: int = 16):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.head = torch.nn.Linear(width, task.classes)

    def hidden(self, tokens: Tensor) -> Tensor:
        return self.table(tokens).sum(1).square()

    def forward(self, tokens: Tensor) -> Tensor:
        return 3 * self.head(self.hidden(tokens)).sin()


OWN = Trial(model=Net, modulus=13, data_fraction=0.5, batch_size=32, learning_rate=1e-2)


def test_a_users_network_reads_the_same_alone_and_in_a_stack() -> None:
    trials = [
        OWN.replace(seed=seed, probes="progress", steps=20, evaluate_every=10, probe_every=10) for seed in range(3)
    ]
    together = trained(trials)
    for trial in trials:
        alone = trained([trial])[trial.id]
        assert facts(alone) == facts(together[trial.id])
        assert len(alone.curves["excluded_loss"][0]) == 2


@pytest.mark.parametrize(
    "trial",
    [MLP, MLP.replace(bottleneck=3), TRANSFORMER.replace(task="modular_multiplication"), OWN],
    ids=["mlp", "bottleneck", "transformer", "own"],
)
def test_a_record_holds_what_the_networks_own_logits_give(trial: Trial) -> None:
    trials = tuple(trial.replace(seed=seed, probes="progress", steps=40, evaluate_every=40) for seed in (0, 1))
    training = begin(trials)
    training.advance(40)
    stack = training.stacked()
    view = evaluate.view(stack, evaluate.measure(stack, keep=True), [0, 1], last=False)
    with torch.no_grad():
        weights = training.network.layout.split(training.flat)
        logits = training.network.look(weights, training.inputs[None])[1]
    torch.testing.assert_close(torch.cat([part for _, part in view.logits()], 1), logits)
    expected = [read(logits[k : k + 1].double(), training.task, training.split.train[k : k + 1]) for k in (0, 1)]
    for result, wanted in zip(training.evaluate(), expected, strict=True):
        for name, value in wanted.items():
            assert result.curves[name][1][-1] == getattr(result.outcome, name) == pytest.approx(value, rel=1e-4)
