"""A network of one's own against the same network by hand: trial-steps per second on one core, ratios of one run.

    python benchmarks/own_networks.py [--seconds 3] [--rounds 5] [--only mlp]

Prints a table and writes benchmarks/results/own_networks.csv. The plain module is what a user writes for one model:
``Perceptron`` below, and ``PlainTransformer`` of search_spaces/own_transformer.py. "loop" trains it one trial at a
time, "module" through phasemap, "stack" is the built-in of the same shape. Processes take turns, as in speed.py.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import one_core  # noqa: F401

# isort: split
import loops
import speed
import torch
from torch import Tensor, nn

from phasemap import Space, Task
from phasemap.plan.space import load
from phasemap.plan.stack import best_size
from phasemap.plan.trial import Trial, make_trial
from phasemap.training.train import may_be_stacked

ROOT = Path(__file__).parents[1]


class Perceptron(nn.Module):
    """Summed embeddings, one hidden layer, readout."""

    def __init__(self, task: Task, width: int = 128):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(task.vocabulary, width) for _ in range(task.tokens)])
        self.body, self.readout = nn.Linear(width, width), nn.Linear(width, task.classes)

    def hidden(self, tokens: Tensor) -> Tensor:
        return self.body(sum(table(tokens[:, t]) for t, table in enumerate(self.tables))).relu()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.readout(self.hidden(tokens))


def cases() -> list[tuple[Trial, Trial]]:
    """By hand and plain: the same shape, data and rates."""
    shared = {"data_fraction": 0.4, "steps": 1_000_000, "seed": 0, "weight_decay": 1.0}
    mlp = {**shared, "modulus": 59, "learning_rate": 1e-2}
    pairs = []
    for width in (32, 128):
        by_hand = make_trial({**mlp, "width": width, "model": "mlp", "depth": 1})
        space = Space(**{**mlp, "width": [width], "model": Perceptron, "task": "modular_addition"})
        pairs.append((by_hand, space.trials()[0]))
    space = load(ROOT / "search_spaces" / "own_transformer.py")
    for width in (32, 128):
        by_hand = make_trial({**shared, "modulus": 97, "width": width, "model": "transformer"})
        pairs.append((by_hand, space.trial({**space.fixed, **shared, "width": width})))
    return pairs


def stack(trial: Trial, by_hand: Trial, compiled: bool) -> Callable[[], int]:
    assert may_be_stacked(trial, "cpu", compiled), "its numbers hang on the stack"
    return speed.stack(trial, best_size(by_hand, gpu=False), compiled)


CONTENDERS: dict[str, Callable[[Trial, Trial], Callable[[], int]]] = {
    "loop": lambda by_hand, plain: speed.loop(loops.plain(by_hand)),
    "module eager": lambda by_hand, plain: stack(plain, by_hand, compiled=False),
    "module": lambda by_hand, plain: stack(plain, by_hand, compiled=True),
    "stack eager": lambda by_hand, plain: stack(by_hand, by_hand, compiled=False),
    "stack": lambda by_hand, plain: stack(by_hand, by_hand, compiled=True),
}


def contend(number: int, name: str, seconds: float) -> None:
    """One contender in a process of its own: a line in, seconds of training, its rate out."""
    torch.set_num_threads(1)
    go = CONTENDERS[name](*cases()[number])
    go(), go()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(speed.rate(go, seconds), flush=True)


def measure(number: int, seconds: float, rounds: int) -> dict[str, float | str]:
    """A case's row."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--contend", str(number)]
    processes, found = {}, {}
    for name in CONTENDERS:  # one after the other, so that compiling disturbs nobody
        processes[name] = subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert processes[name].stdout.readline() == "ready\n", name
        found[name] = []
    for _ in range(rounds):
        for name, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            found[name].append(float(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    by_hand = cases()[number][0]
    return {
        "model": by_hand.model,
        "width": by_hand.width,
        "K": best_size(by_hand, gpu=False),
        **{name: round(speed.statistics.median(values), 1) for name, values in found.items()},
        "module / stack": round(speed._ratio(found["module"], found["stack"]), 2),
        "eager module / stack": round(speed._ratio(found["module eager"], found["stack eager"]), 2),
        "module / loop": round(speed._ratio(found["module"], found["loop"]), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("mlp", "transformer"))
    parser.add_argument("--contend", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contend:
        number, name = arguments.contend
        return contend(int(number), name, arguments.seconds)
    rows = []
    for number, (by_hand, _) in enumerate(cases()):
        if arguments.only in (None, by_hand.model):
            rows.append(measure(number, arguments.seconds, arguments.rounds))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    speed.RESULTS.mkdir(exist_ok=True)
    with (speed.RESULTS / "own_networks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
