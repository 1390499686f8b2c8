"""The command ``phasemap``: a search space to start from, a sweep of it, its figures.

Each loads what it needs when it runs, so that ``phasemap --help`` answers at once.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import phasemap
from phasemap.command import terminal
from phasemap.command.figures import analysis
from phasemap.command.options import Parser
from phasemap.command.signals import piped
from phasemap.words import did_you_mean

OK, BAD_INPUT = 0, 2


@piped
def main(argv: list[str] | None = None) -> int:
    """Runs the command that the first word names, with the words after it; returns its exit status."""
    words = sys.argv[1:] if argv is None else argv
    parser = Parser(
        prog="phasemap",
        usage="phasemap [-h] [--version] COMMAND ...",
        description="Maps of when small networks generalize. `phasemap COMMAND --help` says what a command takes.",
        epilog="commands:\n" + _listed({name: str(command.__doc__) for name, command in COMMANDS.items()}),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of those below")
    chosen = parser.parse_args(words[:1])
    if chosen.version:
        print(f"phasemap {phasemap.__version__}")
        return OK
    if chosen.command not in COMMANDS:
        parser.error(_must_be("command", chosen.command, COMMANDS))
    return COMMANDS[chosen.command](words[1:])


def _new(words: list[str]) -> int:
    """writes a search space into this folder, to start from"""
    spaces = shipped()
    titles = {name: text.split('"""')[1].splitlines()[0] for name, text in spaces.items()}
    parser = Parser(
        prog="phasemap new",
        description="Writes a search space into this folder, to run as it is or to edit. It overwrites nothing.",
        epilog="search spaces:\n" + _listed(titles),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default="wd_width", help="one of those below (default: wd_width)"
    )
    name = parser.parse_args(words).name.removesuffix(".py")
    if name not in titles:
        parser.error(f"{_must_be('NAME', name, titles)}; take one and rename the file")
    file = Path(f"{name}.py")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(spaces[name])
    except FileExistsError:
        parser.error(f"{file}: is there already, and is left as it is; rename it, or go to another folder")
    except OSError as error:
        parser.error(f"{file}: must be a file that can be written, got {error.strerror}; go to another folder")
    print(f"{file}: {titles[name]}\nnext: phasemap sweep {file} --dry-run")
    return OK


def shipped() -> Mapping[str, str]:
    """The text of each search space that comes with phasemap, by name."""
    folder = files(f"{phasemap.__name__}.search_spaces")
    spaces = {file.name.removesuffix(".py"): file for file in folder.iterdir() if file.name.endswith(".py")}
    return {name: spaces[name].read_text(encoding="utf-8") for name in sorted(spaces)}


def _sweep(words: list[str]) -> int:
    """runs a search space, or what is missing of it, and draws its map"""
    from phasemap import sweep

    status = sweep.main(words, prog="phasemap sweep")
    gc.freeze()  # as at the end of phasemap.sweep
    return status


def _figures(words: list[str]) -> int:
    """draws the figures of a sweep again, all or those named"""
    with terminal.Doing("getting ready to draw", plain=False):
        drawing = analysis("__main__")
    return int(drawing.main(words, prog="phasemap figures"))


def _listed(meanings: Mapping[str, str]) -> str:
    """Each name with what it means, in two columns."""
    wide = max(map(len, meanings)) + 2
    return "\n".join(f"  {name:<{wide}}{meaning}" for name, meaning in meanings.items())


def _must_be(what: str, got: str | None, known: Mapping[str, object]) -> str:
    return f"{what}: must be one of {', '.join(known)}; got {got or 'none'}{did_you_mean(got or '', known)}"


COMMANDS: dict[str, Callable[[list[str]], int]] = {"new": _new, "sweep": _sweep, "figures": _figures}

if __name__ == "__main__":
    sys.exit(main())
