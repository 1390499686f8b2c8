"""What numbers below 1.2e-38 cost: steps of a stack in which half of the hidden units have decayed.

    python benchmarks/subnormals.py [--seconds 2] [--rounds 3]

"fresh" has no such units. Weights and moments of the units are set to where weight decay takes them in a long run.
Prints a table and writes benchmarks/results/subnormals.csv: trial-steps per second of processor time, and ratios.
"""

from __future__ import annotations

import one_core  # noqa: F401

# isort: split
import turns

from phasemap.plan.stack import best_size
from phasemap.plan.trial import Trial, make_trial
from phasemap.training.train import AHEAD, begin

WEIGHT, MOMENT = 1e-36, 3e-44  # a moment that rounding keeps there moves the weight by as much as it decays
CASES = [
    make_trial({"model": model, "width": 128, "modulus": 97, "learning_rate": rate, "steps": 1_000_000})
    for model, rate in (("mlp", 1e-2), ("transformer", 1e-3))
]
LAYERS = {"mlp": ("layer1", "readout"), "transformer": ("block0.up", "block0.down")}  # into the units, out of them


def stack(trial: Trial, decayed: bool) -> turns.Go:
    """Trains a stack of the usual size, a few steps at a time."""
    size = best_size(trial, gpu=False)
    training = begin(tuple(trial.replace(seed=seed) for seed in range(size)), compiled=True)
    into, out = LAYERS[trial.model]
    if decayed:
        for part, value in zip((training.flat, *training.state), (WEIGHT, MOMENT, MOMENT), strict=True):
            weights = training.network.layout.split(part)
            off = weights[into + ".bias"].shape[1] // 2
            weights[into + ".weight"][..., :off] = weights[out + ".weight"][:, :off] = value
            weights[into + ".bias"][:, :off] = value
    steps = AHEAD if trial.model == "mlp" else 4

    def go() -> int:
        training.advance(training.step + steps)
        return steps * size

    return go


def _contender(number: int, name: str) -> turns.Go:
    trial = CASES[number].replace(subnormals="flushed" if name == "flushed" else "kept")
    return stack(trial, decayed=name != "fresh")


def _row(number: int, rates: turns.Rates) -> turns.Row:
    case = CASES[number]
    slower = {f"fresh / {name}": round(turns.ratio(rates["fresh"], rates[name]), 2) for name in ("kept", "flushed")}
    return {"model": case.model, "width": case.width, **turns.middle(rates), **slower}


if __name__ == "__main__":
    names = ["fresh", "kept", "flushed"]
    turns.main(__file__, __doc__, [case.model for case in CASES], names, _contender, _row)
