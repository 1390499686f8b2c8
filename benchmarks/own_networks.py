"""A network of your own against the same network by hand: trial-steps per second on one core, ratios of one run.

    python benchmarks/own_networks.py [--seconds 3] [--rounds 5] [--only mlp]

Prints a table and writes benchmarks/results/own_networks.csv. The plain module is what a user writes for one model:
``Perceptron`` below, and ``PlainTransformer`` of search_spaces/own_transformer.py. "loop" trains it one trial at a
time, "module" through phasemap, "stack" is the built-in of the same shape. Processes take turns, as in speed.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import one_core  # noqa: F401

# isort: split
import loops
import speed
import turns
from torch import Tensor, nn

from phasemap import Space, Task
from phasemap.plan.space_file import load
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
    shared: dict[str, Any] = {"data_fraction": 0.4, "steps": 1_000_000, "seed": 0, "weight_decay": 1.0}
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


def stack(trial: Trial, by_hand: Trial, compiled: bool) -> turns.Go:
    assert may_be_stacked(trial, "cpu", compiled), "its numbers depend on the stack"
    return speed.stack(trial, best_size(by_hand, gpu=False), compiled)


CONTENDERS: dict[str, Callable[[Trial, Trial], turns.Go]] = {
    "loop": lambda by_hand, plain: speed.loop(loops.plain(by_hand)),
    "module eager": lambda by_hand, plain: stack(plain, by_hand, compiled=False),
    "module": lambda by_hand, plain: stack(plain, by_hand, compiled=True),
    "stack eager": lambda by_hand, plain: stack(by_hand, by_hand, compiled=False),
    "stack": lambda by_hand, plain: stack(by_hand, by_hand, compiled=True),
}


def row(by_hand: Trial, rates: turns.Rates) -> turns.Row:
    return {
        "model": by_hand.model,
        "width": by_hand.width,
        "K": best_size(by_hand, gpu=False),
        **turns.middle(rates),
        "module / stack": round(turns.ratio(rates["module"], rates["stack"]), 2),
        "eager module / stack": round(turns.ratio(rates["module eager"], rates["stack eager"]), 2),
        "module / loop": round(turns.ratio(rates["module"], rates["loop"]), 2),
    }


def main() -> None:
    pairs = cases()
    turns.main(
        __file__,
        __doc__,
        [by_hand.model for by_hand, _ in pairs],
        list(CONTENDERS),
        lambda number, name: CONTENDERS[name](*pairs[number]),
        lambda number, rates: row(pairs[number][0], rates),
    )


if __name__ == "__main__":
    main()
