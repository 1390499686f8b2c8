"""search_spaces/own_transformer.py, a plain torch.nn.Module, learns what the built-in transformer learns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from small import TRANSFORMER, facts, trained
from torch import Tensor

from phasemap.plan.outcome import Curve
from phasemap.plan.space_file import load
from phasemap.plan.trial import Trial
from phasemap.training.train import Training, begin, train

FILE = Path(__file__).parents[2] / "search_spaces" / "own_transformer.py"
BUILT_IN = TRANSFORMER.replace(depth=2, batch_size=16, steps=60, evaluate_every=20, probe_every=0, probes="")
SHARED = (
    *("modulus", "width", "depth", "heads", "data_fraction", "learning_rate", "weight_decay", "batch_size", "seed"),
    *("steps", "evaluate_every", "probes", "delay_limit"),
)


def plain(built_in: Trial) -> Trial:
    """The same trial with the network of the file."""
    space = load(FILE)
    return space.trial({**space.fixed, **{name: getattr(built_in, name) for name in SHARED}})


def curves(training: Training) -> list[Mapping[str, Curve]]:
    results = [result for ended in train(training) for result in ended]
    return [result.curves for result in sorted(results, key=lambda result: result.trial.seed)]


def translated(built_in: Training, own: Training) -> Tensor:
    """The built-in's rows in the order and the shapes of the plain module's."""
    theirs = built_in.network.layout.split(built_in.flat)
    tables = {f"tables.{t}.weight": one for t, one in enumerate(theirs.pop("table").unbind(1))}
    turned = {name: one.mT for name, one in theirs.items() if one.ndim == 3 and name != "position"}
    named = {name.replace("block", "blocks.", 1): one for name, one in {**theirs, **turned}.items()} | tables
    rows = range(len(built_in.trials))
    return torch.stack([own.network.layout.join({name: one[k] for name, one in named.items()}) for k in rows])


def test_from_the_same_weights_and_batches_its_curves_are_the_built_ins():
    """Losses and norms within 1e-3 over 60 steps, no prediction another: sums are made in another order."""
    trials = tuple(BUILT_IN.replace(seed=seed) for seed in range(2))
    built_in, own = begin(trials), begin(tuple(map(plain, trials)))
    assert built_in.network.parameters == own.network.parameters
    own.flat.copy_(translated(built_in, own))
    for theirs, ours in zip(curves(built_in), curves(own), strict=True):
        assert theirs["train_loss"][1][-1] < 0.7 * theirs["train_loss"][1][0], "it learned"
        for key in ("train_loss", "test_loss", "weight_norm"):
            np.testing.assert_allclose(ours[key][1], theirs[key][1], rtol=1e-3, err_msg=key)
        for key in ("train_accuracy", "test_accuracy"):
            assert ours[key] == theirs[key]


def test_alone_it_is_the_same_as_in_a_stack():
    trials = [plain(BUILT_IN.replace(seed=seed, steps=20)) for seed in range(3)]
    together = trained(trials)
    for trial in trials:
        assert facts(trained([trial])[trial.id]) == facts(together[trial.id])


def test_its_guessed_time_is_that_of_the_built_in_one():
    """From counted multiply-adds, to the factor of two that the command promises."""
    built_in = BUILT_IN.replace(width=128, modulus=97)
    own, ours = (trial.shape.network.cost(512) for trial in (plain(built_in), built_in))
    assert 0.5 < own / ours < 2
