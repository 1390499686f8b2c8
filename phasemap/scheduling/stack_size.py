"""How many trials of a shape train fastest together on this machine: measured once, and remembered.

Measured by a few eager steps of stacks that double in size, because what decides is how much of a
stack's work the caches hold. Only speed depends on the answer: a trial's numbers are the same in any
stack.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable

import torch

from phasemap.numerics.matmul import machine_file
from phasemap.plan.stack import CPU_LARGEST, GPU_LARGEST
from phasemap.plan.trial import Trial
from phasemap.training.train import begin

WORTH = 0.97  # a larger stack must take less than this share of the time per trial-step
SECONDS = 0.1  # of training, for one measurement
ROUNDS = 3


def can_measure(device: str) -> bool:
    """A driver without a GPU cannot measure for the workers that have one."""
    return device == "cpu" or torch.cuda.is_available()


def fastest_size(trial: Trial, device: str, most: int) -> int:
    """Trials per stack, at most ``most``: 1, 2, 4, … as long as doubling makes each trial-step cheaper."""
    kind = torch.cuda.get_device_name().replace(" ", "-") if device == "cuda" else "cpu"
    memory = machine_file(f"stacks-{platform.node()}-{kind}-torch{torch.__version__}.json")
    known: dict[str, int] = json.loads(memory.read_text()) if memory.exists() else {}
    shaping = [
        "task",
        "model",
        "optimizer",
        "batch_size",
        *(field.name for part in trial.parts for field in part.fields),
    ]
    shape = " ".join([*(str(getattr(trial, name)) for name in shaping), *trial.code.values()])
    if shape not in known:
        known[shape] = _measured(trial, device, min(most, GPU_LARGEST if device == "cuda" else CPU_LARGEST))
        own = memory.with_suffix(f".{os.getpid()}")
        own.write_text(json.dumps(known, indent=1))
        own.replace(memory)
    return min(most, known[shape])


def _measured(trial: Trial, device: str, most: int) -> int:
    best, shortest, size = 1, float("inf"), 1
    while size <= most:
        spent = _seconds_each(trial, device, size)
        if spent < WORTH * shortest:
            best, shortest = size, spent
        elif size > 2 * best:  # two doublings without a gain
            break
        size *= 2
    return best


def _seconds_each(trial: Trial, device: str, size: int) -> float:
    """Seconds per trial-step in a stack of this size; no end if it does not fit in memory."""
    try:
        training = begin(tuple(trial.replace(seed=seed, start_from="") for seed in range(size)), device)
        return min(_timed(training.advance, training.step, size, device) for _ in range(ROUNDS))
    except (torch.OutOfMemoryError, MemoryError):
        return float("inf")


def _timed(advance: Callable[[int], None], start: int, size: int, device: str) -> float:
    advance(start + 1)  # the first step allocates
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        steps += 2
        advance(start + 1 + steps)
        if device == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps / size
