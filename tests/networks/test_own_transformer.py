"""search_spaces/own_transformer.py, a plain torch.nn.Module, learns what the built-in transformer learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small import TRANSFORMER
from torch import Tensor

from phasemap.plan.space import load
from phasemap.plan.trial import Trial
from phasemap.training.train import Training, begin, train

FILE = Path(__file__).parents[2] / "search_spaces" / "own_transformer.py"
TRIALS = tuple(
    TRANSFORMER.replace(depth=2, seed=seed, steps=60, batch_size=16, evaluate_every=20, probe_every=0, probes="")
    for seed in range(2)
)


def curves(training: Training) -> list[dict]:
    results = [result for ended in train(training) for result in ended]
    return [result.curves for result in sorted(results, key=lambda result: result.trial.seed)]


def translated(built_in: Training, own: Training) -> Tensor:
    """The built-in's rows in the order and the shapes of the plain module's."""
    theirs = {f"blocks.{name[5:]}" if name.startswith("block") else name: one for name, one in _split(built_in).items()}
    tables = {f"tables.{t}.weight": one for t, one in enumerate(theirs.pop("table").unbind(1))}
    matrices = {name: one for name, one in theirs.items() if one.ndim == 3 and name != "position"}
    theirs |= tables | {name: one.mT for name, one in matrices.items()}
    layout = own.network.layout
    return torch.stack([layout.join({name: one[k] for name, one in theirs.items()}) for k in range(len(TRIALS))])


def _split(training: Training) -> dict[str, Tensor]:
    return training.network.layout.split(training.flat)


@pytest.fixture(scope="module")
def plain() -> tuple[Trial, ...]:
    space = load(FILE)
    names = ("modulus", "data_fraction", "width", "heads", "depth", "learning_rate", "batch_size", "steps")
    fixed = {
        name: getattr(TRIALS[0], name) for name in (*names, "evaluate_every", "probe_every", "delay_limit", "probes")
    }
    return tuple(space.trial({**space.fixed, **fixed, "weight_decay": 1.0, "seed": trial.seed}) for trial in TRIALS)


def test_from_the_same_weights_and_batches_its_curves_are_the_built_ins(plain):
    """Within 1e-3 of the loss after 60 steps, and no prediction another; sums are made in another order."""
    built_in, own = begin(TRIALS), begin(plain)
    assert built_in.network.parameters == own.network.parameters
    own.flat.copy_(translated(built_in, own))
    for theirs, ours in zip(curves(built_in), curves(own), strict=True):
        for key in ("train_loss", "test_loss", "weight_norm"):
            np.testing.assert_allclose(ours[key][1], theirs[key][1], rtol=1e-3, err_msg=key)
        for key in ("train_accuracy", "test_accuracy"):
            assert ours[key] == theirs[key]
        assert theirs["train_loss"][1][-1] < theirs["train_loss"][1][0] / 2, "it learned"
