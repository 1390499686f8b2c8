"""Stack against loops: trial-steps per second on one core, every figure a ratio measured in one run.

    python benchmarks/speed.py [--seconds 3] [--rounds 5] [--only mlp]

Prints a table and writes benchmarks/results/speed.csv. Each contender has a process of its own and they take
turns, so that a machine whose speed drifts slows all of them; the ratio is the median over rounds. "share" is the
nominal multiply-adds of the published network per second over the machine's best fp32 product; "x published at most"
is what the stack would reach if the products it cannot leave out ran at that best and all else were free.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import one_core  # noqa: F401

# isort: split
import loops
import torch

from phasemap.numerics import matmul
from phasemap.plan.stack import best_size
from phasemap.plan.trial import Trial, make_trial
from phasemap.training.train import AHEAD, begin

RESULTS = Path(__file__).parent / "results"


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


def stack(trial: Trial, size: int, compiled: bool) -> Callable[[], int]:
    """Trains a stack; each call takes as many steps as a sweep draws batches for at once (a transformer's are too
    long for that, and its draws next to nothing) and returns the trial-steps."""
    steps = AHEAD if trial.model == "mlp" else 8
    trials = tuple(trial.replace(seed=seed) for seed in range(size))
    training = begin(trials, compiled=compiled)

    def go() -> int:
        training.advance(training.step + steps)
        return steps * size

    return go


def loop(steps: Iterator[None]) -> Callable[[], int]:
    def go() -> int:
        for _ in range(4):
            next(steps)
        return 4

    return go


CONTENDERS: dict[str, Callable[[Trial], Callable[[], int]]] = {
    "published": lambda trial: loop(loops.published(trial)),
    "plain": lambda trial: loop(loops.plain(trial)),
    "plain compiled": lambda trial: loop(loops.plain(trial, compiled=True)),
    "stack eager": lambda trial: stack(trial, best_size(trial, gpu=False), compiled=False),
    "stack": lambda trial: stack(trial, best_size(trial, gpu=False), compiled=True),
}


def rate(go: Callable[[], int], seconds: float) -> float:
    """Trial-steps per second of processor time."""
    start, done = time.process_time(), 0
    while time.process_time() - start < seconds:
        done += go()
    return done / (time.process_time() - start)


def contend(name: str, trial: Trial, seconds: float) -> None:
    """One contender in a process of its own: a line in, seconds of training, its rate out."""
    torch.set_num_threads(1)
    go = CONTENDERS[name](trial)
    go(), go()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(rate(go, seconds), flush=True)


def measure(number: int, seconds: float, rounds: int) -> dict[str, float | str]:
    """A case's row. Memory is not shared, so no contender trains in the heap another has torn up."""
    trial, found = cases()[number], {}
    command = [sys.executable, __file__, "--seconds", str(seconds), "--contend", str(number)]
    processes = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in CONTENDERS
    }
    for name, process in processes.items():  # compiling takes its time; one after the other, they do not disturb
        assert process.stdout.readline() == "ready\n", name
        found[name] = []
    for _ in range(rounds):
        for name, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            found[name].append(float(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return _row(trial, found)


def _row(trial: Trial, found: dict[str, list[float]]) -> dict[str, float | str]:
    best_plain = [max(a, b) for a, b in zip(found["plain"], found["plain compiled"], strict=True)]
    middle = {name: statistics.median(values) for name, values in found.items()}
    best = best_product(trial.width)
    return {
        "model": trial.model,
        "width": trial.width,
        "K": best_size(trial, gpu=False),
        **{name: round(value, 1) for name, value in middle.items()},
        "x published": round(_ratio(found["stack"], found["published"]), 2),
        "x plain": round(_ratio(found["stack"], best_plain), 2),
        "eager x published": round(_ratio(found["stack eager"], found["published"]), 2),
        "GFLOP/s of the best product": round(2 * best / 1e9),
        "share": round(middle["stack"] * nominal(trial) / best, 2),
        "x published at most": round(best / needed(trial) / middle["published"], 2),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("mlp", "transformer"))
    parser.add_argument("--contend", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contend:
        number, name = arguments.contend
        return contend(name, cases()[int(number)], arguments.seconds)
    rows = []
    for number, trial in enumerate(cases()):
        if arguments.only in (None, trial.model):
            rows.append(measure(number, arguments.seconds, arguments.rounds))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "speed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
