"""Tensor operations a step do not grow with the number of trials: on a GPU each is a launch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from small import MLP, TRANSFORMER

from phasemap.training.train import begin

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from launches import operations, per_step

SEQUENCE = MLP.replace(task="sparse_parity", context=6, embedding="concatenate", split="distinct", batch_size=8)


@pytest.mark.parametrize("trial", [MLP, TRANSFORMER, SEQUENCE], ids=["mlp", "transformer", "sequence"])
def test_a_stack_of_256_trials_issues_as_many_operations_as_one(trial):
    trial = trial.replace(steps=2_000, evaluate_every=100, probe_every=100, batch_size=4, data_fraction=0.3)
    alone, together = per_step(trial, 1), per_step(trial, 256)
    assert 30 < alone["steps"] < 200
    assert sum(together.values()) <= 1.2 * sum(alone.values())


def test_options_of_a_step_cost_no_more_operations_for_256_trials():
    options: dict[str, Any] = {"dropout": 0.1, "weight_noise": 0.1, "gradient_clip": 0.1, "norm_clamp": 5.0}
    options |= {"temperature": 2.0, "embedding_rate": 0.5, "optimizer": "muon", "annealing": "cosine"}
    trial = MLP.replace(steps=2_000, evaluate_every=100, probe_every=100, batch_size=4, data_fraction=0.3, **options)
    alone, together = per_step(trial, 1), per_step(trial, 256)
    assert alone["steps"] > 100
    assert sum(together.values()) <= 1.2 * sum(alone.values())


@pytest.mark.parametrize("probe", ["progress", "within_class", "distance", "spread"])
def test_a_probe_looks_at_256_trials_by_as_many_operations_as_at_two(probe):
    """From its second look on: the first draws initial weights, trial by trial, where they are asked for."""
    trial = MLP.replace(steps=2_000, evaluate_every=100, probe_every=100, probes=probe)
    counted = []
    for size in (2, 256):
        training = begin(tuple(trial.replace(seed=seed) for seed in range(size)))
        for training.step in (100, 200):
            spent = operations(training.evaluate)
        counted.append(spent)
    assert counted[1] == counted[0] > 10
