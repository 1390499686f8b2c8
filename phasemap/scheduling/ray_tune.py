"""Ray Tune runs the stacks: one Tune trial is one stack, on one CPU or a share of one GPU.

What is finished is MLflow's to say, what is left is ``queue.py``'s; Tune is asked only to place
stacks on a changing cluster and to tell when one ends or dies. Its own output, loggers, retries and
restore are not used.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasemap.scheduling import cluster  # first: it sets what Ray reads when imported  # isort: skip
import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from phasemap.plan.keep import NOTHING, Keep
from phasemap.plan.stack import Report, Slots, Stack
from phasemap.plan.trial import Shape
from phasemap.scheduling.cluster import Resources
from phasemap.scheduling.queue import Work
from phasemap.scheduling.worker import StackRun
from phasemap.training.checkpoint import Storage
from phasemap.words import count

SPARE = 1  # stacks waiting beyond a device's slots, so that no slot waits for the driver
LOOK_EVERY = 5.0  # seconds between two looks at the cluster and at silent workers


class NodeLost(RuntimeError):
    """The Ray node that the driver talks through has died: nothing runs any more, and Tune would wait without end."""


@dataclass(frozen=True, repr=False)
class Job:
    """What an actor needs to run a stack. Tune writes the repr of a config everywhere: it is short."""

    stack: Stack
    storage: str
    device: str
    every: float
    keep: Keep = NOTHING

    def __repr__(self) -> str:
        return count(len(self.stack.trials), "trial")


class StackTrainable(tune.Trainable):
    """A stack inside a Ray actor; the actor is kept for the next stack."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        job: Job = new_config["job"]
        self.run = StackRun(job.stack, Storage(job.storage), job.device.partition(" ")[0], job.every, job.keep)
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
    """Gives a free actor a waiting stack of the shape it has compiled, if there is one. Takes back a stack that waits
    for a device that is gone: Tune would wait for it without end."""

    shape: Shape | None = None  # of the stack that ended last
    devices: Container[str] = ()  # that have slots

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's, without types
        self.errors: dict[str, str] = {}  # Tune trial id -> what Ray says of its end

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        written = trial.error_file  # trial.get_error() would look where it is copied to later
        self.errors[trial.trial_id] = Path(written).read_text() if written and os.path.exists(written) else ""

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        self.shape = trial.config["job"].stack.shape

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        waiting = []
        for trial in [one for one in tune_controller.get_trials() if one.status == TuneTrial.PENDING]:
            if trial.config["job"].device in self.devices:
                waiting.append(trial)
            else:
                tune_controller.stop_trial(trial)
        same = [trial for trial in waiting if trial.config["job"].stack.shape == self.shape]
        return next(iter(same or waiting), None)


class WorkSearcher(Searcher):
    """Hands stacks to Tune and news back to the work."""

    def __init__(self, work: Work, storage: str, every: float, wanted: Resources, device: str, keep: Keep = NOTHING):
        super().__init__()
        self.keep = keep
        self.work, self.storage, self.every, self.wanted, self.device = work, storage, every, wanted, device
        self.order = SameShapeFirst()
        self.stacks: dict[str, str] = {}  # Tune trial id -> stack id
        self.devices: dict[str, str] = {}  # Tune trial id -> device, of stacks in flight
        self.silent: dict[str, str] = {}  # Tune trial id -> why its worker was killed
        self._count()
        self.node = ray.get_runtime_context().get_node_id()

    def suggest(self, trial_id: str) -> Any:
        asked = ((device, self.work.next(self.order.shape, device)) for device in self._free_devices())
        device, stack = next((offer for offer in asked if offer[1] is not None), ("", None))
        if stack is None:
            return Searcher.FINISHED if self.work.finished() else None
        self.stacks[trial_id], self.devices[trial_id] = stack.id, device
        return {"job": Job(stack, self.storage, device, self.every, self.keep)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.work.report(self.stacks[trial_id], result["report"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        device, stack = self.devices.pop(trial_id, ""), self.stacks.pop(trial_id)
        if result is None and not error and device not in self.slots.by_device:
            self.work.returned(stack)
            return
        if error or result is None:
            self.work.died(stack, self.silent.pop(trial_id, "") or _cause(self.order.errors.pop(trial_id, "")))
            return
        self.work.report(stack, result["report"])
        if result["failure"]:
            self.work.died(stack, result["failure"])
        else:
            self.work.ended(stack)

    def _free_devices(self) -> list[str]:
        """Devices with a free slot; the cluster is counted again every few seconds, for nodes come
        and go."""
        if time.monotonic() - self.counted > LOOK_EVERY:
            before = self.slots
            self._count()
            if not cluster.is_alive(self.node):
                raise NodeLost
            if (self.slots.cpu, self.slots.gpus) != (before.cpu, before.gpus):
                self.work.say(_change(before, self.slots))
        busy = list(self.devices.values())
        return [device for device, count in self.slots.by_device.items() if busy.count(device) < count + SPARE]

    def _count(self) -> None:
        self.slots, self.counted = cluster.count_slots(self.wanted, self.device), time.monotonic()
        self.order.devices = self.slots.by_device
        self.work.offer(self.slots.count, self.slots.gpus)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that never comes

    def save(self, checkpoint_path: str) -> None:
        """Nothing: MLflow remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: MLflow remembers."""


class Silent(TrialProgressCallback):
    """Stands in the place of Tune's printer, which prints a line for a stack that was taken back, at verbose=0 too."""

    def on_trial_complete(self, *told: Any, **info: Any) -> None:
        pass


class Watch(tune.Callback):
    """Kills workers that hang or were stopped: their stacks run again. Ends the run when the work must stop."""

    def __init__(self, searcher: WorkSearcher):
        self.searcher, self.work, self.looked = searcher, searcher.work, time.monotonic()
        self.fault: Exception | None = None

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        try:
            self.work.check()
        except Exception as fault:
            self.fault = fault
            raise
        waited = time.monotonic() - self.looked
        if waited < LOOK_EVERY:
            return
        self.looked = time.monotonic()
        alive = (one for one in trials if one.status == TuneTrial.RUNNING and one.trial_id in self.searcher.stacks)
        running = {self.searcher.stacks[one.trial_id]: one for one in alive}
        # a driver that itself stood still has heard nobody: that is nobody's fault
        for stack, silence in self.work.overdue(set(running), min(waited, 2 * LOOK_EVERY)):
            trial = running[stack]
            self.searcher.silent[trial.trial_id] = f"its worker sent no report for {silence:.0f} s and was killed"
            if trial.temporary_state.ray_actor:
                ray.kill(trial.temporary_state.ray_actor)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as the searcher's


def _cause(error: str) -> str:
    """In a line, why a worker is gone: an import that failed in it, for example."""
    named = re.findall(r"^\s*((?:\w+\.)*\w+Error: .+)$", error, re.MULTILINE)
    return f"its worker process died: {named[-1]}" if named else "its worker process died"


def _change(before: Slots, now: Slots) -> str:
    """What a person should know of nodes that came or went."""
    slots, were = now.count, before.count
    what = "a node joined" if slots > were else "a node is gone" if slots < were else "nodes have changed"
    return f"{what}: slots {were} -> {slots}" + ("" if slots else ", waiting for a node")


def run(
    work: Work, storage: str, every: float, wanted: Resources, device: str, state: Path, keep: Keep = NOTHING
) -> None:
    """Runs the work to its end.

    Raises:
        KeyboardInterrupt: it was interrupted; stacks in flight have checkpointed.
        NodeLost: ``cluster.connect_again``, and run what is left.
    """
    searcher = WorkSearcher(work, storage, every, wanted, device, keep)
    watch = Watch(searcher)

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([cluster.stack_resources(wanted, config["job"].device)])

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
            callbacks=[watch, Silent()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        tuner.fit()
    except Exception as error:  # of a dying node, perhaps: the cluster knows in a while
        if watch.fault:
            raise watch.fault from None
        end = time.monotonic() + 30
        while cluster.is_alive(searcher.node):
            if time.monotonic() > end:
                raise
            time.sleep(1)
        raise NodeLost from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)  # Tune leaves its own behind when it raises
    if not work.finished():
        raise KeyboardInterrupt
