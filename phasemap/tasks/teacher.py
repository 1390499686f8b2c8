"""Teacher and student: the classes that a random network gives to Gaussian inputs.

Omnigrok's toy (Liu et al. 2023, arXiv 2210.01117, section 2) fits the teacher's outputs by regression; a task of ours
has classes, so here the student learns which output of the teacher is the largest.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np

from phasemap.fields import POSITIVE_COUNT, Rule
from phasemap.tasks.task import Task

__all__ = ("teacher_student",)

Examples = Annotated[
    int,
    "inputs that are drawn",
    Rule(lambda n: n >= 2, "must be at least 2", "use 1000, say"),
    Rule(lambda n: n <= 1_000_000, "must be at most 1000000", "lower it"),
]


def teacher_student(
    input_size: Annotated[int, "numbers of an input", POSITIVE_COUNT] = 5,
    teacher_width: Annotated[int, "units of each of the teacher's two hidden layers", POSITIVE_COUNT] = 100,
    teacher_classes: Annotated[
        int, "outputs of the teacher", Rule(lambda n: n >= 2, "must be at least 2", "use 5, say")
    ] = 5,
    inputs_drawn: Examples = 1_000,
) -> Task:
    """The largest output of a fixed random network of two hidden tanh layers, on Gaussian inputs

    Inputs are standard normal. The teacher has no biases; its weights are normal with variance 1 / (layer's inputs),
    and each output's mean over the inputs is taken away before the largest is sought, so that none wins by its mean.
    All is drawn from the parameters alone, so it is the same for every trial.
    """
    generator = np.random.default_rng([input_size, teacher_width, teacher_classes, inputs_drawn])
    sizes = (input_size, teacher_width, teacher_width, teacher_classes)
    layers = [generator.normal(0, n**-0.5, (n, m)) for n, m in pairwise(sizes)]
    inputs = generator.normal(size=(inputs_drawn, input_size))
    hidden = np.tanh(np.tanh(inputs @ layers[0]) @ layers[1])
    outputs = hidden @ layers[2]
    return Task(inputs.astype(np.float32), (outputs - outputs.mean(0)).argmax(1), classes=teacher_classes)
