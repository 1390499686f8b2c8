"""Tensor operations a step: do they grow with the number of trials in a stack?

    python benchmarks/launches.py [--largest 256]

On a GPU every operation is a launch that the host issues, and small networks wait for the host. Operations are
counted where torch dispatches them, so the count is the same on every device and takes no clock; views count
nothing, for they launch nothing. Counted are 64 eager steps with their draws; an evaluation with the default probes,
spread over the steps between two; and the splits and the last evaluation with the results, spread over the run. The
initial weights are drawn on the host, one trial after the other, once. Prints a table; its last line is the worst case.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import one_core  # noqa: F401

# isort: split
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from phasemap.plan.trial import Trial, make_trial
from phasemap.training.train import AHEAD, begin

SHARED = {"steps": 2_000, "evaluate_every": 100, "data_fraction": 0.3}
JOINED = {"embedding": "concatenate"}
CASES: dict[str, dict[str, object]] = {
    "mlp 32": {"task": "modular_addition", "modulus": 17, "model": "mlp", "depth": 1, "width": 32},
    "mlp 128": {"task": "modular_addition", "modulus": 17, "model": "mlp", "depth": 1, "width": 128},
    "transformer 32": {"task": "modular_addition", "modulus": 17, "model": "transformer", "width": 32},
    "lfsr_5, distinct windows": {
        "task": "lfsr_5",
        "context": 8,
        "split": "distinct",
        "model": "mlp",
        "width": 8,
        **JOINED,
    },
}
SMALL_BATCH = 4  # operations do not depend on it, nor on the modulus; a stack of 256 is counted in seconds


class Counted(TorchDispatchMode):
    """Counts the operations that compute or move something."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's, without types
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += not (func.is_view or func._schema.name in ("aten::detach", "aten::lift_fresh"))
        return func(*args, **(kwargs or {}))


def operations(call: Callable[[], object]) -> int:
    with Counted() as counted:
        call()
    return counted.operations


def per_step(trial: Trial, size: int) -> dict[str, float]:
    """Operations a step of a stack of so many trials, by what they are for. The trials have forty sizes of training
    sets, as on a map of data fractions: their epochs are of many lengths."""
    fractions = [trial.data_fraction + 0.01 * i for i in range(40)] if size > 1 else [trial.data_fraction]
    trials = tuple(trial.replace(seed=seed, data_fraction=fractions[seed % len(fractions)]) for seed in range(size))
    training = begin(trials)
    split = operations(lambda: training.keep(list(range(size))))
    steps = operations(lambda: training.advance(AHEAD))
    training.step = trial.probe_interval
    evaluation = operations(training.evaluate)
    training.step = trial.steps
    end = operations(training.evaluate)
    return {
        "steps": steps / AHEAD,
        "evaluations": evaluation / trial.evaluate_every,
        "begin and end": (split + end) / trial.steps,
    }


def growth(values: dict[str, object], largest: int) -> tuple[dict[str, float], dict[str, float]]:
    """Operations a step of one trial, and of the largest stack."""
    trial = make_trial({**SHARED, "batch_size": SMALL_BATCH, **values})
    return per_step(trial, 1), per_step(trial, largest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=256)
    largest = parser.parse_args().largest
    torch.set_num_threads(1)
    worst = 0.0
    for name, values in CASES.items():
        alone, together = growth(values, largest)
        times = sum(together.values()) / sum(alone.values())
        worst = max(worst, times)
        parts = ", ".join(f"{part} {alone[part]:.1f} -> {together[part]:.1f}" for part in alone)
        print(f"{name:<26}{sum(alone.values()):6.1f} -> {sum(together.values()):6.1f}  ({parts})", flush=True)
    print(f"operations a step, K = {largest} over K = 1: {worst:.2f}")


if __name__ == "__main__":
    main()
