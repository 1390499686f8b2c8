"""What a search space asks for, before anything starts: its trials, what makes their phases unsure, what they cost."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from phasemap.command import terminal
from phasemap.command.options import Options
from phasemap.fields import Fault
from phasemap.plan.space import Space
from phasemap.plan.stack import Plan, cost
from phasemap.plan.trial import Shape, Trial
from phasemap.training.events import coarse_delay, slow_decay
from phasemap.words import count

LISTED = 50  # values of an axis that are printed
SHORTEST = 10  # seconds: a training that is over sooner is hidden by all else


def listed(space: Space) -> list[Trial]:
    """The trials of a grid; a sampler's are chosen as it goes."""
    if space.sampler == "grid":
        return space.trials()
    space.check()
    return []


def check_probes(space: Space, trials: list[Trial]) -> None:
    """Tries the probes of your own on fresh weights.

    Raises:
        Fault: what went wrong; a probe that fails later costs its numbers alone.
    """
    if not any(part.kind == "probe" for part in space.parts):
        return
    from phasemap.training.train import probe_faults

    shapes = {trial.shape: trial for trial in trials or space.corners()}
    tried = [list(shapes.values())[k] for k in sorted({0, len(shapes) - 1})]
    if faults := dict.fromkeys(fault for trial in tried for fault in probe_faults(trial)):
        cure = "correct it (it is tried on untrained weights, where numbers may be NaN)"
        raise Fault([f"{fault}; {cure}" for fault in faults])


def dry_run(name: str, space: Space, options: Options) -> None:
    """Prints what would run and what it costs, recorded trials included; starts nothing."""
    trials = listed(space)
    check_probes(space, trials)
    if space.sampler != "grid":
        most = count(space.trials_wanted, "trial")
        explored = [axis for axis in space.axes if axis != "seed"]
        print(f"{name}: up to {most} over {', '.join(explored)}, chosen by {space.sampler}")
        print("  how long it takes depends on the points chosen")
        return
    from phasemap.scheduling import cores, cutting

    slots = 1 if options.local else max(1, int(cores.lent() / options.cpus_per_stack))
    plan = Plan(options.stack_size, options.compile)
    steps = sum(trial.steps for trial in trials)
    cells = len({trial.cell for trial in trials})
    wide = f"{count(len(trials), 'trial')} in {count(cells, 'cell')}, {count(steps, 'trial-step')}"
    print(f"{name}: {wide}, recorded ones included")
    needed = cutting.estimate(trials, ["cpu"] * slots, plan)
    about = f"less than {SHORTEST} s" if needed < SHORTEST else f"about {terminal.duration(needed)}"
    where = f"{count(slots, 'core slot')} of this machine"
    print(f"  {about} of training on {where}, to a factor of two, besides starting and compiling")
    for axis, values in space.grid.items():
        print(f"  {axis}: {_listing(values)}")
    print("\n".join(_by_shape(trials, plan)))
    warn(trials)


def _by_shape(trials: list[Trial], plan: Plan) -> Iterator[str]:
    """A line for each shape: what tells it from the others, its trials, and how large their stacks are at most; toward
    the end they become smaller, so that all slots end together."""
    shapes: dict[Shape, list[Trial]] = {}
    for trial in sorted(trials, key=cost, reverse=True):
        shapes.setdefault(trial.shape, []).append(trial)
    differing = _differing([*shapes])
    for shape, same in shapes.items():
        told = [f"{name} {terminal.short(value)}" for name, value in shape.values if name in differing]
        label, most = ", ".join(told) or same[0].model, min(plan.largest(same[0]), len(same))
        steps, size = count(sum(trial.steps for trial in same), "trial-step"), f"up to {most}" if most > 1 else "one"
        yield f"  {label}: {count(len(same), 'trial')}, {steps}, in stacks of {size}"


def _listing(values: list[Any]) -> str:
    """The values of an axis; of a long one its ends, and how many there are."""
    shown = [terminal.short(value) for value in values]
    if len(shown) <= LISTED:
        return ", ".join(shown)
    return f"{', '.join(shown[:3])}, …, {shown[-1]} ({count(len(shown), 'value')})"


def warn(trials: list[Trial]) -> None:
    """Says what makes phases of these trials unsure."""
    warnings = Counter(warning for trial in trials for rule in (coarse_delay, slow_decay) if (warning := rule(trial)))
    for text, met in warnings.items():
        print(f"warning: {text} ({count(met, 'trial')})", file=sys.stderr)


def _differing(shapes: list[Shape]) -> set[str]:
    """Names of the values in which any two shapes differ."""
    known = [dict(shape.values) for shape in shapes]
    names = {name for one in known for name in one}
    return {name for name in names if len({repr(one.get(name)) for one in known}) > 1}
