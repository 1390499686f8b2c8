"""A search space being run, from its first trial to its figures.

Search space -> trials -> stacks -> training -> record -> figures. Imports what a step needs when the
step comes: a dry run loads neither torch nor Ray nor MLflow.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasemap.command import signals, terminal
from phasemap.command.dry_run import check_probes, listed, warn
from phasemap.command.figures import analysis
from phasemap.command.options import Options
from phasemap.fields import Fault
from phasemap.plan.asked import asked
from phasemap.plan.keep import NOTHING, Keep
from phasemap.plan.space import Space
from phasemap.plan.stack import Plan, Slots
from phasemap.plan.trial import Trial
from phasemap.words import count

if TYPE_CHECKING:
    from phasemap.maps.explorer import Explorer
    from phasemap.record.writer import Recorder
    from phasemap.scheduling.queue import Work

OK, FAILURES, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
FAULTS = 3  # of probes and rules, listed at the end


def execute(name: str, space: Space, options: Options, source: str, file: str) -> int:
    """Runs what is missing of a sweep and draws it; returns its exit status.

    Args:
        source: the text of the search space, for the record.
        file: where it stands.

    Raises:
        Fault: a broken rule.
        ValueError: a store, a device, a cluster or a folder that cannot be used.
    """
    check_device(options)
    trials = listed(space)
    check_probes(space, trials)
    warn(trials)
    keep = Keep(options.keep_weights, options.keep_state)
    if faults := keep.faults(trials):
        raise Fault(faults)
    if not options.local and (address := _address(options)):
        from phasemap.scheduling import cluster

        cluster.check_address(address)
    with terminal.Doing(f"{name}: opening the record"):
        from phasemap.record.writer import Away, Lost

        opened = _recorder(name, space, options, source, file)
    try:
        # however it ends, the recorder closes the parent run and lets go of the sweep
        with signals.heeded(), opened as recorder:
            sweep = Sweep(name, space, trials, recorder, keep)
            sweep.ask_again(options.retrain)
            status = _train(sweep, options) if sweep.remains() else OK
            return _finish(sweep, options, status)
    except (Away, Lost) as error:
        print(error, file=sys.stderr)
        return FAILURES


def check_device(options: Options) -> None:
    """Raises ValueError where stacks are to train on a GPU of this machine that torch cannot use. Of a cluster that
    runs already, the nodes decide."""
    if options.device != "cuda" or (not options.local and _address(options)):
        return
    from phasemap.training.train import without_gpu

    if got := without_gpu():
        raise ValueError(
            f"--device: cuda needs a GPU that torch can use, got {got}; install a build of torch for it, or leave "
            "--device out"
        )


@dataclass
class Sweep:
    """A search space being run. ``trials`` of a sampler grows as it asks."""

    name: str
    space: Space
    trials: list[Trial]
    recorder: Recorder
    keep: Keep = NOTHING

    def __post_init__(self) -> None:
        if self.space.sampler != "grid":
            self.trials = self.recorder.asked(self.space)
        self.missing = [trial for trial in self.trials if trial.id not in self.recorder.done]

    def ask_again(self, retrain: bool) -> None:
        """Recorded trials without the weights or states that are asked for: says so, or puts them to those missing."""
        done = self.recorder.done
        without = [one for one in self.trials if one.id in done and not done[one.id].has_kept(self.keep, one.steps)]
        if without and retrain:
            self.missing += without
            print(f"{self.name}: {count(len(without), 'recorded trial')} to train again, for what is to be kept")
        elif without:
            those = count(len(without), "trial")
            print(f"{self.name}: {those} recorded without what is to be kept; --retrain trains them again")

    def remains(self) -> bool:
        """Whether there is anything to run; says so if not."""
        self._name_changed_code()
        wanted = len(self.trials) if self.space.sampler == "grid" else self.space.trials_wanted
        self.recorder.planned(wanted)
        if self.missing or len(self.trials) < wanted:
            return True
        which = f"all {len(self.trials)} trials are" if len(self.trials) > 1 else "its trial is"
        print(f"{self.name}: {which} recorded; nothing to do")
        return False

    def _name_changed_code(self) -> None:
        """Counts the recorded trials whose code has changed since."""
        now = self.space.code
        for part, code in now.items():
            left_out = sum(done.code.get(part, code) != code for done in self.recorder.done.values())
            if left_out:
                outdated, part = count(left_out, "trial"), part.partition(" ")[2]
                print(f"{self.name}: {outdated} recorded under other code of {part} and left out")

    def explorer(self, plan: Plan) -> Explorer:
        """What chooses the points that are still to be asked for."""
        from phasemap.maps.explorer import Explorer

        recorder = self.recorder

        def phase_of(trial: str) -> str | None:
            if trial in recorder.failed:
                return "failed"
            return recorder.done[trial].phase if trial in recorder.done else None

        def value_of(trial: str) -> float | None:
            return recorder.done[trial].outcomes.get(self.space.objective) if trial in recorder.done else None

        return Explorer(self.space, plan, phase_of, value_of, recorder.write_down, self.trials)


def _recorder(name: str, space: Space, options: Options, source: str, file: str) -> Recorder:
    from phasemap.record import client, writer

    uri = client.absolute(options.tracking_uri or client.default_uri())
    try:
        tags = {"phasemap.code": json.dumps(space.code), "phasemap.phases": json.dumps(space.phase_names)}
        tags |= _values(space)
        return writer.Recorder(name, uri, space.axes, source, tags=tags, asks={space.file: asked(space)}, file=file)
    except writer.Held as held:
        raise ValueError(str(held)) from held


def _values(space: Space) -> dict[str, str]:
    """Tags of the parent run by which sweeps are compared. No params: a sweep may be widened, they never change."""
    axes = {name: ", ".join(map(terminal.short, values)) for name, values in space.grid.items()}
    axes |= {name: str(value) for name, value in space.distributions.items()}
    fixed = {name: terminal.short(value) for name, value in space.values.items() if name not in axes}
    kinds = {"axis": axes, "fixed": fixed}
    return {f"{kind}.{name}": text[:1_000] for kind, texts in kinds.items() for name, text in texts.items()}


def _train(sweep: Sweep, options: Options) -> int:
    """Runs what is missing, by Ray or in this process. Returns the exit status."""
    storage = _storage(sweep, options)
    try:
        return _trained(sweep, options, storage)
    finally:
        _leave(options)


def _trained(sweep: Sweep, options: Options, storage: str) -> int:
    with terminal.Doing(f"{sweep.name}: {_beginning(options)}"):
        options, why = _usable(options)
        work = _prepared(sweep, options, storage)
    if why and _counts_gpus():
        print(f"{sweep.name}: Ray counts a GPU that torch cannot use ({why}); stacks train on the CPU")
    print(_opening(sweep, work), flush=True)
    try:
        with terminal.Screen(lambda: _status(sweep, work)) as display:
            work.say = sweep.recorder.say = display.say
            sweep.recorder.claim.news = lambda: asdict(_pace(sweep, work)) | {"failed": work.trials_failed}
            with _refreshing(sweep, options, display.say):
                _run_all(work, options, storage, sweep.keep)
            _record_all(sweep, display.say)
    # printed when the screen has drawn its last: it would be erased
    except KeyboardInterrupt:
        print("interrupted: progress is kept, the same command continues", file=sys.stderr)
        return INTERRUPTED
    except ConnectionError as error:
        print(error, file=sys.stderr)
        return FAILURES
    elapsed = time.monotonic() - work.started
    trained = f"{count(work.trial_steps, 'trial-step')} in {terminal.duration(elapsed)}"
    print(f"{trained}; slots {work.busy():.0%} busy with training")
    return FAILURES if work.trials_failed else OK


def _usable(options: Options) -> tuple[Options, str]:
    """Where the machine itself may choose, a GPU that torch cannot use is none; and why."""
    if options.device != "auto" or options.local or _address(options):
        return options, ""
    from phasemap.scheduling.worker import ON_CPU
    from phasemap.training.train import without_gpu

    why = "" if os.environ.get(ON_CPU) else without_gpu()
    return (replace(options, device="cpu"), why) if why else (options, "")


def _counts_gpus() -> bool:
    from phasemap.scheduling import cluster

    return cluster.gpus() > 0


def _beginning(options: Options) -> str:
    if options.local:
        return "getting ready"
    return "joining Ray" if _address(options) else "starting Ray"


def _prepared(sweep: Sweep, options: Options, storage: str) -> Work:
    """The work, with the slots there are."""
    _check_storage(storage)
    _bring_sources(sweep, storage)
    alone = Slots(0, {"cuda": 1}) if options.device == "cuda" else Slots(1)
    slots = alone if options.local else _cluster(options, storage)
    return _work(sweep, options, slots, storage)


def _storage(sweep: Sweep, options: Options) -> str:
    """A folder of this sweep's own: its parent run's id tells it from all others, in any store."""
    place = options.storage or "phasemap_data"
    base = place.rstrip("/") if "://" in place else str(Path(place).absolute())
    return f"{base}/{sweep.name}-{sweep.recorder.parent[:12]}"


def _check_storage(storage: str) -> None:
    from phasemap.training.checkpoint import Storage

    Storage(storage).check()


def _bring_sources(sweep: Sweep, storage: str) -> None:
    """Puts the weights that trials start from where workers read them.

    Raises:
        ValueError: they were not kept, or are of another network; all faults at once.
    """
    trials = [trial for trial in sweep.missing if trial.start_from]
    asked = [trial.start_from for trial in trials]
    if sweep.space.sampler != "grid":  # its trials are chosen later
        asked += [*sweep.space.grid.get("start_from", []), sweep.space.fixed.get("start_from", "")]
    if not any(asked):
        return
    from phasemap.record import reader
    from phasemap.training import weights
    from phasemap.training.checkpoint import Storage

    own, faults = Storage(storage), []
    for name in dict.fromkeys(filter(None, asked)):
        try:
            if not weights.is_brought(own, name):
                kept = reader.kept(name.partition("@")[0], sweep.recorder.uri)
                weights.bring(own, name, Storage(kept.weights))
        except ValueError as error:
            faults.append(f"start_from: {error}")
    if not faults:
        faults = [fault for trial in trials if (fault := weights.source_fault(own, trial))]
    if faults:
        raise ValueError("\n".join(dict.fromkeys(faults)))


def _refreshing(sweep: Sweep, options: Options, say: Callable[[str], None]) -> AbstractContextManager[Any]:
    """Refreshes the figures of a long sweep, unless none are wanted."""
    from phasemap.command.refresh import Refresh

    return Refresh(sweep.recorder, _out(sweep, options), say) if options.figures else nullcontext()


def _out(sweep: Sweep, options: Options) -> Path:
    return Path(options.out or Path("figures") / sweep.name)


def _cluster(options: Options, storage: str) -> Slots:
    """Joins or starts Ray; how many stacks it runs at once."""
    with signals.uninterrupted():
        from phasemap.scheduling import cluster

    address, wanted = _address(options), cluster.Resources(options.cpus_per_stack, options.gpus_per_stack)
    cluster.connect(address, wanted)
    if address and not options.storage and cluster.alive_nodes() > 1:
        raise ValueError(
            "--storage: a cluster of several nodes needs a place for checkpoints that all share, got none; "
            "give a folder on a shared disk, or an object store such as s3://bucket/folder"
        )
    if address:
        cluster.check_shared(storage)
    slots = cluster.count_slots(wanted, options.device)
    if options.device == "cuda" and not cluster.gpus():
        raise ValueError(
            f"--device: cuda needs a cluster with a GPU, got one of {cluster.resources()}; join a node that has one, "
            "or leave --device out"
        )
    if not address and not slots.count:
        raise ValueError(
            f"--cpus-per-stack, --gpus-per-stack, --device: must leave room for a stack, got {wanted.cpus:g} cores, "
            f"{wanted.gpus:g} GPUs, {options.device} on a machine that lends {cluster.resources()}; lower them"
        )
    return slots


def _leave(options: Options) -> None:
    """Disconnects from Ray, however the training ended."""
    if not options.local:
        from phasemap.scheduling import cluster

        cluster.leave()


def _work(sweep: Sweep, options: Options, slots: Slots, storage: str) -> Work:
    from phasemap.scheduling import cutting
    from phasemap.scheduling.queue import Work
    from phasemap.training.checkpoint import Storage

    recorder, store = sweep.recorder, Storage(storage)
    work = Work(
        record=lambda result: recorder.result(result, lambda: store.remove(result.trial.id)),
        check=recorder.check,
        live=recorder.live,
        fail=recorder.failure,
        say=print,
        slots=slots.count,
        gpus=slots.gpus,
    )
    plan = _plan(slots, options)
    work.cutting = cutting.planned(plan)
    work.cutting.put(sweep.missing)
    if sweep.space.sampler != "grid":
        work.more = sweep.explorer(plan).more
    return work


def _plan(slots: Slots, options: Options) -> Plan:
    return Plan(options.stack_size, options.compile, "cuda" if slots.gpus else "cpu", slots.memory)


def _run_all(work: Work, options: Options, storage: str, keep: Keep) -> None:
    if options.local:
        from phasemap.scheduling import in_process

        device = "cuda" if options.device == "cuda" else "cpu"
        in_process.run(work, storage, options.checkpoint_every, device, keep)
        return
    with signals.uninterrupted():
        from phasemap.scheduling import cluster, ray_tune

    wanted = cluster.Resources(options.cpus_per_stack, options.gpus_per_stack)
    while True:
        try:
            with tempfile.TemporaryDirectory(prefix="phasemap-tune-", ignore_cleanup_errors=True) as state:
                ray_tune.run(work, storage, options.checkpoint_every, wanted, options.device, Path(state), keep)
            return
        except ray_tune.NodeLost:
            work.say("this machine's Ray node is gone; connecting again")
            work.lost("its Ray node died")
            cluster.connect_again(_address(options), wanted)


def _address(options: Options) -> str | None:
    return options.address or os.environ.get("RAY_ADDRESS")


def _opening(sweep: Sweep, work: Work) -> str:
    already, slots = len(sweep.trials) - len(sweep.missing), count(work.slots, "slot")
    if sweep.space.sampler == "grid":
        opening = f"{sweep.name}: {count(len(sweep.missing), 'trial')} to run on {slots}"
    else:
        most = count(sweep.space.trials_wanted, "trial")
        opening = f"{sweep.name}: up to {most}, chosen by {sweep.space.sampler}, on {slots}"
    return opening + (f"; {already} {'is' if already == 1 else 'are'} recorded already" if already else "")


def _status(sweep: Sweep, work: Work) -> terminal.Status:
    with work.lock:
        trials, done = list(sweep.trials), sweep.recorder.done
    recorded = [(trial, done[trial.id].phase) for trial in trials if trial.id in done]
    total = len(trials) if sweep.space.sampler == "grid" else sweep.space.trials_wanted
    field = terminal.Map.of(sweep.space, recorded)
    return terminal.Status(sweep.name, total, field, work.trials_failed, _pace(sweep, work))


def _pace(sweep: Sweep, work: Work) -> terminal.Pace:
    elapsed = time.monotonic() - work.started
    with work.lock:
        training = [one for one in work.running.values() if one.started]
        starting = [one for one in work.running.values() if not one.started]
        left = work.seconds_left()
    if sweep.space.sampler != "grid":  # what it has not asked for yet takes as long as what it has
        recorded = sum(trial.id in sweep.recorder.done for trial in sweep.trials)
        remaining = max(0, sweep.space.trials_wanted - recorded)
        left = elapsed * remaining / work.trials_done if work.trials_done else math.inf
    return terminal.Pace(
        training=sum(len(one.left) for one in training),
        stacks=len(training),
        starting=sum(len(one.left) for one in starting),
        rate=work.trial_steps / elapsed,
        seconds_left=left if work.trial_steps and math.isfinite(left) else None,
    )


def watch(name: str, space: Space, options: Options) -> int:
    """Shows a sweep that another process runs, from its record, until it ends or Ctrl-C."""
    with terminal.Doing(f"{name}: opening the record"):
        from phasemap.command.watch import Watched
        from phasemap.record import client

        watched = Watched(name, client.absolute(options.tracking_uri or client.default_uri()))
    try:
        with terminal.Screen(lambda: watched.status(space), every=3.0) as display:
            while watched.is_running():
                time.sleep(3)
            display.say(f"{name}: no process is running it now")
    except KeyboardInterrupt:
        pass
    return OK


def _finish(sweep: Sweep, options: Options, status: int) -> int:
    """Figures, summary by phase, where everything lies."""
    recorder, out = sweep.recorder, _out(sweep, options)
    _record_all(sweep, print)
    _forget_recorded(sweep, _storage(sweep, options))
    if status != INTERRUPTED and options.figures:
        with terminal.Doing(f"{sweep.name}: drawing the figures"):
            _draw(sweep, out)
    if status == OK and any(trial.id not in recorder.done for trial in sweep.trials):
        status = FAILURES  # success is a whole record
    recorder.close({OK: "FINISHED", FAILURES: "FAILED", INTERRUPTED: "KILLED"}[status])
    print(_summary(sweep, out if options.figures and out.is_dir() else None))
    return status


def _record_all(sweep: Sweep, say: Callable[[str], None]) -> None:
    if sweep.recorder.waiting:
        waiting = count(sweep.recorder.waiting, "last result")
        say(f"{sweep.name}: writing {waiting} to MLflow; Ctrl-C leaves at once, and what is not written runs again")
    sweep.recorder.flush()


def _forget_recorded(sweep: Sweep, storage: str) -> None:
    from phasemap.training.checkpoint import Storage

    try:
        Storage(storage).forget(sweep.recorder.done)
    except OSError as error:
        print(f"checkpoints of recorded trials may be left in {storage}: {error}", file=sys.stderr)


def _draw(sweep: Sweep, out: Path) -> None:
    try:
        analysis("__main__").draw_all(sweep.name, sweep.recorder.uri, out)
        sweep.recorder.artifacts(out)
    except Exception as error:  # the trials are recorded: a figure's fault must not look like theirs
        print(
            f"no figures ({type(error).__name__}: {error}); `phasemap figures {sweep.name}` tries again",
            file=sys.stderr,
        )


def _summary(sweep: Sweep, out: Path | None) -> str:
    recorder = sweep.recorder
    done = [recorder.done[trial.id] for trial in sweep.trials if trial.id in recorder.done]
    phases, faults = Counter(one.phase for one in done), Counter(one.fault for one in done if one.fault)
    lines = [f"{sweep.name}: {phases.total()} of {count(len(sweep.trials), 'trial')} recorded"]
    lines += [f"  {phase:<14}{phases[phase]:>6}" for phase in sweep.space.phase_names if phases[phase]]
    lines += [f"  without all numbers: {count(n, 'trial')}: {fault}" for fault, n in faults.most_common(FAULTS)]
    if recorder.failed:
        lines += [f"  {'failed':<14}{len(recorder.failed):>6}  (the same command tries them again)"]
    if out:
        lines += [f"figures: {out.resolve()}"]
    return "\n".join([*lines, *_browse(recorder)])


def _browse(recorder: Recorder) -> list[str]:
    """Where to look at the trials, and what must run for it."""
    from phasemap.record.client import redacted
    from phasemap.record.mlflow_views import address

    if recorder.uri.startswith("http"):
        return [f"browse:  {address(redacted(recorder.uri), recorder.experiment)}"]
    served = (
        f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri {redacted(recorder.uri)} --port 5000"
    )
    return [f"browse:  {served}", f"then:    {address('http://localhost:5000', recorder.experiment)}"]
