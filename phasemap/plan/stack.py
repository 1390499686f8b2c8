"""Groups trials of one shape into stacks, and says what they cost. Pure list work, no tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from phasemap.plan.outcome import Curve, Result
from phasemap.plan.trial import Shape, Trial, train_examples

CACHED = 2**17  # numbers in a layer's output that leave half of a core's cache free (1 MiB)
CPU_LARGEST = 32
GPU_LARGEST = 512
SECONDS_PER_COST = 4e-11  # of one core, by eager steps
CPU_BEGIN, GPU_BEGIN = 3e-4, 1e-3  # seconds that the calls of a step take, whatever the stack
GPU_CORES = 300  # cores that a GPU does the arithmetic of
COMPILE_PAYS = 2_000  # steps: a compiled one takes two thirds of the time; compiling takes 5-30 s once per shape


@dataclass(frozen=True)
class Stack:
    """Same-shaped trials to train together, by compiled or eager steps. ``tries``: how often it has
    failed already."""

    trials: tuple[Trial, ...]
    compiled: bool = False
    tries: int = 0

    @property
    def id(self) -> str:
        return f"{self.trials[0].id}x{len(self.trials)}t{self.tries}"

    @property
    def shape(self) -> Shape:
        return self.trials[0].shape

    @property
    def trial_steps(self) -> int:
        return sum(trial.steps for trial in self.trials)

    def halves(self) -> tuple[Stack, ...]:
        """Two stacks of half the trials, to find the one that kills it; itself if it is alone."""
        if len(self.trials) == 1:
            return (replace(self, tries=self.tries + 1),)
        middle = len(self.trials) // 2
        parts = self.trials[:middle], self.trials[middle:]
        return tuple(replace(self, trials=part, tries=self.tries + 1) for part in parts)


@dataclass(frozen=True)
class Report:
    """News of a running stack since its last report."""

    trial_steps: int = 0
    seconds: float = 0.0  # of training and measuring
    results: tuple[Result, ...] = ()
    notes: tuple[str, ...] = ()
    saved: bool = False  # a checkpoint was written: what died later would go on from there
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)  # trial id -> further points, now and then
    began: float = 0.0  # of the stack, in seconds since 1970


@dataclass(frozen=True)
class Slots:
    """How many stacks run at once, and the bytes of a machine's memory that each may take. ``gpus``: by device, which
    is "cuda H100" for example, or "cuda" where nobody knows the kind."""

    cpu: int
    gpus: Mapping[str, int] = field(default_factory=dict)
    memory: float = math.inf

    @property
    def by_device(self) -> dict[str, int]:
        """Devices that have slots, and how many."""
        return {device: count for device, count in {**self.gpus, "cpu": self.cpu}.items() if count}

    @property
    def count(self) -> int:
        return sum(self.by_device.values())


@dataclass(frozen=True)
class Plan:
    """How stacks are made: ``size`` 0 and ``compiled`` "auto" choose by shape."""

    size: int = 0  # trials per stack
    compiled: str = "auto"  # always, never, auto
    device: str = "cpu"  # where stacks go unless it is asked for another
    memory: float = math.inf  # bytes a stack on a CPU may take

    def stacks(self, trials: Iterable[Trial]) -> list[Stack]:
        """All trials in stacks of one shape each, the most expensive first so that no slot ends late."""
        shapes: dict[Shape, list[Trial]] = {}
        for trial in trials:
            shapes.setdefault(trial.shape, []).append(trial)
        stacks = []
        for same in shapes.values():
            compiled = self.compiles(same[0])
            count = -(-len(same) // self.largest(same[0]))
            stacks += [Stack(tuple(same[i::count]), compiled) for i in range(count)]
        return sorted(stacks, key=lambda stack: -seconds(stack.trials))

    def largest(self, trial: Trial, device: str = "") -> int:
        """Trials of a stack, at most: those that train fastest together, of those that fit. A GPU's memory is asked
        where the stack runs."""
        if self.size:
            return self.size
        if (device or self.device) != "cpu":
            return best_size(trial, gpu=True)
        return max(1, int(min(best_size(trial, gpu=False), self.memory / memory(trial))))

    def compiles(self, trial: Trial) -> bool:
        """Decided by the configuration alone, because compiled and eager steps differ in the last bits:
        a trial's numbers must depend neither on the sweep it stands in nor on the machines."""
        return trial.steps >= COMPILE_PAYS if self.compiled == "auto" else self.compiled == "always"


def best_size(trial: Trial, gpu: bool) -> int:
    """Trials that train fastest together. On a CPU: as many as keep a layer's outputs in the cache
    (``benchmarks/stack_size.py`` measures it); a GPU is filled with many more."""
    outputs = trial.shape.network.outputs(_batch(trial))
    if gpu:
        return max(1, min(GPU_LARGEST, 2**29 // max(1, trial.shape.network.memory(_batch(trial)))))
    return max(1, min(CPU_LARGEST, CACHED // outputs))


def memory(trial: Trial) -> int:
    """Bytes one more trial takes in a stack, at most (``benchmarks/stack_size.py`` shows what it does take)."""
    return 4 * trial.shape.network.memory(max(_batch(trial), 2048))


def seconds(trials: Iterable[Trial]) -> float:
    """Time to train the trials by eager steps on one core, roughly."""
    return float(sum(cost(trial) * trial.steps for trial in trials) * SECONDS_PER_COST)


def prior(trial: Trial, size: int, device: str) -> float:
    """Seconds of one step of a stack, guessed before anything is measured."""
    begin, faster = (CPU_BEGIN, 1) if device == "cpu" else (GPU_BEGIN, GPU_CORES)
    return begin + size * cost(trial) * SECONDS_PER_COST / faster


def cost(trial: Trial) -> float:
    """Multiply-adds of one training step, roughly: enough to order stacks and to guess their time."""
    return trial.shape.network.cost(_batch(trial))


def _batch(trial: Trial) -> int:
    """Examples a step; of a full batch, as many as it trains on."""
    pool = trial.shape.examples.pool
    return trial.batch_size or (train_examples(pool, trial.data_fraction) if trial.split == "examples" else pool)
