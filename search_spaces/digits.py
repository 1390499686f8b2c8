"""Grokking beyond modular arithmetic: handwritten digits, initial scale x weight decay (Omnigrok, arXiv 2210.01117).

A plain torch.nn.Module on scikit-learn's digits (8 x 8 pixels, 1,797 images, nothing to download; pip install
scikit-learn), 200 of them to train on, mean squared error. Feeds the phase diagram: large initial weights memorize
first, and weight decay brings them to where the network generalizes (Liu et al. 2023).
96 trials of 20,000 steps, 1,920,000 trial-steps: about 10 minutes on 2 cores.
Smaller: --set seed=0 --set steps=4000 (16 trials, 64,000 trial-steps, half a minute).
"""

from typing import Annotated

import torch
from sklearn.datasets import load_digits

from phasemap import Space, Task
from phasemap.fields import POSITIVE_COUNT

Count = Annotated[int, "of the hidden layers", POSITIVE_COUNT]


def digits() -> Task:
    """8 x 8 pixels from 0 to 1, and which digit they show"""
    pixels, labels = load_digits(return_X_y=True)
    return Task(inputs=pixels / 16, labels=labels)


class Perceptron(torch.nn.Module):
    """Hidden layers with ReLU on flat inputs."""

    def __init__(self, task: Task, width: Count = 64, depth: Count = 2):
        super().__init__()
        sizes = [task.features] + [width] * depth
        self.layers = torch.nn.ModuleList(map(torch.nn.Linear, sizes, sizes[1:]))
        self.readout = torch.nn.Linear(width, task.classes)

    def forward(self, inputs):
        for layer in self.layers:
            inputs = layer(inputs).relu()
        return self.readout(inputs)


space = Space(
    initial_scale=[1.0, 2.0, 4.0, 8.0],
    weight_decay=[0.0, 0.01, 0.1, 1.0],
    seed=range(6),
    task=digits,
    data_fraction=0.1113,  # 200 images
    model=Perceptron,
    learning_rate=1e-3,
    loss="mean_squared_error",
    batch_size=0,
    steps=20_000,
    evaluate_every=200,
    probes="dimension",
    grok_threshold=0.85,  # 200 images teach little more than 0.9
)
