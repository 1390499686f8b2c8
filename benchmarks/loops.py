"""What a user would write instead: one configuration at a time, with plain PyTorch.

``published``: nn.TransformerEncoder or a plain MLP, a DataLoader, torch.optim.AdamW. ``plain``: the same
network and optimizer on tensors indexed in memory. Same widths, batches, fp32 and update as a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from phasemap.numerics import random_streams
from phasemap.plan.trial import Trial, train_examples
from phasemap.tasks.task import Task


class Transformer(nn.Module):
    """The protocol's network: separate tables, learned positions, post-norm blocks, readout of token 0."""

    def __init__(self, trial: Trial, task: Task):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(task.vocabulary, trial.width) for _ in range(2)])
        self.position = nn.Parameter(torch.randn(2, trial.width) * 0.02)
        block = nn.TransformerEncoderLayer(
            trial.width, trial.heads, 4 * trial.width, dropout=0.0, activation="relu", batch_first=True
        )
        self.blocks = nn.TransformerEncoder(block, trial.depth, enable_nested_tensor=False)
        self.readout = nn.Linear(trial.width, task.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.stack([table(tokens[:, t]) for t, table in enumerate(self.tables)], 1) + self.position
        return self.readout(self.blocks(x)[:, 0])


class MLP(nn.Module):
    """Summed embeddings, ``depth`` hidden layers, readout."""

    def __init__(self, trial: Trial, task: Task):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(task.vocabulary, trial.width) for _ in range(2)])
        layers = [part for _ in range(trial.depth) for part in (nn.Linear(trial.width, trial.width), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(trial.width, task.classes))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(self.tables[0](tokens[:, 0]) + self.tables[1](tokens[:, 1]))


def network(trial: Trial, device: str = "cpu") -> tuple[nn.Module, torch.optim.Optimizer, Tensor, Tensor]:
    """A fresh network, its AdamW, and the training examples (tokens, labels)."""
    task = trial.shape.examples
    torch.manual_seed(trial.seed)
    model = (Transformer if trial.model == "transformer" else MLP)(trial, task).to(device)
    betas = (trial.beta1, trial.beta2)
    optimizer = torch.optim.AdamW(model.parameters(), trial.learning_rate, betas, weight_decay=trial.weight_decay)
    count = len(task.labels)
    train = random_streams.shuffled(trial.seed, count)[: train_examples(count, trial.data_fraction)]
    return model, optimizer, torch.from_numpy(task.inputs)[train], torch.from_numpy(task.labels)[train]


def published(trial: Trial, evaluating: bool = False, device: str = "cpu") -> Iterator[None]:
    """Yields after every step, forever; ``evaluating`` looks at all examples at the trial's cadence. On a GPU each
    batch is sent there, as published loops do."""
    model, optimizer, tokens, labels = network(trial, device)
    everything, steps = torch.from_numpy(trial.shape.examples.inputs), 0
    data = torch.utils.data.TensorDataset(tokens, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=trial.batch_size, shuffle=True)
    while True:
        for batch in loader:
            _step(model, optimizer, *(part.to(device) for part in batch))
            steps += 1
            if evaluating and steps % trial.evaluate_every == 0:
                with torch.no_grad():
                    model(everything.to(device))
            yield


def plain(trial: Trial, compiled: bool = False, device: str = "cpu") -> Iterator[None]:
    """Yields after every step, forever."""
    model, optimizer, tokens, labels = network(trial, device)
    tokens, labels = tokens.to(device), labels.to(device)
    run: Callable[[Tensor], Tensor] = torch.compile(model) if compiled else model
    while True:
        order = torch.randperm(len(labels), device=device)
        for start in range(0, len(labels), trial.batch_size):
            rows = order[start : start + trial.batch_size]
            _step(run, optimizer, tokens[rows], labels[rows])
            yield


def _step(model: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, tokens: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(tokens), labels).backward()
    optimizer.step()
