"""What each option of a training step costs: the plain step's speed over that of a step with it.

    python benchmarks/options.py [--seconds 1] [--rounds 5] [--only mlp]

One core, eager steps, stacks of four. Prints a table and writes benchmarks/results/options.csv: trial-steps per second
of processor time of the plain step, and how many times as long a step with each option takes.
"""

from __future__ import annotations

import one_core  # noqa: F401

# isort: split
import turns

from phasemap.plan.trial import make_trial
from phasemap.training.train import begin

TRIALS, STEPS = 4, 2
NETWORKS: tuple[dict[str, object], ...] = (
    {"model": "mlp", "width": 128, "depth": 1, "modulus": 59},
    {"model": "transformer", "width": 32, "modulus": 59},
)
OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9},
    "lion": {"optimizer": "lion"},
    "grokfast": {"optimizer": "grokfast"},
    "muon": {"optimizer": "muon"},
    "annealing": {"annealing": "cosine"},
    "gradient_clip": {"gradient_clip": 1.0},
    "norm_clamp": {"norm_clamp": 30.0},
    "temperature": {"temperature": 2.0},
    "cross_entropy_float64": {"loss": "cross_entropy_float64"},
    "embedding_rate": {"embedding_rate": 0.5},
    "orthogonal_gradient": {"orthogonal_gradient": True},
    "weight_noise": {"weight_noise": 0.01},
    "dropout": {"dropout": 0.1},
}


def stack(number: int, option: str) -> turns.Go:
    """Trains a stack with an option, a few steps at a time."""
    shared = {"data_fraction": 0.4, "steps": 1_000_000, "evaluate_every": 1_000_000}
    trial = make_trial({**shared, **NETWORKS[number], **OPTIONS[option]})
    training = begin(tuple(trial.replace(seed=seed) for seed in range(TRIALS)))

    def go() -> int:
        training.advance(training.step + STEPS)
        return STEPS * TRIALS

    return go


def _row(number: int, rates: turns.Rates) -> turns.Row:
    plain = {"plain": turns.middle({"plain": rates["plain"]})["plain"]}
    ratios = {name: round(turns.ratio(rates["plain"], rates[name]), 2) for name in OPTIONS if name != "plain"}
    return {"model": str(NETWORKS[number]["model"]), "width": int(str(NETWORKS[number]["width"])), **plain, **ratios}


if __name__ == "__main__":
    turns.main(__file__, __doc__, [str(one["model"]) for one in NETWORKS], list(OPTIONS), stack, _row)
