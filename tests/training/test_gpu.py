"""The same stack on a GPU. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from phasemap.numerics import matmul
from phasemap.plan.trial import make_trial
from phasemap.training import graph
from phasemap.training.train import begin, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
SMALL = {"model": "mlp", "modulus": 23, "width": 16, "depth": 1, "batch_size": 64, "steps": 60, "evaluate_every": 20}


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_draws_and_learns_what_a_cpu_does(compiled):
    trials = tuple(make_trial({**SMALL, "learning_rate": 1e-2, "seed": seed}) for seed in range(4))
    on = {}
    for device in ("cpu", "cuda"):
        ended = [result for results in train(begin(trials, device, compiled)) for result in results]
        on[device] = {result.trial.seed: result for result in ended}
    for seed, result in on["cpu"].items():
        other = on["cuda"][seed]
        assert other.outcome.overlap == result.outcome.overlap
        assert other.outcome.final_train_loss == pytest.approx(result.outcome.final_train_loss, rel=1e-2)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_matrix_units_round_as_the_emulation_does(precision):
    """fp32 sums of rounded operands: equal but for the order of the sums, and for tf32 the rounding of ties."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(4, 48, 64, generator=generator)
    b = torch.randn(4, 64, 32, generator=generator)
    there = matmul.product(a.cuda(), b.cuda(), precision).cpu()
    unit = {"tf32": 2.0**-10, "bf16": 2.0**-20}[precision]
    torch.testing.assert_close(there, matmul.product(a, b, precision), rtol=0, atol=64 * unit)
    full = matmul.product(a.cuda(), b.cuda(), "fp32").cpu()
    torch.testing.assert_close(full.double(), a.double() @ b.double(), rtol=0, atol=64 * 2.0**-20)


def test_a_graph_of_steps_is_the_steps_and_a_trial_alone_is_the_same_in_a_stack(monkeypatch):
    trials = tuple(make_trial({**SMALL, "seed": seed, "steps": 200, "evaluate_every": 100}) for seed in range(4))
    by_graphs, singly, alone = begin(trials, "cuda"), begin(trials, "cuda"), begin(trials[2:3], "cuda")
    for training in (by_graphs, alone):
        training.advance(150)
    monkeypatch.setattr(graph, "SIZES", 0)
    singly.advance(150)
    assert torch.equal(by_graphs.flat, singly.flat)
    assert torch.equal(by_graphs.flat[2], alone.flat[0])
