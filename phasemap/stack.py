"""Groups trials of one shape into stacks, and says what they cost. Pure list work, no tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from phasemap import task as tasks
from phasemap.trial import Trial

CACHED = 2**18  # numbers in a layer's output at which a core's cache is full (1 MiB of fp32)
CPU_LARGEST = 32
GPU_LARGEST = 512
STACKS_PER_SLOT = 4  # at least so many, where there are trials enough, so that all slots end together


@dataclass(frozen=True)
class Stack:
    """Same-shaped trials to train together. ``tries``: how often it has failed already."""

    trials: tuple[Trial, ...]
    tries: int = 0

    @property
    def id(self) -> str:
        return f"{self.trials[0].id}x{len(self.trials)}t{self.tries}"

    @property
    def trial_steps(self) -> int:
        return sum(trial.steps for trial in self.trials)

    def halves(self) -> tuple[Stack, ...]:
        """Two stacks of half the trials, to find the one that kills it; itself if it is alone."""
        if len(self.trials) == 1:
            return (Stack(self.trials, self.tries + 1),)
        middle = len(self.trials) // 2
        return Stack(self.trials[:middle], self.tries + 1), Stack(self.trials[middle:], self.tries + 1)


def plan(trials: Iterable[Trial], slots: int, size: int = 0, gpu: bool = False) -> list[Stack]:
    """All trials in stacks of one shape each, the dearest first so that no slot ends late.

    Args:
        trials: what to run.
        slots: stacks that run at once.
        size: trials per stack; 0 chooses by shape.
        gpu: whether stacks run on GPUs.
    """
    shapes: dict[tuple, list[Trial]] = {}
    for trial in trials:
        shapes.setdefault(trial.shape, []).append(trial)
    total = sum(len(same) for same in shapes.values())
    even = max(1, -(-total // (slots * STACKS_PER_SLOT)))
    stacks = []
    for same in shapes.values():
        most = size or min(_best_size(same[0], gpu), even)
        count = -(-len(same) // most)
        stacks += [Stack(tuple(same[i::count])) for i in range(count)]
    return sorted(stacks, key=lambda stack: -cost(stack.trials[0]) * stack.trial_steps)


def _best_size(trial: Trial, gpu: bool) -> int:
    """Trials that train fastest together. On a CPU: as many as keep a layer's outputs in the cache
    (``benchmarks/stack_size.py`` measures it); a GPU is filled with many more."""
    rows = (trial.batch_size or 4096) * (1 if trial.model == "mlp" else _tokens(trial))
    outputs = rows * trial.width * (1 if trial.model == "mlp" else 4)
    if gpu:
        return max(1, min(GPU_LARGEST, 2**31 // (outputs * max(trial.depth, 1) * 16)))
    return max(1, min(CPU_LARGEST, CACHED // outputs))


def cost(trial: Trial) -> float:
    """Multiply-adds of one training step, roughly: enough to order stacks and to guess their time."""
    batch, width, tokens = trial.batch_size or 4096, trial.width, _tokens(trial)
    classes = trial.modulus if trial.task in tasks.MODULAR else 256
    if trial.model == "mlp":
        return 3 * width * (batch * ((trial.depth - 1) * width + classes) + tokens * classes * width) + 2e6
    return 3 * batch * width * (12 * width * tokens * (trial.depth - 0.5) + classes) + 1e7


def _tokens(trial: Trial) -> int:
    return 2 if trial.task in tasks.MODULAR or trial.task == "permutation_composition" else trial.context
