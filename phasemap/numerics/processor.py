"""What of the processor moves the last bits of a sum, and how many of its threads and how much memory a process holds.
torch is loaded where it is needed: the number of threads is checked before anything else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

MODEL = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU variant", "CPU part")  # in Linux' list
CHOOSES = re.compile(r"(OPENBLAS|MKL|ONEDNN|DNNL|ATEN)_(?!.*(NUM_THREADS|VERBOSE))")  # environment variables


def name() -> str:
    """By what the libraries choose their loops, and so the order of sums: the widest vectors, the processor's maker,
    family and model, OpenBLAS's name of its loops, the environment variables that choose others, and the threads where
    there are several."""
    threads = asked_threads()
    return _loops() + (f" {threads} threads" if threads > 1 else "")


@lru_cache(maxsize=1)
def _loops() -> str:
    import torch  # and with it numpy, whose BLAS is asked below

    told = dict(re.findall(r"^([^\t:]+?)\s*: *(.*)$", _processors(), re.MULTILINE)[::-1])  # the first processor's
    model = " ".join(told[name] for name in MODEL if name in told) or platform.processor() or platform.machine()
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_info

        model = " ".join([model, *sorted({library.get("architecture", "") for library in threadpool_info()} - {""})])
    asked = [f"{name}={value}" for name, value in sorted(os.environ.items()) if CHOOSES.match(name) and value]
    return " ".join([torch.backends.cpu.get_cpu_capability(), model, *asked])


def _processors() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


def asked_threads() -> int:
    """The first number of OMP_NUM_THREADS, which may be a list, one for each level of nested loops; one if it is unset.

    Raises:
        ValueError: it does not begin with a number of threads.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").strip()
    first = asked.partition(",")[0].strip() if asked else "1"
    if not (first.isascii() and first.isdigit() and int(first)):
        raise ValueError(
            f"OMP_NUM_THREADS: must be a number of threads, or several with commas between them, got {asked!r}; "
            "set it to 1, or unset it"
        )
    return int(first)


def let_waiting_threads_yield() -> None:
    """torch and numpy's BLAS have threads of their own. Where those of the one wait by turning idle on every core,
    those of the other cannot run: a small network's step takes 20 to 60 times as long (2 threads, 2 cores). torch's
    read how to wait once, when it is loaded.

    Raises:
        ValueError: as ``asked_threads``.
    """
    os.environ.update(waiting(asked_threads()))


def waiting(threads: int) -> dict[str, str]:
    """The environment variables by which so many threads yield where they wait; what is set already stays."""
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")} if threads > 1 else {}


def limit_threads() -> None:
    """``asked_threads`` for torch and for numpy's BLAS: the number moves sums, and so it must not hang on which of the
    two is called first."""
    import torch

    threads = asked_threads()
    torch.set_num_threads(threads)
    with contextlib.suppress(ImportError):  # not needed on a GPU machine
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")


@contextlib.contextmanager
def threads_restored() -> Iterator[None]:
    """Gives the caller's torch and numpy back the threads that they had before."""
    import torch

    before = torch.get_num_threads()
    with contextlib.ExitStack() as after:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits

            after.enter_context(threadpool_limits(None, user_api="blas"))
        after.callback(torch.set_num_threads, before)
        yield


def keep_memory() -> None:
    """Freed memory stays with the process: glibc otherwise hands each large tensor back to the kernel, and pays for its
    pages again at the next step."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        libc = ctypes.CDLL(None)
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # mmap_max, trim and top pad
            libc.mallopt(option, value)
