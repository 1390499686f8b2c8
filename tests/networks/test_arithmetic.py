"""torch's layers in a stack: what each trial gets is what the layer alone gives, whatever stands beside it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.nn import functional as F

from phasemap.networks.arithmetic import adopt

TRIALS, TOKENS = 3, 6
BELOW = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
ATTENTION = {
    "two tokens": (2, {}),
    "six tokens": (TOKENS, {}),
    "causal": (TOKENS, {"is_causal": True}),
    "a mask": (TOKENS, {"attn_mask": BELOW}),
    "a scale": (2, {"scale": 0.3}),
}


def slopes(run, *stacks: torch.Tensor) -> list[torch.Tensor]:
    """What it returns for a stack, and the gradients by all that it is given."""
    given = [one.clone().requires_grad_() for one in stacks]
    out = vmap(run)(*given)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), given)]


@pytest.mark.parametrize(("tokens", "options"), ATTENTION.values(), ids=ATTENTION)
def test_attention_of_a_stack_is_torchs_own_and_silent(tokens, options):
    torch.manual_seed(0)
    stacks = [torch.randn(TRIALS, 5, 2, tokens, 7) for _ in range(3)]

    def run(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it calls one trial after another
        together = slopes(run, *stacks)
    for k in range(TRIALS):
        own = [one[k].clone().requires_grad_() for one in stacks]
        out = run(*own)
        for ours, theirs in zip(together, [out, *torch.autograd.grad(out.square().sum(), own)], strict=True):
            torch.testing.assert_close(ours[k], theirs, rtol=1e-4, atol=1e-5)
        for stacked, alone in zip(together, slopes(run, *(one[k : k + 1] for one in stacks)), strict=True):
            assert torch.equal(stacked[k], alone[0])


@pytest.mark.parametrize("shape", [(4,), (4, 3), ()], ids=["rows", "a batch of rows", "one row"])
def test_an_embedding_of_a_stack_is_torchs_own(shape):
    torch.manual_seed(0)
    layer, plain = nn.Embedding(9, 5), nn.Embedding(9, 5)
    adopt(layer)
    tables, rows = torch.randn(TRIALS, 9, 5), torch.randint(9, (TRIALS, *shape))
    together = vmap(lambda table, row: torch.func.functional_call(layer, {"weight": table}, (row,)))(tables, rows)
    for k in range(TRIALS):
        assert torch.equal(together[k], torch.func.functional_call(plain, {"weight": tables[k]}, (rows[k],)))


def test_an_unusual_embedding_keeps_torchs_forward():
    layer = nn.Embedding(9, 5, padding_idx=2)
    adopt(layer)
    assert "forward" not in vars(layer)


@pytest.mark.parametrize(
    ("layer", "given"), [(nn.Linear(5, 2), torch.ones(3, 5)), (nn.Embedding(9, 5), torch.arange(3))]
)
def test_an_adopted_layer_may_be_called_by_the_name_of_torchs_parameter(layer, given):
    expected = layer(input=given)
    adopt(layer)
    torch.testing.assert_close(layer(input=given), expected)
