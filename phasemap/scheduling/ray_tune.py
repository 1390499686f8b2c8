"""Ray Tune runs the stacks: one Tune trial is one stack, on one CPU or a share of one GPU.

What is finished is MLflow's to say, what is left is ``queue.py``'s; Tune is asked only to place
stacks on a changing cluster and to tell when one ends or dies. Its own output, loggers, retries and
restore are not used.
"""

# ruff: noqa: E402 - Ray reads its environment when imported
from __future__ import annotations

import logging
import math
import os
import signal
import socket
import time
from dataclasses import dataclass
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
from ray import tune
from ray._private import worker as ray_worker
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from phasemap.numerics import matmul
from phasemap.plan.stack import Report, Slots, Stack
from phasemap.plan.trial import Shape
from phasemap.scheduling.queue import Work
from phasemap.scheduling.worker import StackRun
from phasemap.training.checkpoint import Storage

SPARE = 1  # stacks waiting beyond a device's slots, so that no slot waits for the driver


class NodeLost(RuntimeError):
    """The Ray node that the driver talks through has died: nothing runs any more, and Tune would wait for ever."""


@dataclass(frozen=True)
class Resources:
    """What one stack takes. ``gpus`` is a share; 0 where the cluster has none."""

    cpus: float
    gpus: float


@dataclass(frozen=True, repr=False)
class Job:
    """What an actor needs to run a stack. Tune writes the repr of a config everywhere: it is short."""

    stack: Stack
    storage: str
    device: str
    every: float

    def __repr__(self) -> str:
        return f"{len(self.stack.trials)} trials"


class StackTrainable(tune.Trainable):
    """A stack inside a Ray actor; the actor is kept for the next stack."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        job: Job = new_config["job"]
        self.run = StackRun(job.stack, Storage(job.storage), job.device, job.every)
        self.reports = iter(self.run)
        return True

    def step(self) -> dict[str, Any]:
        try:
            report = next(self.reports, None)
        except Exception as error:  # a fault of the stack, not of the actor: tell it and stay alive
            import traceback

            return {"report": Report(), "failure": f"{traceback.format_exc()}\n{error!r}", "done": True}
        return {"report": report or Report(), "failure": "", "done": report is None}

    def cleanup(self) -> None:
        self.run.checkpoint()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        raise NotImplementedError("stacks checkpoint by themselves")

    def load_checkpoint(self, checkpoint: Any) -> None:
        raise NotImplementedError("stacks resume by themselves")


class SameShapeFirst(FIFOScheduler):
    """Gives a free actor a waiting stack of the shape it has compiled, if there is one."""

    shape: Shape | None = None  # of the stack that ended last

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        self.shape = trial.config["job"].stack.shape

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        waiting = [trial for trial in tune_controller.get_trials() if trial.status == TuneTrial.PENDING]
        same = [trial for trial in waiting if trial.config["job"].stack.shape == self.shape]
        return next(iter(same or waiting), None)


class WorkSearcher(Searcher):
    """Hands stacks to Tune and news back to the work."""

    def __init__(self, work: Work, storage: str, every: float, wanted: Resources, device: str):
        super().__init__()
        self.work, self.storage, self.every, self.wanted, self.device = work, storage, every, wanted, device
        self.order = SameShapeFirst()
        self.stacks: dict[str, str] = {}  # Tune trial id -> stack id
        self.devices: dict[str, str] = {}  # Tune trial id -> device, of stacks in flight
        self.slots, self.counted = count_slots(wanted, device), time.monotonic()
        self.work.offer(self.slots.cpu + self.slots.cuda, self.slots.cuda)
        self.node = ray.get_runtime_context().get_node_id()

    def suggest(self, trial_id: str) -> Any:
        asked = ((device, self.work.next(self.order.shape, device)) for device in self._free_devices())
        device, stack = next((found for found in asked if found[1] is not None), ("", None))
        if stack is None:
            return Searcher.FINISHED if self.work.finished() else None
        self.stacks[trial_id], self.devices[trial_id] = stack.id, device
        return {"job": Job(stack, self.storage, device, self.every)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.work.report(self.stacks[trial_id], result["report"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.devices.pop(trial_id, None)
        stack = self.stacks.pop(trial_id)
        if error or result is None:
            self.work.died(stack, "its worker process died")
            return
        self.work.report(stack, result["report"])
        if result["failure"]:
            self.work.died(stack, result["failure"])
        else:
            self.work.ended(stack)

    def _free_devices(self) -> list[str]:
        """Devices with a free slot; the cluster is counted again every few seconds, for nodes come
        and go."""
        if time.monotonic() - self.counted > 5:
            before, self.slots, self.counted = self.slots, count_slots(self.wanted, self.device), time.monotonic()
            if not _is_alive(self.node):
                raise NodeLost
            if (self.slots.cpu, self.slots.cuda) != (before.cpu, before.cuda):
                self.work.say(_change(before, self.slots))
                self.work.offer(self.slots.cpu + self.slots.cuda, self.slots.cuda)
        busy, slots = list(self.devices.values()), {"cuda": self.slots.cuda, "cpu": self.slots.cpu}
        return [device for device, count in slots.items() if count and busy.count(device) < count + SPARE]

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that never comes

    def save(self, checkpoint_path: str) -> None:
        """Nothing: MLflow remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: MLflow remembers."""


def _change(before: Slots, now: Slots) -> str:
    """What a person should know of nodes that came or went."""
    slots, were = now.cpu + now.cuda, before.cpu + before.cuda
    what = "a node joined" if slots > were else "a node is gone" if slots < were else "nodes have changed"
    return f"{what}: slots {were} -> {slots}" + ("" if slots else ", waiting for a node")


def connect(address: str | None, wanted: Resources) -> None:
    """Joins the cluster at ``address``, or starts Ray on this machine.

    Raises:
        ValueError: no cluster answers there.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Ray prints a paragraph about every dead worker and node, and has no switch for it; the work says
    # it in a line.
    ray_worker.print_to_stdstream = lambda data, ignore_prefix: None
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    root = str(Path(__file__).parents[2])
    threads = str(max(1, int(wanted.cpus)))
    variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    variables["PYTHONPATH"] = root
    variables |= {name: said for name, said in os.environ.items() if name.startswith("PHASEMAP_")}
    quiet["runtime_env"] = {"env_vars": variables}
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _join(address, quiet, variables)
    finally:
        signal.signal(signal.SIGTERM, terminate)  # Ray sets its own, which prints its stack and checkpoints nothing


def connect_again(address: str | None, wanted: Resources) -> None:
    """After NodeLost: goes through another node of this machine, or starts Ray again where it was ours.

    Raises:
        ConnectionError: there is no other node.
    """
    try:
        ray.shutdown()
        if address:
            check_address(address)
        connect(address, wanted)
    except Exception as error:  # Ray raises many kinds here
        raise ConnectionError(f"{error}; then the same command continues") from error


def _join(address: str | None, quiet: dict[str, Any], variables: dict[str, str]) -> None:
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a private cluster on loopback
        # without the word Ray would join any cluster that somebody started on this machine
        ray.init("local", include_dashboard=False, object_store_memory=100 * 2**20, **quiet)
        return
    variables["PHASEMAP_PRODUCT"] = matmul.chosen()  # one for all nodes: it moves the last bits
    try:
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises many kinds here
        raise ValueError(
            f"--address {address}: a Ray cluster must answer there, got {type(error).__name__}: "
            f"{str(error).splitlines()[0][:200]}; start it with `ray start --head`, and give this machine the "
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
    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    cuda = int(gpus / wanted.gpus + 1e-9) if wanted.gpus and device != "cpu" else 0
    cuda = min(cuda, int(cpus / wanted.cpus))
    cpu = int((cpus - cuda * wanted.cpus) / wanted.cpus + 1e-9) if device != "cuda" else 0
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    memory = min((node.get("memory", math.inf) / (node["CPU"] / wanted.cpus) for node in nodes), default=math.inf)
    return Slots(cpu, cuda, memory)


def _is_alive(node_id: str) -> bool:
    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)


def check_storage(place: str, shared: bool) -> None:
    """Raises ValueError unless this machine, and every other that trains if it is ``shared``, reads and writes there.

    Only a path needs it: an object store is one for all.
    """
    if "://" in place:
        return
    mark = Path(place) / f"driver-{os.getpid()}.mark"
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("phasemap")
    except OSError as error:
        raise ValueError(f"--storage {place}: must be writable, got {error}; choose another folder") from error
    try:
        nodes = [node for node in ray.nodes() if shared and node["Alive"] and node["Resources"].get("CPU")]
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


def _answer(look: ray.ObjectRef) -> bool:
    try:
        return bool(ray.get(look, timeout=60))
    except ray.exceptions.RayError:
        return True  # the node went away


def run(work: Work, storage: str, every: float, wanted: Resources, device: str, state: Path) -> None:
    """Runs the work to its end.

    Raises:
        KeyboardInterrupt: it was interrupted; stacks in flight have checkpointed.
        NodeLost: ``connect_again``, and run what is left.
    """
    searcher = WorkSearcher(work, storage, every, wanted, device)

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        share = {"GPU": wanted.gpus} if config["job"].device == "cuda" else {}
        return tune.PlacementGroupFactory([{"CPU": wanted.cpus, **share}])

    tuner = tune.Tuner(
        tune.with_resources(StackTrainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=searcher.order,
            num_samples=-1,
            max_concurrent_trials=10_000,  # the searcher itself holds back: the cluster may grow
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=str(state),
            name="tune",
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        tuner.fit()
    except Exception as error:  # of a dying node, perhaps: the cluster knows in a while
        end = time.monotonic() + 30
        while _is_alive(searcher.node):
            if time.monotonic() > end:
                raise
            time.sleep(1)
        raise NodeLost from error
    finally:
        signal.signal(signal.SIGINT, interrupt)  # Tune leaves its own behind when it raises
    if not work.finished():
        raise KeyboardInterrupt
