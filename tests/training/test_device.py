"""Steps and draws on torch's device "meta", which knows shapes and devices and computes nothing: a tensor left on the
host, and a step that waits for a number, are found without a GPU. It takes every path that is not the CPU's.

Fake tensors on "cuda" would do the same, but cannot be indexed where torch is built without CUDA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import MLP, PARITY, TRANSFORMER
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from phasemap.numerics import random_streams
from phasemap.plan.trial import Trial
from phasemap.training.train import Training

META = torch.device("meta")
SHAPES = {
    "mlp": MLP,
    "mlp, concatenated": MLP.replace(embedding="concatenate", loss="stablemax", depth=2),
    "mlp, orthogonal gradient, sgd": MLP.replace(orthogonal_gradient=True, optimizer="sgd"),
    "mlp, sgd with momentum": MLP.replace(optimizer="sgd", momentum=0.9),
    "mlp, muon": MLP.replace(optimizer="muon"),
    "mlp, grokfast": MLP.replace(optimizer="grokfast"),
    "mlp, lion": MLP.replace(optimizer="lion"),
    "mlp, full batch": MLP.replace(batch_size=0, loss="mean_squared_error"),
    "transformer": TRANSFORMER,
    "transformer, tf32": TRANSFORMER.replace(precision="tf32", norm="pre"),
    "transformer, six tokens, bf16": PARITY.replace(precision="bf16", late_weight_decay=0.1, decay_switch=3),
}


class OneDevice(TorchDispatchMode):
    """Refuses an operation between the device and the host, but for a copy and for a single number, as CUDA does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [part for part in tree_leaves((args, kwargs)) if isinstance(part, torch.Tensor) and part.dim()]
        if "copy" not in func._schema.name and len({part.device for part in tensors}) > 1:
            raise RuntimeError(f"{func}: tensors must be on one device")
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def one_device():
    with OneDevice():
        yield


def begun(trial: Trial) -> Training:
    trials = tuple(trial.replace(seed=seed) for seed in range(3))
    state = [torch.empty(3, trial.shape.network.parameters, device=META) for _ in ("flat", *trial.shape.rule.state)]
    return Training(trials, META, state[0], tuple(state[1:]))


@pytest.mark.parametrize("trial", SHAPES.values(), ids=SHAPES)
def test_a_step_and_its_draws_stay_on_the_device(trial):
    training = begun(trial)
    examples, weights = training.batches.draw(5, 20)
    assert examples.device == weights.device == META
    training.advance(3)
    assert training.step == 3
    assert training.flat.device == training.split.train.device == META


def test_epochs_of_many_lengths_are_drawn_on_the_device(monkeypatch):
    monkeypatch.setattr(random_streams, "GROUPS", 0)
    trials = tuple(MLP.replace(data_fraction=0.2 + 0.05 * k, batch_size=5) for k in range(10))
    empty = torch.empty(10, MLP.shape.network.parameters, device=META)
    training = Training(trials, META, empty, (empty, empty))
    examples, weights = training.batches.draw(5, 20)
    assert examples.shape == weights.shape == (20, 10, 5)
    assert examples.device == weights.device == META


def test_a_tensor_left_on_the_host_is_found():
    training = begun(MLP)
    training.targets = torch.empty_like(training.targets, device="cpu")
    with pytest.raises(RuntimeError, match="on one device"):
        training.advance(1)
