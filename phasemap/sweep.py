"""The command: ``python -m phasemap.sweep SPACE.py`` runs a search space and draws its map.

Search space -> trials -> stacks -> training -> record -> figures. Imports what a step needs when the
step comes: a dry run loads neither torch nor Ray nor MLflow.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phasemap.command import terminal
from phasemap.fields import Fault
from phasemap.plan.space import Space, explain, load
from phasemap.plan.stack import Plan, Slots, seconds
from phasemap.plan.trial import Shape, Trial

if TYPE_CHECKING:
    from phasemap.maps.explorer import Explorer
    from phasemap.record.writer import Recorder
    from phasemap.scheduling.queue import Work

OK, FAILURES, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except Fault as fault:
        print(explain(str(arguments.space), fault), file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:  # outside the training, or for the second time
        print("left at once: what is recorded and checkpointed is kept, the same command continues", file=sys.stderr)
        return INTERRUPTED
    return BAD_INPUT


def _run(arguments: argparse.Namespace) -> int:
    space = load(arguments.space).override(arguments.set)
    trials = _listed(space)
    name = arguments.name or arguments.space.stem
    if arguments.dry_run:
        return _dry_run(name, space, trials, arguments)
    if arguments.watch:
        return _watch(name, space, arguments)
    if not arguments.local and (address := _address(arguments)):
        from phasemap.scheduling import ray_tune

        ray_tune.check_address(address)
    sweep = Sweep(name, space, trials, _recorder(name, space, arguments))
    status = _train(sweep, arguments) if sweep.remains() else OK
    return _finish(sweep, arguments, status)


@dataclass
class Sweep:
    """A search space being run. ``trials`` of a sampler grows as it asks."""

    name: str
    space: Space
    trials: list[Trial]
    recorder: Recorder

    def __post_init__(self) -> None:
        if self.space.sampler != "grid":
            self.trials = self.recorder.asked(self.space)
        self.missing = [trial for trial in self.trials if trial.id not in self.recorder.done]

    def remains(self) -> bool:
        """Whether there is anything to run; says so if not."""
        wanted = len(self.trials) if self.space.sampler == "grid" else self.space.trials_wanted
        self.recorder.planned(wanted)
        if self.missing or len(self.trials) < wanted:
            return True
        print(f"{self.name}: all {len(self.trials)} trials are recorded; nothing to do")
        return False

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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m phasemap.sweep",
        description="Runs a search space: trains its trials in stacks, records each in MLflow, draws the phase map. "
        "Run the same command again to continue; only what is missing is run.",
    )
    parser.add_argument(
        "space", type=Path, metavar="SPACE.py", help="the search space, for example search_spaces/wd_width.py"
    )
    parser.add_argument("--name", help="name of the sweep and its MLflow experiment (default: the file's name)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE[,VALUE…]",
        help="override a field, or make it an axis; repeatable; seed=0..9 is a range",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would run and what it costs; start nothing")
    parser.add_argument("--local", action="store_true", help="run in this process, without Ray")
    parser.add_argument("--address", help="address of an existing Ray cluster (default: RAY_ADDRESS, or a local one)")
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db here)"
    )
    parser.add_argument("--storage", help="folder or URI for checkpoints; shared by all nodes of a cluster")
    parser.add_argument("--out", type=Path, help="folder for the figures (default: figures/NAME)")
    parser.add_argument("--stack-size", type=int, default=0, metavar="K", help="trials per stack (default: by shape)")
    parser.add_argument(
        "--compile",
        choices=("auto", "always", "never"),
        default="auto",
        help="compile training steps (default: if it pays)",
    )
    parser.add_argument(
        "--cpus-per-stack", type=float, default=1, metavar="N", help="CPU cores a stack takes (default: 1)"
    )
    parser.add_argument(
        "--gpus-per-stack",
        type=float,
        default=1,
        metavar="N",
        help="GPUs or share of one a stack takes, if there are any",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where stacks train")
    parser.add_argument(
        "--checkpoint-every", type=float, default=60, metavar="SECONDS", help="time between checkpoints of a stack"
    )
    parser.add_argument("--no-figures", action="store_true", help="draw nothing, neither while it runs nor at the end")
    parser.add_argument("--watch", action="store_true", help="only show the map of a sweep that another process runs")
    return parser


def _listed(space: Space) -> list[Trial]:
    """The trials of a grid; a sampler's are chosen as it goes."""
    if space.sampler == "grid":
        return space.trials()
    space.check()
    return []


def _dry_run(name: str, space: Space, trials: list[Trial], arguments: argparse.Namespace) -> int:
    if space.sampler != "grid":
        print(f"{name}: up to {space.trials_wanted} trials over {', '.join(space.axes)}, chosen by {space.sampler}")
        return OK
    stacks = Plan(os.cpu_count() or 1, arguments.stack_size, arguments.compile).stacks(trials)
    steps = sum(trial.steps for trial in trials)
    cells = len({trial.cell for trial in trials})
    print(f"{name}: {len(trials)} trials in {cells} cells, {len(stacks)} stacks, {steps:,} trial-steps")
    for axis, values in space.grid.items():
        print(f"  {axis}: {', '.join(terminal.short(value) for value in values)}")
    shapes = Counter(stack.shape for stack in stacks)
    differing = _differing(list(shapes))
    for shape, count in shapes.items():
        same = [stack for stack in stacks if stack.shape == shape]
        told = (
            ", ".join(f"{n} {terminal.short(v)}" for n, v in shape.values if n in differing) or same[0].trials[0].model
        )
        print(
            f"  {told}: {sum(len(s.trials) for s in same)} trials in {count} stacks of up to "
            f"{max(len(s.trials) for s in same)}, {sum(s.trial_steps for s in same):,} trial-steps"
        )
    return OK


def _differing(shapes: list[Shape]) -> set[str]:
    """Names of the values in which any two shapes differ."""
    known = [dict(shape.values) for shape in shapes]
    names = {name for one in known for name in one}
    return {name for name in names if len({repr(one.get(name)) for one in known}) > 1}


def _recorder(name: str, space: Space, arguments: argparse.Namespace) -> Recorder:
    from phasemap.record import writer

    uri = writer.absolute(arguments.tracking_uri or writer.default_uri())
    source = arguments.space.read_text() + "".join(f"\n# --set {said}" for said in arguments.set)
    try:
        return writer.Recorder(name, uri, space.axes, source)
    except writer.Held as held:
        raise ValueError(str(held)) from held


def _train(sweep: Sweep, arguments: argparse.Namespace) -> int:
    """Runs what is missing, by Ray or in this process. Returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    storage = _storage(sweep, arguments)
    try:
        slots = (
            Slots(*((0, 1) if arguments.device == "cuda" else (1, 0)))
            if arguments.local
            else _cluster(arguments, storage)
        )
    except ValueError:
        sweep.recorder.close("KILLED")
        raise
    work = _work(sweep, arguments, slots, storage)
    print(_opening(sweep, work, slots.cpu + slots.cuda), flush=True)
    with terminal.Screen(lambda: _status(sweep, work)) as display:
        work.say = sweep.recorder.say = display.say
        try:
            with _refreshing(sweep, arguments, display.say):
                _run_all(work, arguments, storage)
        except KeyboardInterrupt:
            print("interrupted: progress is kept, the same command continues", file=sys.stderr)
            return INTERRUPTED
        except ConnectionError as error:
            print(error, file=sys.stderr)
            return FAILURES
    elapsed = time.monotonic() - work.started
    told = f"{work.trial_steps:,} trial-steps in {terminal.duration(elapsed)}"
    print(f"{told}; slots {work.busy():.0%} busy with training")
    return FAILURES if work.trials_failed else OK


def _storage(sweep: Sweep, arguments: argparse.Namespace) -> str:
    return arguments.storage or str(Path("phasemap_data").resolve() / sweep.name)


def _refreshing(sweep: Sweep, arguments: argparse.Namespace, say: Callable[[str], None]) -> AbstractContextManager:
    """Refreshes the figures of a long sweep, unless none are wanted."""
    from phasemap.command.refresh import Refresh

    return nullcontext() if arguments.no_figures else Refresh(sweep.recorder, _out(sweep, arguments), say)


def _out(sweep: Sweep, arguments: argparse.Namespace) -> Path:
    return arguments.out or Path("figures") / sweep.name


def _cluster(arguments: argparse.Namespace, storage: str) -> Slots:
    """Joins or starts Ray; how many stacks it runs at once."""
    from phasemap.scheduling import ray_tune

    address, wanted = _address(arguments), ray_tune.Resources(arguments.cpus_per_stack, arguments.gpus_per_stack)
    ray_tune.connect(address, wanted)
    if address and not arguments.storage and ray_tune.alive_nodes() > 1:
        raise ValueError(
            "--storage: a cluster of several nodes needs a place for checkpoints that all share, got none; "
            "give a folder on a shared disk, or an object store such as s3://bucket/folder"
        )
    ray_tune.check_storage(storage, shared=bool(address))
    return ray_tune.count_slots(wanted, arguments.device)


def _work(sweep: Sweep, arguments: argparse.Namespace, slots: Slots, storage: str) -> Work:
    from phasemap.scheduling import cutting
    from phasemap.scheduling.queue import Work
    from phasemap.training.checkpoint import Storage

    recorder, store = sweep.recorder, Storage(storage)
    work = Work(
        record=lambda result: recorder.result(result, lambda: store.remove(result.trial.id)),
        fail=recorder.failure,
        say=print,
        slots=slots.cpu + slots.cuda,
        cuda=slots.cuda,
    )
    plan = _plan(slots, arguments)
    work.cutting = cutting.planned(plan)
    work.cutting.put(sweep.missing)
    if sweep.space.sampler != "grid":
        work.more = sweep.explorer(plan).more
    return work


def _plan(slots: Slots, arguments: argparse.Namespace) -> Plan:
    from phasemap.scheduling import stack_size

    device = "cuda" if slots.cuda else "cpu"

    def measure(trial: Trial, most: int) -> int:
        return stack_size.fastest_size(trial, device, most)

    return Plan(
        slots=max(1, slots.cpu + slots.cuda),
        size=arguments.stack_size,
        compiled=arguments.compile,
        gpu=slots.cuda > 0,
        memory=slots.memory,
        measure=measure if stack_size.can_measure(device) else None,
    )


def _run_all(work: Work, arguments: argparse.Namespace, storage: str) -> None:
    if arguments.local:
        from phasemap.scheduling import in_process

        in_process.run(work, storage, arguments.checkpoint_every, "cuda" if arguments.device == "cuda" else "cpu")
        return
    from phasemap.scheduling import ray_tune

    wanted = ray_tune.Resources(arguments.cpus_per_stack, arguments.gpus_per_stack)
    while True:
        try:
            with tempfile.TemporaryDirectory(prefix="phasemap-tune-", ignore_cleanup_errors=True) as state:
                ray_tune.run(work, storage, arguments.checkpoint_every, wanted, arguments.device, Path(state))
            break
        except ray_tune.NodeLost:
            work.say("this machine's Ray node is gone; connecting again")
            work.lost("its Ray node died")
            ray_tune.connect_again(_address(arguments), wanted)
    ray_tune.ray.shutdown()


def _address(arguments: argparse.Namespace) -> str | None:
    return arguments.address or os.environ.get("RAY_ADDRESS")


def _opening(sweep: Sweep, work: Work, slots: int) -> str:
    already = len(sweep.trials) - len(sweep.missing)
    if sweep.space.sampler == "grid":
        told = f"{sweep.name}: {len(sweep.missing)} trials to run on {slots} slots"
    else:
        told = (
            f"{sweep.name}: up to {sweep.space.trials_wanted} trials, chosen by {sweep.space.sampler}, on {slots} slots"
        )
    return told + (f"; {already} are recorded already" if already else "")


def _status(sweep: Sweep, work: Work) -> terminal.Status:
    with work.lock:
        running = [one for one in work.running.values() if one.started]
        waiting = [one for one in work.running.values() if not one.started]
        queued = work.waiting()
        trials, done = list(sweep.trials), sweep.recorder.done
    total = len(trials) if sweep.space.sampler == "grid" else sweep.space.trials_wanted
    whole = seconds(sweep.missing) or 1.0
    left = seconds([*queued, *(trial for one in waiting for trial in one.left.values())])
    left += sum(seconds(one.left.values()) for one in running) / 2
    share = 1 - left / whole if sweep.space.sampler == "grid" else len(done) / total
    elapsed = time.monotonic() - work.started
    return terminal.Status(
        name=sweep.name,
        total=total,
        failed=work.trials_failed,
        stacks=len(running),
        running=sum(len(one.left) for one in running),
        rate=work.trial_steps / elapsed,
        seconds_left=elapsed / share - elapsed if share > 0.02 else None,
        map=terminal.Map.of(sweep.space, [(trial, done[trial.id].phase) for trial in trials if trial.id in done]),
    )


def _watch(name: str, space: Space, arguments: argparse.Namespace) -> int:
    """Shows a sweep that another process runs, from its record, until it ends or Ctrl-C."""
    from phasemap.record import writer

    watched = writer.Watched(name, writer.absolute(arguments.tracking_uri or writer.default_uri()))
    try:
        with terminal.Screen(lambda: watched.status(space), every=3.0) as display:
            while watched.is_running():
                time.sleep(3)
            display.say(f"{name}: no process is running it now")
    except KeyboardInterrupt:
        pass
    return OK


def _finish(sweep: Sweep, arguments: argparse.Namespace, status: int) -> int:
    """Figures, summary by phase, where everything lies."""
    recorder, out = sweep.recorder, _out(sweep, arguments)
    if recorder.waiting:
        print(f"{sweep.name}: writing the last {recorder.waiting} results to MLflow", flush=True)
    recorder.flush()
    _forget_recorded(sweep, _storage(sweep, arguments))
    if status != INTERRUPTED and not arguments.no_figures:
        _draw(sweep, out)
    recorder.close({OK: "FINISHED", FAILURES: "FAILED", INTERRUPTED: "KILLED"}[status])
    print(_summary(sweep, None if arguments.no_figures else out))
    return status


def _forget_recorded(sweep: Sweep, storage: str) -> None:
    from phasemap.training.checkpoint import Storage

    try:
        Storage(storage).forget(sweep.recorder.done)
    except OSError as error:
        print(f"checkpoints of recorded trials may be left in {storage}: {error}", file=sys.stderr)


def _draw(sweep: Sweep, out: Path) -> None:
    from analysis.__main__ import draw_all

    try:
        draw_all(sweep.name, sweep.recorder.uri, out)
        sweep.recorder.artifacts(out)
    except Exception as error:  # the trials are recorded: a figure's fault must not look like theirs
        print(
            f"no figures ({type(error).__name__}: {error}); `python -m analysis {sweep.name}` tries again",
            file=sys.stderr,
        )


def _summary(sweep: Sweep, out: Path | None) -> str:
    recorder = sweep.recorder
    phases = Counter(recorder.done[trial.id].phase for trial in sweep.trials if trial.id in recorder.done)
    lines = [f"{sweep.name}: {sum(phases.values())} of {len(sweep.trials)} trials recorded"]
    lines += [f"  {phase:<14}{phases[phase]:>6}" for phase in sweep.space.phase_names if phases[phase]]
    if recorder.failed:
        lines += [f"  {'failed':<14}{len(recorder.failed):>6}  (the same command tries them again)"]
    if out:
        lines += [f"figures: {out.resolve()}"]
    return "\n".join([*lines, *_browse(recorder)])


def _browse(recorder: Recorder) -> list[str]:
    """Where to look at the trials, and what must run for it."""
    from phasemap.record.mlflow_views import address

    if recorder.uri.startswith("http"):
        return [f"browse:  {address(recorder.uri, recorder.experiment)}"]
    served = f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri {recorder.uri} --port 5000"
    return [f"browse:  {served}", f"then:    {address('http://localhost:5000', recorder.experiment)}"]


if __name__ == "__main__":
    status = main()
    gc.freeze()  # else Python searches a million objects for cycles before it ends, for a second
    sys.exit(status)
