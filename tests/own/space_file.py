"""A search space of a user's own: network, task, probe and phase rule in one file, and a module beside it."""

from typing import Annotated, Literal

import numpy as np
import torch
from layers_of_mine import Hidden

from phasemap import Space, Task
from phasemap.fields import POSITIVE_COUNT

SHIFT = 2


class Net(torch.nn.Module):
    def __init__(self, task: Task, width: Annotated[int, "units", POSITIVE_COUNT] = 12, kind: Literal["a", "b"] = "a"):
        super().__init__()
        self.table = torch.nn.Embedding(task.vocabulary, width)
        self.body = Hidden(width * task.tokens, width)
        self.head = torch.nn.Linear(width, task.classes)

    def forward(self, inputs):
        return self.head(self.body(self.table(inputs).flatten(1)))


def shifted_sum(size: int = 11) -> Task:
    a, b = (grid.ravel() for grid in np.indices((size, size)))
    return Task(inputs=np.stack([a, b], 1), labels=(a + b + SHIFT) % size)


def sharpest(view) -> dict:
    """The largest logit weight."""
    return {"largest_weight": view.flat.abs().amax(1)}


def speed(curves, outcomes) -> Literal["fast", "slow", "never"]:
    if outcomes["grok_step"] is None:
        return "never"
    return "fast" if outcomes["grok_step"] <= 20 else "slow"


space = Space(
    model=Net,
    task=shifted_sum,
    probes=["dimension", sharpest],
    phases=speed,
    width=[8, 12],
    weight_decay=[0.0, 1.0],
    seed=range(2),
    data_fraction=0.5,
    learning_rate=1e-2,
    batch_size=16,
    steps=40,
    evaluate_every=10,
    probe_every=20,
    delay_limit=10,
)
