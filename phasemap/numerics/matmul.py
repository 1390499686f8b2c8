"""The batched fp32 matrix product of a stack, one product per trial, with its gradient.

On AMD processors torch's own product (MKL) runs below the machine's best. Three are known here:
``openblas`` (the BLAS inside numpy's wheel: takes strided operands), ``onednn``
(inside torch's wheel, under a private name; for large matrices) and ``bmm``, torch's own. All are IEEE fp32. The
choice moves the last bits of a result, so it is made once on a machine and remembered (``chosen``); the environment
variable PHASEMAP_PRODUCT fixes it by hand. Whichever runs was shown to give a trial the same bits alone and in any
stack (``is_invariant``). On a GPU it is always ``torch.bmm``.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from phasemap.numerics import processor

Candidate = Callable[[Tensor, Tensor], Tensor]

ONEDNN_PAYS = 2**22  # multiply-adds of one trial's product
LINE = 16  # fp32 numbers in 64 bytes: a cache line, the widest vector, and what torch aligns its memory to
MARGIN = 1.25  # times faster, for a product to be taken before one that stands earlier in CANDIDATES
ROUNDS = 25
VERSION = 3  # of the proof and of what is remembered


@np.errstate(all="ignore")  # a diverging trial is recorded as such, not warned about
def openblas(a: Tensor, b: Tensor) -> Tensor:
    """a [K, M, I] @ b [K, I, N] by the BLAS of numpy."""
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy()))


def onednn(a: Tensor, b: Tensor) -> Tensor:
    """a [K, M, I] @ b [K, I, N] by oneDNN. It has no batched form, so it is called once per trial, and
    left to ``openblas`` where a product is too small to repay the calls, or in float64."""
    if a.dtype != torch.float32 or a.shape[1] * a.shape[2] * b.shape[2] < ONEDNN_PAYS:
        return openblas(a, b)
    if not (b[0].is_contiguous() or b[0].mT.is_contiguous()):
        b = b.contiguous()  # matrices with gaps between rows fall to its reference loops, a hundred times slower
    linear = _onednn_linear()
    return torch.stack([linear(x, w.t(), None, "none", [], "") for x, w in zip(a, b, strict=True)])


def _onednn_linear() -> Callable[..., Tensor]:
    """oneDNN's product inside torch's wheel (a reach-in, docs/reach-ins.md). Where it has moved, ``ranked`` leaves out
    ``onednn``: the others are sound."""
    return torch.ops.mkldnn._linear_pointwise


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """a [K, M, I] @ b [K, I, N] by torch. MKL picks its loops, and so the order of its sums, by where each matrix
    of operands and result begins within 64 bytes: all are laid out so that every row begins on such a line."""
    columns = b.shape[2]
    wide = F.pad(b, (0, -columns % LINE)) if columns % LINE else b
    return torch.bmm(aligned(a), aligned(wide))[..., :columns].contiguous()


def aligned(x: Tensor) -> Tensor:
    """x [K, R, C], copied unless all its rows (or all its columns) begin on 64 bytes."""
    if x.stride(2) != 1 and x.stride(1) == 1:
        return aligned(x.mT).mT
    columns = x.shape[2]
    if x.stride(2) == 1 and not any(place % LINE for place in (x.data_ptr() // x.itemsize, x.stride(0), x.stride(1))):
        return x
    rows = x.new_empty(x.shape[0], x.shape[1], columns + -columns % LINE)[..., :columns]
    return rows.copy_(x)


CANDIDATES: dict[str, Candidate] = {"openblas": openblas, "onednn": onednn, "bmm": bmm}  # the preferred first


@lru_cache(maxsize=1)
def chosen() -> str:
    """Name of this machine's product: set in PHASEMAP_PRODUCT, remembered, or decided now.

    Raises:
        ValueError: PHASEMAP_PRODUCT names no product, or one whose numbers depend on the stack here; or all do.
    """
    requested = os.environ.get("PHASEMAP_PRODUCT")
    if requested and requested not in CANDIDATES:
        raise ValueError(f"PHASEMAP_PRODUCT: must be one of {', '.join(CANDIDATES)}, got {requested!r}; choose one")
    processor.limit_threads()
    proved = _proved()
    if not proved:
        raise ValueError(
            f"matrix product: must give a trial the same numbers in every stack, got none that does on this machine "
            f"with {torch.get_num_threads()} threads; set OMP_NUM_THREADS=1"
        )
    if requested and requested not in proved:
        raise ValueError(
            f"PHASEMAP_PRODUCT: must give a trial the same numbers in every stack, got {requested!r}, which does not "
            f"here; choose {' or '.join(proved)}, or unset it"
        )
    return requested or proved[0]


def _proved() -> list[str]:
    """The products that may run on this machine, its choice first; remembered for each number of threads."""
    file = memory()
    if not file.exists():
        own = file.with_suffix(f".{os.getpid()}")
        own.write_text(" ".join(ranked(CANDIDATES)))
        with contextlib.suppress(FileExistsError):
            os.link(own, file)  # the first process to finish decides for all
        own.unlink()
    return file.read_text().split()


def memory() -> Path:
    """Where this machine's products are remembered, for all that moves their sums."""
    cpu = f"{hashlib.sha256(processor.name().encode()).hexdigest()[:8]}-{torch.get_num_threads()}threads"
    return machine_file(f"product{VERSION}-{platform.node()}-{cpu}-torch{torch.__version__}-numpy{np.__version__}")


def machine_file(name: str) -> Path:
    """Where something measured once on this machine is remembered; its folder exists and takes files. Where the cache
    takes none (no home, another's, a full quota), a folder of this user's below the temporary one."""
    places = (_cache, lambda: Path(tempfile.gettempdir()) / f"phasemap-{os.getuid()}")
    for place in places:
        with contextlib.suppress(OSError, RuntimeError):
            folder = place()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.getuid():
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(bytes(4096))
                return folder / name
    return Path(tempfile.mkdtemp(prefix="phasemap-")) / name


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phasemap"


def ranked(candidates: dict[str, Candidate]) -> list[str]:
    """Names of those that agree with float64 and are invariant: this machine's choice, then the rest in their order."""
    sound = {name: candidate for name, candidate in candidates.items() if _is_sound(candidate)}
    if not sound:
        return []
    choice = preferred(_seconds(sound))
    return [choice, *(name for name in sound if name != choice)]


def preferred(seconds: dict[str, float]) -> str:
    """The first that no other beats by MARGIN. A plain minimum would be a coin flip between products of one speed,
    and two machines of one sort would record numbers that differ in their last bits."""
    return next(name for name, spent in seconds.items() if spent <= MARGIN * min(seconds.values()))


def _is_sound(candidate: Candidate) -> bool:
    try:
        return is_invariant(candidate) and all(_agrees(candidate, a, b) for a, b in _layer())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False  # not in this build of torch


def _seconds(candidates: dict[str, Candidate]) -> dict[str, float]:
    """Shortest time of a layer's three products, as in training. Only the shortest is the same on a busy machine, and
    only where freed memory is kept: ``onednn``, which frees the most, is else at times faster and at times slower than
    the others, by where in memory the process ends."""
    processor.keep_memory()
    spent: dict[str, list[float]] = {name: [] for name in candidates}
    pairs = _layer()
    for _, (name, candidate) in itertools.product(range(ROUNDS), candidates.items()):
        start = time.perf_counter()
        for a, b in pairs:
            candidate(a, b)
        spent[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in spent.items()}


def _layer() -> tuple[tuple[Tensor, Tensor], ...]:
    generator = torch.Generator().manual_seed(0)
    x, w, g = (torch.randn(4, *shape, generator=generator) for shape in ((512, 128), (128, 128), (512, 128)))
    return _products(x, w, g)


def _products(x: Tensor, w: Tensor, g: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Operands of the output and of both gradients: x [K, M, I], weights w [K, I, N], slope g [K, M, N]."""
    return (x, w), (g, w.mT), (x.mT, g)


def _agrees(candidate: Candidate, a: Tensor, b: Tensor) -> bool:
    exact = torch.bmm(a.double(), b.double())
    return bool((candidate(a, b) - exact).norm() < 2e-6 * exact.norm())


SIZES = ((1, 16, 48), (20, 16, 2), (49, 5, 11), (32, 16, 48), (121, 16, 11), (300, 128, 113))  # (M, I, N)
# Trials, numbers from a line to the first, whether a gap makes the distance of two trials odd, and how far apart rows
# are, in rows. Odd distances take a stack of 16 through every alignment; columns of a wider matrix have rows apart.
LAYOUTS = (
    *((1, start, False, 1) for start in range(LINE)),
    *((trials, 5, True, 1) for trials in (2, 3, 7)),
    *((16, 0, odd, apart) for odd, apart in ((False, 1), (True, 1), (True, 3))),
)


def is_invariant(candidate: Candidate) -> bool:
    """Whether a trial's product is the same to the last bit alone and in stacks, wherever its matrices lie.

    In a stack weights are pieces of the rows of a flat [K, P] tensor, so they begin anywhere; activations lie densely
    one after another. A stack here holds one trial again and again, and every copy must come out as the first alone.
    """
    generator = torch.Generator().manual_seed(0)
    kinds = [(size, torch.float32) for size in SIZES] + [(size, torch.float64) for size in SIZES[:-1]]
    for (m, i, n), dtype in kinds:
        parts = tuple(torch.randn(shape, generator=generator, dtype=dtype) for shape in ((m, i), (i, n), (m, n)))
        alone = [candidate(a, b) for a, b in _proved_products(*(part[None] for part in parts))]
        for stack in _stacks(*parts):
            for (a, b), expected in zip(_proved_products(*stack), alone, strict=True):
                if not torch.equal(candidate(a, b), expected.expand(len(a), -1, -1)):
                    return False
    return True


def _proved_products(x: Tensor, w: Tensor, g: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Those of training, and one of a matrix by itself, which a BLAS may do by a routine of its own."""
    return (*_products(x, w, g), (w.mT, w))


def _stacks(x: Tensor, w: Tensor, g: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The three matrices in every layout: the weights alone, activations being dense; then all of them."""
    for layout in LAYOUTS:
        dense, laid = (layout[0], 0, False, 1), _laid(w, *layout)
        yield _laid(x, *dense), laid, _laid(g, *dense)
        yield _laid(x, *layout), laid, _laid(g, *layout)


def _laid(matrix: Tensor, trials: int, start: int, odd: bool, apart: int) -> Tensor:
    """Copies [trials, R, C] of a matrix [R, C] in one of LAYOUTS."""
    rows, columns = matrix.shape
    pitch = rows * columns * apart
    pitch += odd and 1 - pitch % 2
    room = matrix.new_empty(start + trials * pitch)
    return room.as_strided((trials, rows, columns), (pitch, columns * apart, 1), start).copy_(matrix)


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
    if a.device.type == "cpu":
        return CANDIDATES[chosen()](rounded(a, precision), rounded(b, precision))
    return _by_hardware(a, b, precision)


def _by_hardware(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """As a GPU's matrix units do it: they round the operands themselves, and sum in fp32."""
    if precision == "bf16":
        return torch.bmm(a.bfloat16(), b.bfloat16(), out_dtype=torch.float32)
    with _fp32_as("tf32" if precision == "tf32" else "ieee"):
        return torch.bmm(a, b)


@contextlib.contextmanager
def _fp32_as(mode: str) -> Iterator[None]:
    """How the GPU's products read fp32; full fp32 is the rule, also where the user's program says otherwise."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = mode
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


# A bare operator: one that torch.library.custom_op makes costs three times as much per call.
torch.library.define("phasemap::product", "(Tensor a, Tensor b, str precision) -> Tensor")
torch.library.impl("phasemap::product", ("cpu", "cuda"), _product)


@torch.library.register_fake("phasemap::product")  # type: ignore[untyped-decorator]
def _(a: Tensor, b: Tensor, precision: str) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])


def _multiply(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """One opaque step to torch.compile, a plain call elsewhere."""
    if torch.compiler.is_compiling():
        return torch.ops.phasemap.product(a, b, precision)
    return _product(a, b, precision)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, precision: str) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.precision = precision
        return _multiply(a, b, precision)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b = ctx.saved_tensors
        twice = torch.is_grad_enabled() and not torch.compiler.is_compiling()  # the gradient is differentiated too
        multiply = product if twice else _multiply
        da = multiply(grad, b.mT, ctx.precision) if ctx.needs_input_grad[0] else None
        db = multiply(a.mT, grad, ctx.precision) if ctx.needs_input_grad[1] else None
        return da, db, None


def product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """a [K, M, I] @ b [K, I, N] -> [K, M, N] with fp32 sums, one product per trial."""
    return _Product.apply(a, b, precision)  # type: ignore[no-untyped-call]


class _Operand(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, precision: str) -> Tensor:
        return rounded(x, precision)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Outcome(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, precision: str) -> Tensor:
        ctx.precision = precision
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return rounded(grad, ctx.precision), None


def operand(x: Tensor, precision: str) -> Tensor:
    """An operand of a product that is written out as a sum: rounded, with its gradient passed on."""
    return x if precision == "fp32" else _Operand.apply(x, precision)  # type: ignore[no-untyped-call]


def outcome(x: Tensor, precision: str) -> Tensor:
    """What such a sum gives: its gradient is an operand of the products of the way back."""
    return x if precision == "fp32" else _Outcome.apply(x, precision)  # type: ignore[no-untyped-call]


def batched(a: Tensor, b: Tensor) -> Tensor:
    """a [..., M, I] @ b [..., I, N] -> [..., M, N], fp32 or float64 and without gradient: for what is measured on a
    stack. torch's own ``@`` would round a trial by its place in the stack."""
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (x.expand(*lead, *x.shape[-2:]).flatten(0, -3) for x in (a, b))
    return _product(a, b, "fp32").unflatten(0, lead)


def eigenvalues(symmetric: Tensor) -> Tensor:
    """Of positive semidefinite matrices [K, D, D]: [K, D], falling, none below 0. Padded to whole lines, so that LAPACK
    finds every trial's matrix at one alignment; the zeros this adds are the smallest."""
    size = symmetric.shape[1]
    padded = F.pad(symmetric, (0, -size % LINE, 0, -size % LINE))
    return torch.linalg.eigvalsh(padded).flip(1).clamp(min=0)[:, :size]
