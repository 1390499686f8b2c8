"""What a user's module computes with while it runs as a stack: some of torch's layers, by the arithmetic of ours.

Under ``torch.vmap`` a layer of one model becomes operations of torch's own, some of which loop over the trials, fix the
size of the stack for torch.compile, or round a trial by its place in it. Linear layers, embeddings, attention and
activations are done for the whole stack here. What else rounds by place is found by ``rounds_by_place``.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from types import MethodType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phasemap.networks import layers
from phasemap.numerics.matmul import LINE

TAIL = 64  # numbers: whole vectors of every type and processor, by twos, as torch takes them
ACTIVATIONS = ("celu", "elu", "gelu", "mish", "sigmoid", "silu", "softplus")  # torch makes selu of elu
SAMPLE, PIECE, LOOKS = 768, 3, 8  # numbers an operator is tried on, all and so few at once; how often one is tried
FILLING = ContextVar("filling", default=True)  # activations up to whole vectors
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


See = Callable[[Any, tuple[Any, ...], dict[str, Any]], None]


@dataclass(frozen=True)
class _Vmap:
    """What torch's vmap is made of (a reach-in, docs/reach-ins.md)."""

    interpreter: Callable[[], Any]  # the innermost vmap, with its ``level()``
    unwrap: Callable[[Tensor, int], tuple[Tensor, int | None]]  # a tensor with the trials' axis, and where that is
    wrap: Callable[[Tensor, int, int], Tensor]  # hides that axis again
    below: Callable[[], AbstractContextManager[Any]]  # what is called inside knows no vmap
    watching: Callable[[See], AbstractContextManager[Any]]  # each operator that is called inside is shown first


class _Watching:
    """Not in a class of torch's, which would import its compiler at the first operator."""

    def __init__(self, see: See):
        super().__init__()
        self.see = see

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.see(operator, args, kwargs or {})
        return operator(*args, **(kwargs or {}))


@cache
def _vmap() -> _Vmap | None:
    """None where torch has moved one: a user's layers then stay torch's own, slower."""
    try:
        from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
        from torch.utils._python_dispatch import TorchDispatchMode

        functorch, keys = torch._C._functorch, torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)
        below = partial(torch._C._ExcludeDispatchKeyGuard, keys)
        tensors = functorch._unwrap_batched, functorch._add_batch_dim
    except (ImportError, AttributeError):
        return None

    class Watching(_Watching, TorchDispatchMode):
        pass

    return _Vmap(retrieve_current_functorch_interpreter, *tensors, below, Watching)


def _of_a_stack(library: torch.library.Library, name: str, stacked: Callable[..., Any]) -> None:
    """The batching rule: ``stacked`` gets all tensors with the trials' axis first."""
    vmap = _vmap()
    if vmap is None:
        return

    def rule(keys: Any, *given: Any, **options: Any) -> Any:
        level = vmap.interpreter().level()
        parts = [vmap.unwrap(one, level) for one in given if isinstance(one, Tensor)]
        sizes = [one.shape[axis] for one, axis in parts if axis is not None]
        size = sizes[0] if sizes else 1  # none: where the user's own vmap is within ours
        whole = iter(one.expand(size, *one.shape) if axis is None else one.movedim(axis, 0) for one, axis in parts)
        mask = options.get("attn_mask")
        if mask is not None:
            mask, axis = vmap.unwrap(mask, level)
            options["attn_mask"] = mask.expand(size, *mask.shape) if axis is None else mask.movedim(axis, 0)
        with vmap.below():
            out = stacked(*(next(whole) if isinstance(one, Tensor) else one for one in given), **options)
            if not sizes:
                return tuple(one[0] for one in out) if isinstance(out, tuple) else out[0]
        if isinstance(out, tuple):
            return tuple(vmap.wrap(one, 0, level) for one in out)
        return vmap.wrap(out, 0, level)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*[Oo]verrid")  # torch's own rule, where it has one
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


def _activation(name: str) -> Callable[..., Tensor]:
    """torch rounds the last numbers of a tensor, fewer than fill a vector, otherwise than the rest. Each trial's are
    filled up, so that none is among the last; forward and, since the reshaping has a gradient, backward."""
    plain = getattr(torch.ops.aten, name)

    def stacked(x: Tensor, *settings: Any, **options: Any) -> Tensor:
        if x.device.type != "cpu":
            return plain(x, *settings, **options)
        count = math.prod(x.shape[1:])
        over = -count % TAIL if FILLING.get() else 0
        if not over:
            return plain(x.reshape(-1), *settings, **options).view(x.shape)
        out = plain(F.pad(x.reshape(len(x), count), (0, over)).view(-1), *settings, **options)
        return out.view(len(x), count + over)[:, :count].reshape(x.shape)

    return stacked


for _name in ACTIVATIONS:
    _of_a_stack(_TORCHS, _name, _activation(_name))


def rounds_by_place(run: Callable[[], object], trials: int, compiled: bool) -> bool:
    """Whether what ``run`` does for a stack, on a CPU, has an operator that rounds a number by its place in a tensor.
    Each is tried on what it is given, for the few numbers whose places differ may show nothing in a whole run. Compiled
    steps leave out what activations are filled up with."""
    vmap = _vmap()
    if vmap is None:
        return True  # nothing is known
    seen = _Places(trials)
    before = FILLING.set(not compiled)
    try:
        with vmap.watching(seen.see):
            run()
    finally:
        FILLING.reset(before)
    return seen.found


class _Places:
    """Tries the operators that go element by element."""

    def __init__(self, trials: int):
        self.trials, self.found = trials, False
        self.looks: Counter[str] = Counter()

    def see(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.found or not _is_elementwise(operator) or self._has_no_tail(args):
            return
        key = f"{operator} {[one for one in args if not isinstance(one, Tensor)]} {kwargs}"
        self.looks[key] += 1
        self.found = self.looks[key] <= LOOKS and _rounds_otherwise(operator, args, kwargs)

    def _has_no_tail(self, args: tuple[Any, ...]) -> bool:
        """Whether the numbers are one trial's, or whole vectors in any stack. Several threads cut them elsewhere."""
        tensors = [one for one in args if isinstance(one, Tensor) and one.dim()]
        if not any(size % self.trials == 0 for one in tensors for size in one.shape):
            return True
        return torch.get_num_threads() == 1 and all(
            one.is_contiguous() and one.shape == tensors[0].shape and one.numel() % (self.trials * TAIL) == 0
            for one in tensors
        )


def _is_elementwise(operator: Any) -> bool:
    """By torch's mark, which some ways back and some that write in place lack: there by that of the way forth."""
    name = str(getattr(operator, "overloadpacket", "")).removeprefix("aten.")
    forth = getattr(torch.ops.aten, name.removesuffix("_").removesuffix("_backward"), None)
    return any(torch.Tag.pointwise in getattr(one, "tags", ()) for one in (operator, getattr(forth, "default", None)))


def _rounds_otherwise(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether numbers of those that it is given come out otherwise a few at a time."""
    places = [k for k, one in enumerate(args) if isinstance(one, Tensor) and one.dim()]
    given = torch.broadcast_tensors(*(args[k] for k in places))
    chosen = torch.linspace(0, given[0].numel() - 1, SAMPLE, dtype=torch.float64).long()
    some = [one.reshape(-1)[chosen] for one in given]
    options = {name: value for name, value in kwargs.items() if name != "memory_format"}  # there is one axis here

    def out(start: int, count: int) -> Any:
        mixed = list(args)
        for k, one in zip(places, some, strict=True):
            mixed[k] = one[start : start + count].clone()  # it may write in place
        return operator(*mixed, **options)

    whole, pieces = out(0, SAMPLE), torch.cat([out(start, PIECE) for start in range(0, SAMPLE, PIECE)])
    return bool(whole.is_floating_point()) and not torch.allclose(whole, pieces, 0.0, 0.0, equal_nan=True)


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
