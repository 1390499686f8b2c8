"""A block of training steps as one CUDA graph: the host launches it once, and not every kernel of every step.

Not run on a GPU yet; tests/training/test_gpu.py compares it with single steps where there is one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SIZES = 4  # numbers of steps that are recorded; of log-spaced evaluations there would be dozens


class Graphs:
    """The blocks of one stack, by their number of steps, recorded at first use. A graph replays the kernels of the
    steps on the same tensors, so its numbers are those of the steps.

    Args:
        step: takes one step, given the tensors of its batch.
        state: the tensors it changes in place. Their memory must stay where it is.
    """

    def __init__(self, step: Callable[..., None], state: tuple[Tensor, ...]):
        self.step, self.state, self.most = step, state, SIZES
        self.blocks: dict[int, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}

    def run(self, batches: tuple[Tensor, ...]) -> None:
        """All steps of ``batches``, each [S, ...]; nothing waits for the device."""
        count = len(batches[0])
        if count not in self.blocks and len(self.blocks) < self.most:
            try:
                self.blocks[count] = self._record(batches)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # a user's network may do what cannot be recorded; nothing has been run
                self.most = len(self.blocks)
        if count not in self.blocks:
            for batch in zip(*batches, strict=True):
                self.step(*batch)
            return
        graph, inputs = self.blocks[count]
        for kept, part in zip(inputs, batches, strict=True):
            kept.copy_(part)
        graph.replay()

    def _record(self, batches: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
        inputs = tuple(part.clone() for part in batches)
        if not self.blocks:
            self._warm_up(inputs)
        graph = torch.cuda.CUDAGraph()
        pool = next((known.pool() for known, _ in self.blocks.values()), None)
        with torch.cuda.graph(graph, pool=pool):  # records, runs nothing
            for batch in zip(*inputs, strict=True):
                self.step(*batch)
        return graph, inputs

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> None:
        """Steps beside the others, for what a first call does (compiling, workspaces of cuBLAS) cannot be recorded."""
        before = [part.clone() for part in self.state]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                self.step(*(part[0] for part in inputs))
        torch.cuda.current_stream().wait_stream(beside)
        for part, kept in zip(self.state, before, strict=True):
            part.copy_(kept)
