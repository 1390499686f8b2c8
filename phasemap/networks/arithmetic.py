"""What a user's module computes with while it runs as a stack: torch's functions, by the arithmetic of ours.

Under ``torch.vmap`` a layer of one model becomes operations of torch's own, some of which loop over the trials, fix the
size of the stack for torch.compile, or round a trial by its place in it. Linear layers, embeddings and attention are
taken here, whether a module or a plain function asks for them, and done by ``layers.py`` for the whole stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from phasemap.networks import layers

SHORT = 4  # tokens, for which attention's sums are written out


class StackedArithmetic(TorchFunctionMode):
    """Takes the functions that ours do better; leaves all others, and unusual arguments, to torch."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            return linear(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return attention(*args, **kwargs)
        if func is torch.embedding:
            return embedding(*args, **kwargs)
        return func(*args, **kwargs)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As torch.nn.functional.linear."""
    out = torch.ops.phasemap.rows(x.reshape(-1, x.shape[-1]), weight.mT)
    out = out.reshape(*x.shape[:-1], out.shape[-1])
    return out if bias is None else out + bias


def embedding(
    table: Tensor, rows: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """As torch.embedding."""
    if padding_idx >= 0 or scale_grad_by_freq or sparse:
        return torch.embedding(table, rows, padding_idx, scale_grad_by_freq, sparse)
    return torch.ops.phasemap.lookup(table, rows.reshape(-1)).reshape(*rows.shape, -1)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As torch.nn.functional.scaled_dot_product_attention."""
    plain = attn_mask is None and not (dropout_p or is_causal or enable_gqa) and scale is None
    if not plain or query.dim() != 4 or key.shape[-2] > SHORT:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return torch.ops.phasemap.attend(query, key, value)


def _product(x: Tensor, w: Tensor) -> Tensor:
    """x [K, R, in], w [K, in, out] -> [K, R, out]"""
    return torch.ops.phasemap.stacked(x, w)


def _lookup(table: Tensor, rows: Tensor) -> Tensor:
    """table [K, R, D], rows [K, B] -> [K, B, D]"""
    return layers.gather(table, rows)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[K, B, H, T, d] -> [K, B, H, Tq, d]"""
    return layers.attend(*(one.transpose(2, 3) for one in (query, key, value))).transpose(2, 3)


# An operator for one trial, which vmap makes one for the stack. Operators, because torch.compile takes them as they
# are. torch.library.register_vmap would do for the rule, but asks for the size of the stack as a plain number, and
# torch.compile would then compile for each size (torch 2.13).
_LIBRARY = torch.library.Library("phasemap", "FRAGMENT")


def _define(signature: str, stacked: Callable[..., Tensor]) -> None:
    name = signature[: signature.index("(")]

    def alone(*tensors: Tensor) -> Tensor:
        return stacked(*(one[None] for one in tensors))[0]

    def of_a_stack(keys: Any, *tensors: Tensor) -> Tensor:
        level = retrieve_current_functorch_interpreter().level()
        parts = [torch._C._functorch._unwrap_batched(one, level) for one in tensors]
        size = next(one.shape[axis] for one, axis in parts if axis is not None)
        whole = [one.expand(size, *one.shape) if axis is None else one.movedim(axis, 0) for one, axis in parts]
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)):
            out = stacked(*whole)
        return torch._C._functorch._add_batch_dim(out, 0, level)

    _LIBRARY.define(signature)
    _LIBRARY.impl(name, alone, "CompositeImplicitAutograd")
    _LIBRARY.impl(name, of_a_stack, "FuncTorchBatched", with_keyset=True)


_define("rows(Tensor x, Tensor w) -> Tensor", _product)
_define("lookup(Tensor table, Tensor rows) -> Tensor", _lookup)
_define("attend(Tensor query, Tensor key, Tensor value) -> Tensor", _attend)

torch.library.define("phasemap::stacked", "(Tensor a, Tensor b) -> Tensor")


@torch.library.impl("phasemap::stacked", ("cpu", "cuda"))
def _stacked(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.phasemap.product(a, b, "fp32")


@torch.library.register_fake("phasemap::stacked")
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = ctx.saved_tensors
    left = torch.ops.phasemap.stacked(grad, b.mT) if ctx.needs_input_grad[0] else None
    right = torch.ops.phasemap.stacked(a.mT, grad) if ctx.needs_input_grad[1] else None
    return left, right


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


torch.library.register_autograd("phasemap::stacked", _backward, setup_context=_save)
