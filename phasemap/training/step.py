"""One training step of a stack, eager or compiled.

Compiled and eager steps differ in the last bits; each is the same in every stack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType

import torch
from torch import Tensor

from phasemap.numerics import random_streams
from phasemap.plan.trial import Shape
from phasemap.training.update import Rates, by_group, clamp, clipped, orthogonal, slope

Step = Callable[..., None]


@lru_cache(maxsize=64)
def training_step(shape: Shape, names: tuple[str, ...], device: torch.device, compiled: bool) -> Step:
    """The training step of a shape, for stacks of any size. ``names``: of the rates that the shape needs besides the
    usual."""
    network, layout = shape.network, shape.network.layout
    optimizer = shape.rule.on(layout)
    loss, across, kept = shape.loss, shape.orthogonal_gradient, len(optimizer.state)
    table, count = random_streams.quantiles(device) if "noise" in names else None, layout.size

    def gradient_step(flat: Tensor, *rest: Tensor) -> None:
        state, (inputs, labels, weights, step_size, decay, root, *more) = rest[:kept], rest[kept:]
        rate = Rates(step_size, decay, root, dict(zip(names, more, strict=True)))
        point = flat.detach()
        if table is not None:
            noise = random_streams.normals(rate.more["noise"], count, table)
            point = point.addcmul(noise, rate.more["weight_noise"])
        point = point.requires_grad_()
        masks = (random_streams.Dropout(network.dropout, rate.more["dropout"]),) if network.dropout else ()
        logits = network.logits(layout.split(point), inputs, *masks)
        downhill = slope(loss, logits.detach(), labels, weights, rate.more.get("temperature"))
        (gradient,) = torch.autograd.grad(logits, point, downhill)
        with torch.no_grad():
            if "gradient_clip" in rate.more:
                gradient = clipped(gradient, rate.more["gradient_clip"])
            if across:
                gradient = orthogonal(layout, flat, gradient)
            optimizer.update(flat, *state, gradient, by_group(layout, rate, optimizer.decoupled))
            if "norm_clamp" in rate.more:
                clamp(flat, rate.more["norm_clamp"])

    users = any(part.kind == "model" and part.code for part in shape.parts)
    return _compiled(gradient_step, kept, not users) if compiled else gradient_step


def refusals() -> tuple[type[Exception], ...]:
    """What torch's compiler raises where it cannot compile."""
    return torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError


def compiler_is_known() -> bool:
    """Whether torch's compiler has the private names that compiled steps need (a reach-in, docs/reach-ins.md), which
    are set here. Else steps are taken uncompiled: slower, and noted on the results."""
    try:
        torch._dynamo.config.trace_autograd_ops = True
        # keyed by the whole graph, the product's gradient included: a shape known to this machine compiles in half
        # the time
        torch._functorch.config.autograd_cache_allow_custom_autograd_functions = True
        torch._inductor.config.cpp.vec_isa_ok = True  # else every process tries the instruction sets: 0.6-4 s
        names = torch._dynamo.mark_dynamic, torch._dynamo.maybe_mark_dynamic, torch._dynamo.config.recompile_limit
        return bool(names and refusals() and torch.compiler.keep_portable_guards_unsafe)
    except AttributeError:
        return False


def _compiled(step: Step, kept: int, for_any_size: bool) -> Step:
    """The step compiled twice: for one trial, and for any number of them; for batches of any length.

    torch keeps its compiled versions by code object, and before every call compares all the step can see with what it
    saw. A code object of its own spares it all but the tensors. What may vary is named before the first call and all
    else is fixed: left to itself, torch lets vary what it saw vary in the shapes before, and a trial's last bits and
    speed then depend on what its process trained earlier. Some layers of a user's network (an embedding under vmap)
    fix the size: it is compiled again for each, and not refused.

    Args:
        kept: number of the optimizer's tensors, which stand between the weights and the batch.
    """
    own = FunctionType(step.__code__.replace(), step.__globals__, step.__name__, None, step.__closure__)
    only_tensors = torch.compiler.keep_portable_guards_unsafe
    fast = torch.compile(own, fullgraph=True, dynamic=False, options={"guard_filter_fn": only_tensors})
    may_vary = torch._dynamo.maybe_mark_dynamic
    by_trials = torch._dynamo.mark_dynamic if for_any_size else may_vary
    if not for_any_size:
        torch._dynamo.config.recompile_limit = 64
    sizes: set[int] = set()

    def compiled_step(*tensors: Tensor) -> None:
        size = len(tensors[0])
        if size not in sizes:
            sizes.add(size)
            for part in tensors if size > 1 else ():
                if len(part) == size:
                    by_trials(part, 0)
            for part in tensors[1 + kept : 4 + kept]:  # inputs, labels, weights: [K, B, ...]
                may_vary(part, 1)
        fast(*tensors)

    return compiled_step
