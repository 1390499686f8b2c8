"""What a user's module computes with while it runs as a stack: some of torch's layers, by the arithmetic of ours.

Under ``torch.vmap`` a layer of one model becomes operations of torch's own, some of which loop over the trials, fix the
size of the stack for torch.compile, or round a trial by its place in it. Linear layers, embeddings and attention are
done for the whole stack here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from types import MethodType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phasemap.networks import layers
from phasemap.numerics.matmul import LINE

KNOWN = "_known"  # a linear layer's attribute: its product, where it was made elsewhere (first_layer.py)


def adopt(module: nn.Module) -> None:
    """Gives the module's linear layers and embeddings a forward of ours; unusual ones keep torch's, and all of them
    where torch has moved what a rule for a stack needs."""
    if _vmap() is None:
        return
    for one in module.modules():
        if is_linear(one):
            one.forward = MethodType(_linear, one)  # type: ignore[method-assign]
        elif is_embedding(one):
            one.forward = MethodType(_embedding, one)  # type: ignore[method-assign]


def is_linear(one: nn.Module) -> TypeGuard[nn.Linear]:
    """Torch's own, and no subclass: that may do something else."""
    return type(one) is nn.Linear


def is_embedding(one: nn.Module) -> TypeGuard[nn.Embedding]:
    """Torch's own, without an option that changes what is looked up or its gradient."""
    if type(one) is not nn.Embedding:
        return False
    return one.padding_idx is None and one.max_norm is None and not (one.scale_grad_by_freq or one.sparse)


def _linear(self: nn.Linear, input: Tensor) -> Tensor:  # named as in torch, for calls by keyword
    out = getattr(self, KNOWN, None)
    if out is None:
        out = torch.ops.phasemap.rows(input.reshape(-1, input.shape[-1]), self.weight.mT)
        out = out.reshape(*input.shape[:-1], out.shape[-1])
    return out if self.bias is None else out + self.bias


def _embedding(self: nn.Embedding, input: Tensor) -> Tensor:
    return torch.ops.phasemap.lookup(self.weight, input.reshape(-1)).reshape(*input.shape, -1)


def _product(x: Tensor, w: Tensor) -> Tensor:
    """x [K, R, in], w [K, in, out] -> [K, R, out]"""
    return torch.ops.phasemap.stacked(x, w)


def _lookup(table: Tensor, rows: Tensor) -> Tensor:
    """table [K, R, D], rows [K, B] -> [K, B, D]"""
    return layers.gather(table, rows)


# An operator for one trial, which vmap makes one for the stack. Operators, because torch.compile takes them as they
# are. torch.library.register_vmap would do for the rule, but asks for the size of the stack as a plain number, and
# torch.compile would then compile for each size (torch 2.13).
_LIBRARY = torch.library.Library("phasemap", "FRAGMENT")
_TORCHS = torch.library.Library("aten", "IMPL")


@dataclass(frozen=True)
class _Vmap:
    """What torch's vmap is made of (a reach-in, docs/reach-ins.md)."""

    interpreter: Callable[[], Any]  # the innermost vmap, with its ``level()``
    unwrap: Callable[[Tensor, int], tuple[Tensor, int | None]]  # a tensor with the trials' axis, and where that is
    wrap: Callable[[Tensor, int, int], Tensor]  # hides that axis again
    below: Callable[[], AbstractContextManager[Any]]  # what is called inside knows no vmap


@cache
def _vmap() -> _Vmap | None:
    """None where torch has moved one: a user's layers then stay torch's own, slower."""
    try:
        from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter

        functorch, keys = torch._C._functorch, torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)
        below = partial(torch._C._ExcludeDispatchKeyGuard, keys)
        return _Vmap(retrieve_current_functorch_interpreter, functorch._unwrap_batched, functorch._add_batch_dim, below)
    except (ImportError, AttributeError):
        return None


def _of_a_stack(library: torch.library.Library, name: str, stacked: Callable[..., Any]) -> None:
    """The batching rule: ``stacked`` gets all tensors with the trials' axis first."""
    vmap = _vmap()
    if vmap is None:
        return

    def rule(keys: Any, *given: Any, **options: Any) -> Any:
        level = vmap.interpreter().level()
        parts = [vmap.unwrap(one, level) for one in given if isinstance(one, Tensor)]
        size = next(one.shape[axis] for one, axis in parts if axis is not None)
        whole = iter(one.expand(size, *one.shape) if axis is None else one.movedim(axis, 0) for one, axis in parts)
        mask = options.get("attn_mask")
        if mask is not None:
            mask, axis = vmap.unwrap(mask, level)
            options["attn_mask"] = mask.expand(size, *mask.shape) if axis is None else mask.movedim(axis, 0)
        with vmap.below():
            out = stacked(*(next(whole) if isinstance(one, Tensor) else one for one in given), **options)
        if isinstance(out, tuple):
            return tuple(vmap.wrap(one, 0, level) for one in out)
        return vmap.wrap(out, 0, level)

    library.impl(name, rule, "FuncTorchBatched", with_keyset=True)


def _define(signature: str, stacked: Callable[..., Tensor]) -> None:
    name = signature[: signature.index("(")]

    def alone(*tensors: Tensor) -> Tensor:
        return stacked(*(one[None] for one in tensors))[0]

    _LIBRARY.define(signature)
    _LIBRARY.impl(name, alone, "CompositeImplicitAutograd")
    _of_a_stack(_LIBRARY, name, stacked)


_define("rows(Tensor x, Tensor w) -> Tensor", _product)
_define("lookup(Tensor table, Tensor rows) -> Tensor", _lookup)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """query [K, B, H, Tq, d], key and value [K, B, H, T, d] -> [K, B, H, Tq, d], and sums that only torch's own way
    back reads. torch has no rule for it (2.13): it calls one trial after another and warns."""
    unused = query.new_empty(query.shape[:4])
    if attn_mask is None and not is_causal and scale is None:
        query, key, value = (one.transpose(2, 3) for one in (query, key, value))
        return layers.attend(query, key, value).transpose(2, 3), unused
    size = query.shape[-1]
    scale = size**-0.5 if scale is None else scale
    query, key, value = (F.pad(one, (0, -size % LINE)).flatten(0, 1) for one in (query, key, value))
    mask = attn_mask
    if mask is not None:  # [K, ..., Tq, T]
        mask = mask.unflatten(0, (-1, *(1 for _ in range(5 - mask.dim()))))
        mask = mask.expand(*unused.shape, key.shape[-2]).flatten(0, 1)
    out = F.scaled_dot_product_attention(query, key, value, mask, 0.0, is_causal, scale=scale)
    return out[..., :size].unflatten(0, unused.shape[:2]), unused


_of_a_stack(_TORCHS, "_scaled_dot_product_flash_attention_for_cpu", _attention)

torch.library.define("phasemap::stacked", "(Tensor a, Tensor b) -> Tensor")


@torch.library.impl("phasemap::stacked", ("cpu", "cuda"))
def _stacked(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.phasemap.product(a, b, "fp32")


@torch.library.register_fake("phasemap::stacked")  # type: ignore[untyped-decorator]
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
