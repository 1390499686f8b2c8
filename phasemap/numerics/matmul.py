"""The batched fp32 matrix product of a stack, one product per trial, with its gradient.

On AMD processors torch's own product (MKL) runs below the machine's best. Three are known here:
``openblas`` (the BLAS inside numpy's wheel: takes strided operands), ``onednn``
(inside torch's wheel, under a private name; for large matrices) and ``bmm``. All are IEEE fp32. Which one runs on a
machine is measured once and remembered, because the choice moves the last bits of a result; the
environment variable PHASEMAP_PRODUCT fixes it by hand. On a GPU it is always ``bmm``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ONEDNN_PAYS = 2**22  # multiply-adds of one trial's product


@np.errstate(all="ignore")  # a diverging trial is recorded as such, not warned about
def openblas(a: Tensor, b: Tensor) -> Tensor:
    """a [K, M, I] @ b [K, I, N] by the BLAS of numpy."""
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy()))


def onednn(a: Tensor, b: Tensor) -> Tensor:
    """a [K, M, I] @ b [K, I, N] by oneDNN. It has no batched form, so it is called once per trial, and
    left to ``openblas`` where a product is too small to repay the calls."""
    if a.shape[1] * a.shape[2] * b.shape[2] < ONEDNN_PAYS:
        return openblas(a, b)
    if not (b[0].is_contiguous() or b[0].mT.is_contiguous()):
        b = b.contiguous()  # matrices with gaps between rows fall to its reference loops, a hundred times slower
    linear = torch.ops.mkldnn._linear_pointwise
    return torch.stack([linear(x, w.t(), None, "none", [], "") for x, w in zip(a, b, strict=True)])


CANDIDATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"openblas": openblas, "onednn": onednn, "bmm": torch.bmm}


@lru_cache(maxsize=1)
def chosen() -> str:
    """Name of this machine's product: said in PHASEMAP_PRODUCT, remembered, or measured now."""
    said = os.environ.get("PHASEMAP_PRODUCT")
    if said:
        if said not in CANDIDATES:
            raise ValueError(f"PHASEMAP_PRODUCT: must be one of {', '.join(CANDIDATES)}, got {said!r}; choose one")
        return said
    cpu = f"{platform.machine()}-{torch.backends.cpu.get_cpu_capability()}"
    memory = machine_file(f"product-{platform.node()}-{cpu}-torch{torch.__version__}-numpy{np.__version__}")
    if not memory.exists():
        own = memory.with_suffix(f".{os.getpid()}")
        own.write_text(_fastest())
        with contextlib.suppress(FileExistsError):
            os.link(own, memory)  # the first process to finish decides for all
        own.unlink()
    return memory.read_text()


def machine_file(name: str) -> Path:
    """Where something measured once on this machine is remembered; its folder exists."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "phasemap"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _fastest() -> str:
    """The quickest of those that agree with float64, over the three products of a layer."""
    x, w, g = torch.randn(4, 512, 128), torch.randn(4, 128, 128), torch.randn(4, 512, 128)
    pairs = ((x, w), (g, w.mT), (x.mT, g))
    times = {}
    for name, candidate in CANDIDATES.items():
        try:
            if all(_agrees(candidate, a, b) for a, b in pairs):
                times[name] = min(_seconds(candidate, pairs) for _ in range(5))
        except (RuntimeError, AttributeError, NotImplementedError):
            continue  # not in this build of torch
    return min(times, key=lambda name: times[name])


def _agrees(candidate: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> bool:
    exact = torch.bmm(a.double(), b.double())
    return bool((candidate(a, b) - exact).norm() < 2e-6 * exact.norm())


def _seconds(candidate: Callable[[Tensor, Tensor], Tensor], pairs: tuple) -> float:
    start = time.perf_counter()
    for a, b in pairs * 5:
        candidate(a, b)
    return time.perf_counter() - start


def rounded(x: Tensor, precision: str) -> Tensor:
    """An operand as the precision's matrix units read it: fp32, tf32 (10 bits of mantissa) or bf16
    (7 bits), rounded to nearest even. Sums stay fp32, as they do in those units."""
    if precision == "fp32":
        return x
    if precision == "bf16":
        return x.bfloat16().float()
    bits = x.contiguous().view(torch.int32)
    near = ((bits + 0xFFF + (bits >> 13 & 1)) & -0x2000).view(torch.float32)
    return torch.where(x.isnan(), x, near)  # the carry would turn some NaNs into 0


def _product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    candidate = CANDIDATES[chosen()] if a.device.type == "cpu" else torch.bmm
    return candidate(rounded(a, precision), rounded(b, precision))


# A bare operator: one that torch.library.custom_op makes costs three times as much per call.
torch.library.define("phasemap::product", "(Tensor a, Tensor b, str precision) -> Tensor")
torch.library.impl("phasemap::product", ("cpu", "cuda"), _product)


@torch.library.register_fake("phasemap::product")
def _(a: Tensor, b: Tensor, precision: str) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])


def _multiply(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """One opaque step to torch.compile, a plain call elsewhere."""
    if torch.compiler.is_compiling():
        return torch.ops.phasemap.product(a, b, precision)
    return _product(a, b, precision)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, precision: str) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.precision = precision
        return _multiply(a, b, precision)

    @staticmethod
    def backward(ctx, grad: Tensor):
        a, b = ctx.saved_tensors
        da = _multiply(grad, b.mT, ctx.precision) if ctx.needs_input_grad[0] else None
        db = _multiply(a.mT, grad, ctx.precision) if ctx.needs_input_grad[1] else None
        return da, db, None


def product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """a [K, M, I] @ b [K, I, N] -> [K, M, N] with fp32 sums, one product per trial."""
    return _Product.apply(a, b, precision)
