"""Stack against loops: trial-steps per second on one core, every figure a ratio measured in one run.

    python benchmarks/speed.py [--seconds 3] [--rounds 5] [--only mlp]

Prints a table and writes benchmarks/results/speed.csv. Each contender has a process of its own and they take
turns, so that a machine whose speed drifts slows all of them; the ratio is the median over rounds. "share" is the
nominal multiply-adds of the published network per second over the machine's best fp32 product; "x published at most"
is what the stack would reach if the products it cannot leave out ran at that best and all else were free.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import one_core  # noqa: F401

# isort: split
import loops
import torch
import turns

from phasemap.numerics import matmul
from phasemap.plan.stack import best_size
from phasemap.plan.trial import Trial, make_trial
from phasemap.training.train import AHEAD, begin


def cases() -> list[Trial]:
    transformers = [{"model": "transformer", "width": width, "modulus": 97} for width in (32, 64, 128, 256)]
    mlps = [
        {"model": "mlp", "width": width, "depth": 1, "modulus": 59, "learning_rate": 1e-2} for width in (32, 128, 512)
    ]
    return [make_trial({**case, "data_fraction": 0.4, "steps": 1_000_000}) for case in mlps + transformers]


def nominal(trial: Trial) -> float:
    """Multiply-adds of one step of the published network, forward and backward."""
    batch, width = trial.batch_size, trial.width
    if trial.model == "mlp":
        return 3 * batch * width * (trial.depth * width + trial.modulus)
    return 3 * batch * width * (2 * trial.depth * 12 * width + trial.modulus)


def needed(trial: Trial) -> float:
    """Multiply-adds of one step that cannot be left out: the first layer by distinct token, the last block by its
    readout token. With the machine's best product and nothing else to do, a step would take that long."""
    batch, width, classes = trial.batch_size, trial.width, trial.modulus
    readout = 3 * batch * width * classes
    if trial.model == "mlp":
        return readout + 3 * 2 * classes * width * width + 3 * batch * (trial.depth - 1) * width * width
    first = 2 * classes * 3 * width * width  # queries, keys and values of the first block
    whole = (trial.depth - 1) * 2 * batch * 9 * width * width + (trial.depth - 2) * 2 * batch * 3 * width * width
    last = batch * (1 + 2 * 2 + 9) * width * width  # one query, two keys and values, one token onwards
    return readout + 3 * (first + whole + last)


def best_product(width: int) -> float:
    """The machine's best fp32 multiply-adds per second over products [512, w] @ [w, 4 w]."""
    a, b = torch.randn(2, 512, width), torch.randn(2, width, 4 * width)
    rates = []
    for candidate in matmul.CANDIDATES.values():
        for _ in range(20):
            start = time.process_time()
            for _ in range(10):
                candidate(a, b)
            rates.append(10 * 2 * 512 * width * 4 * width / (time.process_time() - start))
    return max(rates)


def stack(trial: Trial, size: int, compiled: bool) -> turns.Go:
    """Trains a stack; each call takes as many steps as a sweep draws batches for at once (a transformer's are too
    long for that, and its draws next to nothing) and returns the trial-steps."""
    steps = AHEAD if trial.model == "mlp" else 8
    trials = tuple(trial.replace(seed=seed) for seed in range(size))
    training = begin(trials, compiled=compiled)

    def go() -> int:
        training.advance(training.step + steps)
        return steps * size

    return go


def loop(steps: Iterator[None]) -> turns.Go:
    def go() -> int:
        for _ in range(4):
            next(steps)
        return 4

    return go


CONTENDERS: dict[str, Callable[[Trial], turns.Go]] = {
    "published": lambda trial: loop(loops.published(trial)),
    "plain": lambda trial: loop(loops.plain(trial)),
    "plain compiled": lambda trial: loop(loops.plain(trial, compiled=True)),
    "stack eager": lambda trial: stack(trial, best_size(trial, gpu=False), compiled=False),
    "stack": lambda trial: stack(trial, best_size(trial, gpu=False), compiled=True),
}


def _row(trial: Trial, by_name: turns.Rates) -> turns.Row:
    best_plain = [max(a, b) for a, b in zip(by_name["plain"], by_name["plain compiled"], strict=True)]
    median = {name: statistics.median(rates) for name, rates in by_name.items()}
    best = best_product(trial.width)
    return {
        "model": trial.model,
        "width": trial.width,
        "K": best_size(trial, gpu=False),
        **turns.middle(by_name),
        "x published": round(turns.ratio(by_name["stack"], by_name["published"]), 2),
        "x plain": round(turns.ratio(by_name["stack"], best_plain), 2),
        "eager x published": round(turns.ratio(by_name["stack eager"], by_name["published"]), 2),
        "GFLOP/s of the best product": round(2 * best / 1e9),
        "share": round(median["stack"] * nominal(trial) / best, 2),
        "x published at most": round(best / needed(trial) / median["published"], 2),
    }


def main() -> None:
    trials = cases()
    turns.main(
        __file__,
        __doc__,
        [trial.model for trial in trials],
        list(CONTENDERS),
        lambda number, name: CONTENDERS[name](trials[number]),
        lambda number, rates: _row(trials[number], rates),
    )


if __name__ == "__main__":
    main()
