"""Heads that are copies, opposites and strangers, and the paper's formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import MLP, TRANSFORMER, facts, trained

from phasemap.probes.heads import head_similarity
from phasemap.training.train import begin


def test_copies_are_one_opposites_minus_one_and_strangers_zero():
    vector = torch.tensor([1.0, 2.0, -1.0])
    assert head_similarity(torch.stack([vector, 3 * vector])[None, None]).item() == pytest.approx(1)
    assert head_similarity(torch.stack([vector, -vector])[None, None]).item() == pytest.approx(-1)
    assert head_similarity(torch.eye(3)[None, None]).item() == pytest.approx(0, abs=1e-12)


def test_it_is_the_papers_mean_of_cosines_without_a_heads_own():
    outputs = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    found = head_similarity(outputs)
    for k in range(2):
        for n in range(5):
            heads = outputs[k, n].double().numpy()
            cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a in heads for b in heads]
            assert found[k, n].item() == pytest.approx((sum(cosines) - 4) / 12)


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_a_record_holds_that_of_torchs_own_heads(pooling):
    trial = TRANSFORMER.replace(probes="heads", heads=4, depth=1, pooling=pooling, evaluate_every=30, probe_every=30)
    training = begin((trial,))
    training.advance(30)
    weights = {name: part[0] for name, part in training.network.layout.split(training.flat.double()).items()}
    tokens = training.inputs[training.split.test[0]]
    x = weights["table"][torch.arange(2), tokens] + weights["position"]
    q, k, v = (x @ weights["block0.qkv.weight"] + weights["block0.qkv.bias"]).chunk(3, -1)
    heads = []
    for part in range(4):
        own = slice(4 * part, 4 * part + 4)
        shares = (q[..., own] @ k[..., own].mT / 2).softmax(-1)
        heads.append(shares @ v[..., own])  # [N, T, 4]
    outputs = torch.stack(heads, 2)[:, :1] if pooling == "token" else torch.stack(heads, 2)
    expected = head_similarity(outputs).mean().item()
    (result,) = training.evaluate()
    assert result.outcome.head_similarity == pytest.approx(expected, abs=1e-5)


def test_it_is_the_same_alone_and_in_a_stack_and_absent_without_heads():
    trials = [TRANSFORMER.replace(probes="heads", seed=seed) for seed in range(3)]
    together = trained(trials)
    for one in trials:
        assert facts(trained([one])[one.id]) == facts(together[one.id])
    for one in (MLP.replace(probes="heads"), TRANSFORMER.replace(probes="heads", heads=1)):
        assert trained([one])[one.id].outcome.head_similarity is None
