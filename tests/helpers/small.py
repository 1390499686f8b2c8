"""Trials that train in a second, and how two results are compared. Known to the tests alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from phasemap.fields import Fault
from phasemap.plan.outcome import Outcome, Result
from phasemap.plan.trial import Trial
from phasemap.training.train import Training, begin, train

SMALL: dict[str, Any] = {
    "modulus": 11,
    "data_fraction": 0.5,
    "model": "mlp",
    "width": 8,
    "depth": 1,
    "learning_rate": 1e-2,
    "batch_size": 32,
    "steps": 20,
    "evaluate_every": 10,
}


def space_text(**fields: Any) -> str:
    """A search space file: by default trials that train in a moment."""
    every = fields | {name: value for name, value in SMALL.items() if name not in fields}
    lines = [f"    {name}={value!r}," for name, value in every.items()]
    return "\n".join(["from phasemap import Space", "", "space = Space(", *lines, ")", ""])


MLP = Trial(
    modulus=13,
    data_fraction=0.5,
    model="mlp",
    width=16,
    learning_rate=1e-2,
    batch_size=32,  # 84 training examples: the last batch of an epoch is a remainder of 20
    steps=60,
    evaluate_every=20,
    probe_every=20,
    delay_limit=20,
)
TRANSFORMER = MLP.replace(modulus=11, model="transformer", heads=2, steps=30, evaluate_every=10, probe_every=10)
PARITY = TRANSFORMER.replace(task="sparse_parity", context=6, batch_size=20)  # six tokens, the last one read


def mixed(trial: Trial) -> list[Trial]:
    """Five trials of one shape that differ in everything that may differ; the fourth diverges."""
    return [
        trial,
        trial.replace(weight_decay=0.1, learning_rate=3e-3, data_fraction=0.61, seed=1),
        trial.replace(initial_scale=3.0, seed=2, grok_threshold=0.5, settle_evaluations=1),
        trial.replace(initial_scale=1e20, learning_rate=1e6, seed=3),
        trial.replace(data_fraction=0.3, weight_decay=0.0, memorization_threshold=0.2, delay_limit=0),
    ]


def finish(training: Training) -> dict[str, Result]:
    """Trains a stack to its end."""
    return {result.trial.id: result for results in train(training) for result in results}


def trained(trials: Iterable[Trial], compiled: bool = False) -> dict[str, Result]:
    """The results of one fresh stack, by trial id."""
    return finish(begin(tuple(trials), compiled=compiled))


def facts(result: Result) -> dict[str, str]:
    """All of a result but its wall time, as text that tells every bit and calls NaN equal to NaN."""
    told = {name: repr(value) for name, value in result.outcome.values.items() if name != "train_seconds"}
    return told | {f"curve of {key}": repr(curve) for key, curve in result.curves.items()}


def result(trial: Trial, phase: str = "confusion") -> Result:
    """A made-up result, for the rooms that do not care where it came from."""
    outcome = Outcome(phase=phase, ending="budget", steps_run=trial.steps, final_test_accuracy=0.25, weight_norm=2.0)
    curves = {
        "test_accuracy": ((trial.steps // 2, trial.steps), (0.125, 0.25)),
        "weight_norm": ((trial.steps,), (2.0,)),
    }
    return Result(trial, outcome, curves, {"device": "cpu", "engine": "eager"})


def waited(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def faults(do: Callable[..., object], *arguments: object) -> list[str]:
    """The lines of the refusal of a call."""
    with pytest.raises(Fault) as caught:
        do(*arguments)
    return caught.value.faults


def written(folder: Path, text: str) -> Path:
    """A space file of this text."""
    file = folder / "space.py"
    file.write_text(text)
    return file
