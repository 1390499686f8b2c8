"""The command: ``python -m phasemap.sweep SPACE.py`` runs a search space and draws its map.

It reads its arguments; what happens then is ``command/execution.py``'s.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path

from phasemap.command import execution, terminal
from phasemap.command.dry_run import dry_run
from phasemap.command.execution import BAD_INPUT, INTERRUPTED, OK
from phasemap.command.options import FIELDS, Parser, check_name, options
from phasemap.command.signals import piped
from phasemap.fields import Fault
from phasemap.numerics import processor
from phasemap.plan.space_file import explain, load, source_of, with_overrides


@piped
def main(argv: list[str] | None = None, prog: str = "python -m phasemap.sweep") -> int:
    """Runs the command; returns its exit status. ``prog``: how it was called, for its help and its errors."""
    arguments = parser(prog).parse_args(argv)
    try:
        return _run(arguments)
    except Fault as fault:
        print(explain(str(arguments.space), fault), file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
    except BrokenPipeError:
        raise
    except BaseException as error:  # outside the training, or for the second time
        if not _is_interrupt(error):
            raise
        print("left at once: what is recorded and checkpointed is kept, the same command continues", file=sys.stderr)
        return INTERRUPTED
    return BAD_INPUT


def _is_interrupt(error: BaseException | None) -> bool:
    """Ctrl-C, or what it left behind: a library that was half imported raises an error of its own."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _is_interrupt(error.__context__))


def _run(arguments: argparse.Namespace) -> int:
    given = {name: getattr(arguments, name) for name in FIELDS if name != "figures"}
    try:
        chosen = options({**given, "figures": not arguments.no_figures}, prefix="--")
    except Fault as fault:
        raise ValueError(str(fault)) from fault  # no fault of the file
    processor.let_waiting_threads_yield()  # a space file may load torch
    with terminal.Doing(f"reading {arguments.space}", plain=False):
        space = load(arguments.space).override(arguments.set)
    name = arguments.space.stem if arguments.name is None else arguments.name
    check_name(name)
    if arguments.dry_run:
        execution.check_device(chosen)
        dry_run(name, space, chosen)
        return OK
    if arguments.watch:
        return execution.watch(name, space, chosen)
    source = with_overrides(source_of(arguments.space), arguments.set)
    return execution.execute(name, space, chosen, source, str(arguments.space))


def parser(prog: str) -> argparse.ArgumentParser:
    """The command's arguments; those of ``Options`` as they stand there."""
    command = Parser(
        prog=prog,
        description="Runs a search space: trains its trials in stacks, records each in MLflow, draws the phase map. "
        "Run the same command again to continue; only what is missing is run.",
    )
    command.add_argument(
        "space", type=Path, metavar="SPACE.py", help="the search space, for example search_spaces/wd_width.py"
    )
    command.add_argument("--name", help="name of the sweep and its MLflow experiment (default: the file's name)")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE[,VALUE…]",
        help="override a field, or make it an axis; repeatable; seed=0..9 is a range",
    )
    command.add_argument("--dry-run", action="store_true", help="say what would run and what it costs; start nothing")
    command.add_argument("--watch", action="store_true", help="only show the map of a sweep that another process runs")
    command.add_argument("--no-figures", action="store_true", help="draw nothing, neither while it runs nor at the end")
    for field in FIELDS.values():
        flag = f"--{field.name.replace('_', '-')}"
        if field.kind is bool and field.name != "figures":
            command.add_argument(flag, action="store_true", help=field.help)
        elif field.kind is not bool:
            command.add_argument(flag, metavar="|".join(field.choices) or field.kind.__name__.upper(), help=field.help)
    return command


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's, that this command has inherited, may not exist here
    status = main()
    gc.freeze()  # else Python searches a million objects for cycles before it ends, for a second
    sys.exit(status)
