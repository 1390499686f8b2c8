"""A user's linear layer on embeddings goes to whole tables where that changes nothing, and only there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from small import facts, trained
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from phasemap import Space, Task
from phasemap.networks.module import ModuleNetwork
from phasemap.plan.trial import Trial
from phasemap.training.train import begin, may_be_stacked

MODULUS, EXAMPLES, WIDTH = 11, 64, 5
ONE, TWO = ("table.weight",) * 2, ("tables.0.weight", "tables.1.weight")


class Backwards(torch.autograd.Function):
    """Its input; the gradient's sign is turned."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return -grad


# What the linear layer is given; of those in FOUND also its name, its tables and how they are joined.
FOUND: dict[str, tuple[Callable, str, tuple[str, ...], str]] = {
    "one table, flatten": (lambda net, t: net.table(t).flatten(1), "wide", ONE, "concatenate"),
    "one table, reshape": (lambda net, t: net.table(t).reshape(len(t), -1), "wide", ONE, "concatenate"),
    "one table, sum": (lambda net, t: net.table(t).sum(1), "body", ONE, "sum"),
    "one table, mean": (lambda net, t: net.table(t).mean(1), "body", ONE, "mean"),
    "one table, the second token": (lambda net, t: net.table(t[:, 1]), "body", ONE[:1], "sum"),
    "two tables, +": (lambda net, t: net.tables[0](t[:, 0]) + net.tables[1](t[:, 1]), "body", TWO, "sum"),
    "two tables, sum of a list": (lambda net, t: sum(net.each(t)), "body", TWO, "sum"),
    "two tables, stack": (lambda net, t: torch.stack(net.each(t)).mean(0), "body", TWO, "mean"),
    "two tables, cat": (lambda net, t: torch.cat(net.each(t), -1), "wide", TWO, "concatenate"),
}
OTHER: dict[str, Callable] = {
    "positions added": lambda net, t: (net.table(t) + net.position).flatten(1),
    "layer norm": lambda net, t: net.norm(net.table(t).sum(1)),
    "relu": lambda net, t: net.table(t).sum(1).relu(),
    "a learned factor": lambda net, t: net.table(t).sum(1) * net.factor,
    "a product": lambda net, t: net.table(t).prod(1),
    "the tokens in another order": lambda net, t: net.table(t).flip(1).flatten(1),
    "a token left out": lambda net, t: (net.table(t) * (t != 3)[..., None]).sum(1),
    "bounds that few weights reach": lambda net, t: net.table(t).sum(1).clamp(-1e5, 1e5),
    "small ones set to zero": lambda net, t: F.hardshrink(net.table(t).sum(1), 1e-6),
    "lower precision": lambda net, t: net.table(t).sum(1).bfloat16().float(),
    "no gradient": lambda net, t: net.table(t).sum(1).detach(),
    "a turned gradient": lambda net, t: Backwards.apply(net.table(t).sum(1)),
}
BOTH = {**{way: one[0] for way, one in FOUND.items()}, **OTHER}


class Net(nn.Module):
    """A perceptron whose first layer is given what ``way`` says; ``twice`` gives it something else besides."""

    def __init__(self, task: Task, way: str, twice: bool = False, tied: bool = False):
        super().__init__()
        self.way, self.twice, self.tied = way, twice, tied
        self.table = nn.Embedding(task.vocabulary, WIDTH)
        self.tables = nn.ModuleList([nn.Embedding(task.vocabulary, WIDTH) for _ in range(task.tokens)])
        self.position = nn.Parameter(torch.randn(task.tokens, WIDTH))
        self.factor = nn.Parameter(torch.tensor(1.0))
        self.norm = nn.LayerNorm(WIDTH)
        self.body, self.wide = nn.Linear(WIDTH, WIDTH), nn.Linear(task.tokens * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, task.classes)

    def each(self, tokens: Tensor) -> list[Tensor]:
        return [table(tokens[:, t]) for t, table in enumerate(self.tables)]

    def forward(self, tokens: Tensor) -> Tensor:
        given = BOTH[self.way](self, tokens)
        layer = self.body if given.shape[1] == WIDTH else self.wide
        hidden = layer(given) + (layer.forward(-given).relu() if self.twice else 0)
        return F.linear(hidden.relu(), self.table.weight) if self.tied else self.head(hidden.relu())


def trial(way: str, **changes) -> Trial:
    space = Space(
        model=Net,
        way=[way],
        task="modular_addition",
        modulus=MODULUS,
        data_fraction=0.6,
        learning_rate=1e-2,
        batch_size=EXAMPLES,
        weight_decay=0.1,
        seed=0,
        steps=20,
        evaluate_every=10,
        probe_every=10,
        delay_limit=10,
        **changes,
    )
    return space.trials()[0]


def network(way: str, **changes) -> ModuleNetwork:
    made = trial(way, **changes).shape.network
    assert isinstance(made, ModuleNetwork)
    return made


@pytest.mark.parametrize("way", FOUND)
def test_a_linear_layer_on_embeddings_is_found_however_it_is_written(way):
    _, layer, tables, join = FOUND[way]
    (first,) = network(way).first
    assert (first.layer, first.weight, first.tables, first.join) == (layer, f"{layer}.weight", tables, join)
    assert first.positions == ((1,) if len(tables) == 1 else (0, 1))


@pytest.mark.parametrize("way", OTHER)
def test_a_linear_layer_on_anything_else_is_left_as_it_is(way):
    assert not network(way).first


def test_a_layer_that_is_given_something_else_besides_is_left_as_it_is():
    assert not network("one table, sum", twice=True).first


def slopes(run: Callable[[dict[str, Tensor]], Tensor], weights: dict[str, Tensor]) -> list[Tensor]:
    """Logits, and the gradients of half their squares' sum by the weights."""
    given = {name: one.clone().requires_grad_() for name, one in weights.items()}
    logits = run(given)
    found = torch.autograd.grad(logits.square().sum() / 2, list(given.values()), materialize_grads=True)
    return [logits.detach(), *found]


@pytest.mark.parametrize("each_its_own", [True, False], ids=["a batch for each", "one batch"])
@pytest.mark.parametrize("tied", [False, True], ids=["readout", "tied readout"])
@pytest.mark.parametrize("way", BOTH)
def test_logits_and_gradients_are_torchs_own(way, tied, each_its_own):
    ours, module = network(way, tied=tied), Net(network(way).task, way, tied=tied)
    torch.manual_seed(0)
    weights = {name: torch.randn(3, *one.shape) for name, one in ours.trained.items()}
    tokens = torch.randint(MODULUS, (3 if each_its_own else 1, EXAMPLES, 2))
    stacked = slopes(lambda given: ours.logits(given, tokens), weights)
    for k in range(3):
        batch = tokens[k if each_its_own else 0]
        alone = {name: one[k] for name, one in weights.items()}
        theirs = slopes(partial(functional_call, module, args=(batch,)), alone)
        for together, one in zip(stacked, theirs, strict=True):
            torch.testing.assert_close(together[k], one, rtol=1e-4, atol=1e-4 * float(one.abs().max()) + 1e-6)


@pytest.mark.parametrize(
    ("way", "distinct"), [("one table, flatten", 11), ("one table, sum", 11), ("two tables, +", 22)]
)
def test_it_pays_where_distinct_tokens_are_clearly_fewer_than_examples(way, distinct):
    made = network(way)
    weights = {name: one[None] for name, one in made.trained.items()}
    (first,) = made.first
    assert [first.pays(weights, examples) for examples in (distinct, 2 * distinct)] == [False, True]


def test_a_few_examples_have_the_logits_of_many():
    made = network("two tables, +")
    weights = {name: one.detach()[None] for name, one in made.trained.items()}
    tokens = torch.randint(MODULUS, (1, EXAMPLES, 2))
    torch.testing.assert_close(made.logits(weights, tokens[:, :3]), made.logits(weights, tokens)[:, :3])


@pytest.mark.product
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)], ids=["eager", "compiled"])
@pytest.mark.parametrize("way", ["one table, flatten", "one table, mean", "two tables, +"])
def test_alone_it_is_the_same_as_in_stacks_of_several_sizes(way, compiled):
    trials = [trial(way).replace(seed=seed) for seed in range(5)]
    assert may_be_stacked(trials[0], "cpu", compiled)
    alone = trained(trials[:1], compiled)[trials[0].id]
    assert alone.notes["engine"] == ("compiled" if compiled else "eager")
    for size in (2, 5):
        assert facts(trained(trials[:size], compiled)[trials[0].id]) == facts(alone)


class Wide(nn.Module):
    """The perceptron of the README."""

    def __init__(self, task: Task, width: int):
        super().__init__()
        self.table = nn.Embedding(task.vocabulary, width)
        self.body, self.head = nn.Linear(task.tokens * width, width), nn.Linear(width, task.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.table(tokens).flatten(1)).relu())


@pytest.mark.product
@pytest.mark.parametrize(("width", "modulus"), [(32, 7), (32, 23), (64, 13), (96, 11)])
def test_tables_of_few_tokens_are_the_same_alone_and_in_stacks(width, modulus):
    """Their product is so small that its way through a library depends on how the weights lie in memory."""
    shape = {"width": [width], "modulus": modulus, "batch_size": EXAMPLES}
    space = Space(model=Wide, task="modular_addition", seed=0, steps=20, evaluate_every=10, delay_limit=20, **shape)
    assert may_be_stacked(space.trials()[0], "cpu", False)


def test_it_learns_as_the_plain_way_does(monkeypatch):
    """Weights after 20 steps, within rounding."""
    fast, plain = begin((trial("two tables, +"),)), begin((trial("two tables, +"),))
    fast.advance(20)
    monkeypatch.setattr(plain.network, "first", ())
    plain.advance(20)
    assert not torch.equal(fast.flat, plain.flat), "sums are made in another order"
    torch.testing.assert_close(fast.flat, plain.flat, rtol=1e-3, atol=1e-4)
