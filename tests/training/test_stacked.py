"""A user's network is trained in stacks only where each trial is then what it is alone, whatever it computes with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from small import facts, trained
from torch.nn import functional as F

from phasemap import Space
from phasemap.plan.trial import Trial
from phasemap.training import train
from phasemap.training.train import begin, may_be_stacked

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "gelu": F.gelu,
    "tanh gelu": partial(F.gelu, approximate="tanh"),
}
# Those that are left as torch has them.
OTHERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cosh": torch.cosh,
    "a power": lambda x: x.abs() ** 1.7,
    "silu in place": partial(F.silu, inplace=True),
}
LARGE = {"large": lambda x: 3e37 * x}
KINDS = {**ACTIVATIONS, **OTHERS, **LARGE}


class Net(torch.nn.Module):
    """Wider than a vector by a few numbers."""

    def __init__(self, task, kind: str = "silu", width: int = 13):
        super().__init__()
        self.kind = kind
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.body = torch.nn.Linear(task.tokens * width, width)
        self.head = torch.nn.Linear(width, task.classes)

    def forward(self, tokens):
        return self.head(KINDS[self.kind](self.body(self.table(tokens).flatten(1))))


def trials(**fields: Any) -> list[Trial]:
    known: dict[str, Any] = {
        "modulus": 11,
        "batch_size": 21,
        "steps": 30,
        "evaluate_every": 3,
        "probe_every": 3,
        "seed": range(5),
    }
    options: dict[str, Any] = {
        "model": Net,
        "probes": "activation",
        "data_fraction": 0.5,
        "learning_rate": 1e-2,
        "delay_limit": 10,
    }
    return Space(**{**options, **known, **fields}).trials()


def same_alone(stack: list[Trial]) -> bool:
    together = trained(stack)
    return all(facts(trained([one])[one.id]) == facts(together[one.id]) for one in stack)


@pytest.mark.product
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in ("silu", "softplus") else pytest.mark.long) for kind in ACTIVATIONS]
)
def test_an_activation_gives_every_trial_of_a_stack_what_it_gives_it_alone(kind):
    stack = trials(kind=kind)
    assert may_be_stacked(stack[0], "cpu", False)
    for size in (2, 5):
        assert same_alone(stack[:size])


@pytest.mark.product
@pytest.mark.parametrize("kind", OTHERS)
def test_what_rounds_by_place_is_found_though_a_few_steps_may_not_show_it(kind):
    assert not may_be_stacked(trials(kind=kind)[0], "cpu", False)


@pytest.mark.product
@pytest.mark.parametrize("kind", ["silu", "mish", "sigmoid"])
def test_a_compiled_step_has_activations_of_whole_vectors_alone(kind):
    for modulus, batch, by_place in ((8, 21, True), (8, 64, False), (13, 64, False)):  # 13: not so in evaluations
        stack = begin(tuple(trials(kind=kind, batch_size=batch, modulus=modulus, width=16)))
        assert train._rounds_by_place(stack, compiled=True) == by_place
        assert not train._rounds_by_place(stack, compiled=False)


def test_each_row_of_each_tried_stack_is_compared(monkeypatch):
    """A last trial of a stack of five that is another by one bit."""
    monkeypatch.setattr(train, "_rounds_by_place", lambda *_: False)
    given = train._bits

    def bits(stack, *engine):
        rows = given(stack, *engine)
        return [*rows[:-1], [*rows[-1][:-1], b"another"]] if len(stack) == 5 else rows

    stack = trials(kind="gelu", width=12)
    assert may_be_stacked(stack[0], "cpu", False)
    train._tried_stacked.cache_clear()
    monkeypatch.setattr(train, "_bits", bits)
    assert not may_be_stacked(stack[0], "cpu", False)
    train._tried_stacked.cache_clear()


@pytest.mark.product
@pytest.mark.parametrize("kind", ["softplus", *LARGE])
def test_a_network_that_diverges_at_once_is_tried_to_the_end(kind):
    stack = trials(kind=kind, initial_scale=1e30, width=16)
    assert may_be_stacked(stack[0], "cpu", False)
    assert {result.outcome.values["ending"] for result in trained(stack).values()} == {"diverged"}


def test_cells_of_one_shape_are_tried_once(monkeypatch):
    tried: list[Trial] = []
    monkeypatch.setattr(train, "_tried_stacked", lambda trial, *engine: tried.append(trial))
    for trial in trials(weight_decay=[0.1, 1.0], learning_rate=[1e-3, 1e-2], initial_scale=[1.0, 1e30], seed=range(2)):
        may_be_stacked(trial, "cpu", False)
    assert len(tried) == 16
    assert len(set(tried)) == 1


@pytest.mark.parametrize(("rows", "columns"), product((1, 3, 21), (5, 64)))
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_and_their_gradients_are_torchs_own(kind, rows, columns):
    x = 3 * torch.randn(4, rows, columns, generator=torch.Generator().manual_seed(0))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    together, alone = torch.vmap(KINDS[kind])(ours), KINDS[kind](theirs)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    for out in (together, alone):
        out.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
