"""The Ray cluster under a sweep: one of our own on this machine, or one that is there; its slots, its storage.

Whoever reaches Ray's ports can run code as the sweep's user. The cluster started here listens on loopback alone and
wants a random token, which only this command and what it starts know.
"""

# ruff: noqa: E402 - Ray reads its environment when imported
from __future__ import annotations

import gc
import logging
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

for variable, value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_AIR_NEW_OUTPUT", "0"),
    ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"),
    ("TUNE_RESULT_BUFFER_LENGTH", "0"),
    ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
    ("TUNE_GLOBAL_CHECKPOINT_S", "3600"),  # Tune's own state: never read again
):
    os.environ.setdefault(variable, value)

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from phasemap.numerics import matmul, processor
from phasemap.plan.stack import Slots
from phasemap.scheduling import cores
from phasemap.words import first_line

TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
KIND = "accelerator_type:"  # of a node's resources: Ray's name for the model of its GPUs
LONGEST = 40  # bytes of a temporary folder's path: Ray puts sockets below it, whose paths may have 107

_before: dict[str, str | None] = {}  # the user's own token, while a cluster of ours runs


@dataclass(frozen=True)
class Resources:
    """What one stack takes. ``gpus`` is a share; 0 where the cluster has none."""

    cpus: float
    gpus: float


def connect(address: str | None, wanted: Resources) -> None:
    """Joins the cluster at ``address``, or starts Ray on this machine. ``leave`` ends it.

    Raises:
        ValueError: no cluster answers there.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    _quiet_deaths()
    threads = str(max(1, int(wanted.cpus)))
    variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    variables |= processor.waiting(int(threads))
    variables["PYTHONPATH"] = _import_path(address)
    variables |= {name: value for name, value in os.environ.items() if name.startswith("PHASEMAP_")}
    if address:
        variables["PHASEMAP_PRODUCT"] = matmul.chosen()  # one for all nodes: it moves the last bits
    quiet = {"logging_level": "error", "log_to_driver": False, "runtime_env": {"env_vars": variables}}
    with _own_signals():
        _join(address, quiet) if address else _start(quiet)


def leave() -> None:
    """Disconnects; a cluster that was started here ends."""
    with _nothing_collected():
        ray.shutdown()
    if _before:
        _restore_token()
        _read_token()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Ray ends the process, with status 1, where the garbage collector of another thread frees a reference to one of
    its objects at the moment that it shuts down."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def connect_again(address: str | None, wanted: Resources) -> None:
    """After a lost node: goes through another node of this machine, or starts Ray again where it was ours.

    Raises:
        ConnectionError: there is no other node.
    """
    try:
        leave()
        if address:
            check_address(address)
        connect(address, wanted)
    except Exception as error:  # Ray raises many kinds here
        raise ConnectionError(f"{error}; then the same command continues") from error


def _import_path(address: str | None) -> str:
    """PYTHONPATH of the workers: phasemap, then what is there. Ray puts the node's own value for ``${...}``."""
    root = str(Path(__file__).parents[2])
    return f"{root}{os.pathsep}${{PYTHONPATH}}" if address or os.environ.get("PYTHONPATH") else root


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray sets a handler of SIGTERM that prints its stack and checkpoints nothing: ours is put back."""
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # elsewhere Ray sets none
            signal.signal(signal.SIGTERM, terminate)


def _start(quiet: dict[str, Any]) -> None:
    _before.update({name: os.environ.get(name) for name in TOKEN})
    os.environ |= dict(zip(TOKEN, ("token", secrets.token_hex(32)), strict=True))
    if not _read_token():
        _restore_token()  # Ray does as the user's environment says, and makes a token of its own if it says none
    folder: dict[str, Any] = {} if len(os.fsencode(tempfile.gettempdir())) <= LONGEST else {"_temp_dir": "/tmp/ray"}
    with _on_loopback(), _in_own_groups():
        # without the word Ray would join any cluster that somebody started on this machine
        ray.init(
            "local",
            num_cpus=cores.lent(),
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            **folder,
            **quiet,
        )


def _restore_token() -> None:
    for name, value in _before.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    _before.clear()


# Four reach-ins (docs/reach-ins.md): Ray has no public word for what they do.


def _quiet_deaths() -> None:
    """Ray prints a paragraph about every dead worker and node; the work says it in a line. Else: both are read."""
    with suppress(ImportError):
        from ray._private import worker

        if hasattr(worker, "print_to_stdstream"):
            worker.print_to_stdstream = lambda data, ignore_prefix: None


def _read_token() -> bool:
    """Ray reads RAY_AUTH_MODE and RAY_AUTH_TOKEN once in a process, unless asked again. False where it cannot be."""
    try:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
    except (ImportError, AttributeError):
        return False
    return True


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray turns 127.0.0.1 into the machine's address and listens on all, unless it is built for no cluster. Else: it
    listens on all, and the token alone keeps others out."""
    try:
        from ray._private import ray_constants

        before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    except (ImportError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _in_own_groups() -> Iterator[None]:
    """A signal to the command's process group, as ``timeout`` sends it, ends the command and not its Ray, through which
    stacks are first told to checkpoint. Else: Ray is gone at once, and ends the driver a minute later."""
    try:
        from ray._private import services

        module: Any = services
        before = module.ConsolePopen
    except (ImportError, AttributeError):
        yield
        return
    if sys.platform == "linux":  # elsewhere Ray ends what it started by its group
        module.ConsolePopen = partial(before, process_group=0)
    try:
        yield
    finally:
        module.ConsolePopen = before


def _join(address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises many kinds here
        raise ValueError(
            f"--address {address}: a Ray cluster must answer there, got "
            f"{first_line(error)[:200]}; start it with `ray start --head`, and give this machine the "
            "cluster's token (~/.ray/auth_token or RAY_AUTH_TOKEN) if it has one"
        ) from error


def check_address(address: str) -> None:
    """Raises ValueError unless something listens there: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # auto, local, or a form that Ray explains itself
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ValueError(
            f"--address {address}: a Ray cluster must answer there, got {error}; start it with `ray start --head`, "
            "or correct the address"
        ) from error


def alive_nodes() -> int:
    """Nodes of the cluster that are up."""
    return sum(node["Alive"] for node in ray.nodes())


def count_slots(wanted: Resources, device: str) -> Slots:
    """How many stacks the cluster holds now."""
    return slots_of([node["Resources"] for node in ray.nodes() if node["Alive"]], wanted, device)


def slots_of(nodes: Iterable[Mapping[str, float]], wanted: Resources, device: str) -> Slots:
    """How many stacks nodes of these resources hold. A stack lies on one node, and a share below 1 on one GPU."""
    able = [node for node in nodes if node.get("CPU")]
    cpu, gpus = 0, Counter[str]()
    for node in able:
        most = _floor(node["CPU"] / wanted.cpus)
        cuda = min(most, _gpu_stacks(node.get("GPU", 0.0), wanted.gpus)) if device != "cpu" else 0
        if cuda:
            gpus[f"cuda {_kind(node)}".strip()] += cuda
        cpu += most - cuda if device != "cuda" else 0
    memory = min((node.get("memory", math.inf) / (node["CPU"] / wanted.cpus) for node in able), default=math.inf)
    return Slots(cpu, dict(gpus), memory)


def stack_resources(wanted: Resources, device: str) -> dict[str, float]:
    """What Ray must set aside for a stack on a device."""
    if device == "cpu":
        return {"CPU": wanted.cpus}
    kind = device.removeprefix("cuda").strip()
    return {"CPU": wanted.cpus, "GPU": wanted.gpus} | ({KIND + kind: 0.001} if kind else {})


def _kind(node: Mapping[str, float]) -> str:
    """The GPU's model as Ray reads it, "H100" for example."""
    return next((name.removeprefix(KIND) for name in sorted(node) if name.startswith(KIND)), "")


def _gpu_stacks(gpus: float, share: float) -> int:
    if not share:
        return 0
    return _floor(gpus) * _floor(1 / share) if share < 1 else _floor(gpus / share)


def _floor(value: float) -> int:
    return int(value + 1e-9)


def is_alive(node_id: str) -> bool:
    """Whether a node is up."""
    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)


def gpus() -> float:
    """GPUs of the cluster."""
    return float(ray.cluster_resources().get("GPU", 0))


def resources() -> str:
    """Cores and GPUs of the cluster, for a person."""
    return f"{ray.cluster_resources().get('CPU', 0):g} cores and {gpus():g} GPUs"


def check_shared(place: str) -> None:
    """Raises ValueError unless every node that trains reads and writes there. Only a path needs it: an object store is
    one for all."""
    if "://" in place:
        return
    mark = Path(place) / f"driver-{os.getpid()}.mark"
    mark.write_text("phasemap")
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        looks = [_sees.options(scheduling_strategy=_on(node)).remote(str(mark)) for node in nodes]
        blind = [node for node, look in zip(nodes, looks, strict=True) if not _answer(look)]
    finally:
        mark.unlink(missing_ok=True)
    if blind:
        hosts = ", ".join(str(node["NodeManagerHostname"]) for node in blind)
        raise ValueError(
            f"--storage {place}: must be shared by all nodes, {hosts} cannot see or write it; give a folder on a "
            "shared disk, or an object store such as s3://bucket/folder"
        )


@ray.remote(num_cpus=0, max_retries=1)
def _sees(path: str) -> bool:
    """Whether a node can read and write there."""
    return os.path.exists(path) and os.access(os.path.dirname(path), os.W_OK)


def _on(node: dict[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _answer(look: ray.ObjectRef[bool]) -> bool:
    try:
        return bool(ray.get(look, timeout=60))
    except ray.exceptions.RayError:
        return True  # the node went away
