"""Kept weights: a safetensors file per trial and step, and a network that computes with them.

A file has the tensors of one trial under the names and in the shapes of its network's layout; of a torch.nn.Module,
those of its ``state_dict``. Its metadata say which trial, step and version of phasemap wrote it. Nothing in it is code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from phasemap.networks.network import Network
from phasemap.numerics import processor
from phasemap.plan.trial import Trial
from phasemap.training.checkpoint import Storage
from phasemap.training.train import Training

ENDING = ".safetensors"


def place(storage: Storage, trial: str) -> Storage:
    """Where a trial's weights lie, STEP.safetensors, in the storage of its sweep."""
    return Storage(f"{storage.place}/weights/{trial}")


def save(storage: Storage, training: Training, k: int) -> None:
    """Writes the weights of the k-th trial as they stand.

    Raises:
        OSError: the disk is full or the store is away.
    """
    trial = training.trials[k]
    about = {
        "trial": trial.id,
        "step": str(training.step),
        "configuration": json.dumps(dict(trial.values)),
        "code": json.dumps(trial.code),
        "phasemap": _version(),
    }
    content = safetensors.torch.save(training.network.named(training.flat[k].detach().cpu()), about)
    place(storage, trial.id).write(f"{training.step}{ENDING}", content)


def load(kept: Storage, step: int | None = None) -> tuple[int, dict[str, Tensor]]:
    """A step and the weights kept there; the last one if no step is named.

    Raises:
        ValueError: nothing is kept there.
        OSError: the place cannot be read.
    """
    steps = kept.steps(ENDING)
    chosen = max(steps, default=None) if step is None else step
    content = kept.read(f"{chosen}{ENDING}")
    if content is None:
        wanted = "weights" if step is None else f"weights of step {step}"
        there = f"those of {', '.join(map(str, steps))}" if steps else "none"
        raise ValueError(f"{kept.place}: must hold {wanted}, got {there}; name one that is there, or keep them again")
    return int(chosen or 0), safetensors.torch.load(content)


def flat(network: Network, tensors: Mapping[str, Tensor]) -> Tensor:
    """[P]: a trial's row of weights from named tensors.

    Raises:
        ValueError: they are not those of this network.
    """
    row = torch.zeros(network.layout.size)
    wanted = {name: list(one.shape) for name, one in network.named(row).items()}
    given = {name: list(one.shape) for name, one in tensors.items()}
    differing = [
        f"{name} {given.get(name, 'none')} (here {wanted.get(name, 'none')})"
        for name in dict.fromkeys([*wanted, *given])
        if wanted.get(name) != given.get(name)
    ]
    if differing:
        raise ValueError(f"must have the tensors of this network, got {', '.join(differing)}")
    for name, part in network.layout.split(row[None]).items():
        part[0].copy_(tensors[name])
    return row


def sources(storage: Storage, trials: Iterable[Trial]) -> dict[str, Tensor]:
    """``start_from`` -> the weights [P] that trials of one shape start from; ``bring`` has put them there.

    Raises:
        ValueError: they are gone, or of another network.
    """
    wanted = {trial.start_from: trial for trial in trials if trial.start_from}
    return {name: _source(storage, trial) for name, trial in wanted.items()}


def bring(storage: Storage, start_from: str, kept: Storage) -> None:
    """Copies the weights that trials start from into the storage of their sweep, where each worker reads them.

    Raises:
        ValueError: nothing is kept there.
        OSError: a place cannot be read or written.
    """
    step = start_from.partition("@")[2]
    _, tensors = load(kept, int(step) if step else None)
    _brought(storage).write(start_from + ENDING, safetensors.torch.save(tensors))


def is_brought(storage: Storage, start_from: str) -> bool:
    """Whether the weights lie in the storage already."""
    return start_from + ENDING in _brought(storage).names()


def source_fault(storage: Storage, trial: Trial) -> str:
    """Why a trial cannot start from the weights that it names; empty if it can."""
    try:
        _source(storage, trial)
    except ValueError as error:
        return f"start_from: the weights of {trial.start_from} {error}; choose a trial of the same network and task"
    return ""


def _source(storage: Storage, trial: Trial) -> Tensor:
    content = _brought(storage).read(trial.start_from + ENDING)
    if content is None:
        raise ValueError(f"must lie in {_brought(storage).place}, got none")
    return flat(trial.shape.network, safetensors.torch.load(content))


def _brought(storage: Storage) -> Storage:
    return Storage(f"{storage.place}/sources")


@dataclass(frozen=True)
class Kept:
    """A trial's network as it stood at a step. Called with inputs of its task, it returns their logits."""

    trial: Trial
    step: int
    weights: Mapping[str, Tensor] = field(repr=False)

    def __call__(self, inputs: Tensor | np.ndarray) -> Tensor:
        """Inputs [N, T] (tokens), or [N, ...] (real) -> logits [N, C].

        Raises:
            ValueError: they are no inputs of the task.
        """
        return self._look(inputs)[1]

    def hidden(self, inputs: Tensor | np.ndarray) -> Tensor:
        """The vectors that probes look at, [N, D]; raises as a call does."""
        return self._look(inputs)[0]

    @torch.no_grad()
    def _look(self, inputs: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        network, task = self.trial.shape.network, self.trial.shape.examples
        known = torch.from_numpy(task.inputs[:1])
        given = torch.as_tensor(inputs)
        if given.shape[1:] != known.shape[1:] or given.is_floating_point() != known.is_floating_point():
            kind = "real numbers" if known.is_floating_point() else "tokens"
            wanted = ", ".join(["N", *map(str, known.shape[1:])])
            raise ValueError(f"inputs: must be {kind} [{wanted}], got {given.dtype} {list(given.shape)}; correct them")
        if not task.is_real and given.numel():
            _check_tokens(int(given.min()), int(given.max()), task.vocabulary)
        row = flat(network, self.weights)[None]
        with processor.threads_restored():
            processor.limit_threads()
            hidden, logits = network.look(network.layout.split(row), given.to(known.dtype)[None])
        return hidden[0], logits[0]


def _check_tokens(smallest: int, largest: int, vocabulary: int) -> None:
    # A table per position lies below the other's: a token too large would be looked up there, without an error.
    if smallest < 0 or largest >= vocabulary:
        got = smallest if smallest < 0 else largest
        raise ValueError(f"inputs: tokens must lie from 0 to vocabulary - 1 = {vocabulary - 1}, got {got}; correct one")


@cache
def _version() -> str:
    try:
        return version("phasemap-grokking")
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"
