"""``python -m analysis NAME [FIGURE…]``: one sweep's table, figures and the numbers behind them.

``python -m analysis replicate`` writes the report on the published claims instead.

Reads MLflow once and writes files; what each figure shows is decided in its own module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from matplotlib.figure import Figure

from phasemap.command import terminal
from phasemap.command.options import Parser
from phasemap.command.signals import piped
from phasemap.plan.trial import KINDS
from phasemap.record.client import default_uri
from phasemap.record.reader import Sweep, read, write
from phasemap.words import did_you_mean

from . import (
    axis,
    bottleneck,
    boundary_position,
    critical_law,
    data_fraction,
    dimension_collapse,
    grok_step_law,
    grok_step_map,
    hidden_picture,
    interactive,
    learnability,
    learning_curves,
    outcome_map,
    phase_diagram,
    phases_by_budget,
    precision,
    probability_map,
    replicate,
    resummarize,
    reverse_scaling,
    stride_spectrum,
    style,
    success_rate,
    takeover,
    time_to_grok,
)

FIGURES: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        phase_diagram,
        phases_by_budget,
        probability_map,
        boundary_position,
        critical_law,
        grok_step_map,
        grok_step_law,
        outcome_map,
        success_rate,
        reverse_scaling,
        time_to_grok,
        learning_curves,
        dimension_collapse,
        hidden_picture,
        takeover,
        stride_spectrum,
        bottleneck,
        data_fraction,
        learnability,
        precision,
    )
}
PAGE = "interactive_map"
ABSENT = 3  # exit status: a figure named cannot be drawn
OPTIONS = {  # of figures: what they can be asked to show
    "phase_diagram": ("x", "y"),
    "critical_law": ("x", "y"),
    "grok_step_map": ("x", "y"),
    "grok_step_law": ("x",),
    "outcome_map": ("outcome", "x", "y"),
    "phases_by_budget": ("x",),
}


@dataclass(frozen=True)
class Drawn:
    """The files written, and (picture, reason) of each figure asked for that this sweep cannot have."""

    paths: tuple[Path, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: Drawn) -> Drawn:
        return Drawn((*self.paths, *other.paths), (*self.absent, *other.absent))


def draw_all(name: str, tracking_uri: str | None = None, out: Path | str | None = None) -> list[Path]:
    """Writes table and natural figures of the sweep into a folder; returns every path written."""
    return list(draw_named(name, (), tracking_uri, out).paths)


def draw_named(
    name: str,
    figures: Sequence[str] = (),
    tracking_uri: str | None = None,
    out: Path | str | None = None,
    thresholds: Mapping[str, float] | None = None,
    outcomes: Sequence[str] = (),
    x: str | None = None,
    y: str | None = None,
) -> Drawn:
    """As ``draw_all`` for the figures named; one that this sweep cannot have says why.

    With ``thresholds`` (see ``resummarize.py``) all is summarized again from the logged curves, into a folder of these
    thresholds. ``outcomes``: one outcome map each. ``x`` and ``y``: the axes of the maps and laws.

    Raises:
        ValueError: no such experiment, store, figure, threshold, outcome or axis.
    """
    for figure in figures:
        _check_figure(figure, (*FIGURES, PAGE))
    if figures:
        _check_options(figures, {"outcome": outcomes, "x": x, "y": y})
    sweep = read(name, tracking_uri)
    if thresholds:
        sweep = resummarize.resummarize(sweep, **thresholds)
    sweep = axis.with_ratios(sweep, x, y)
    axis.map_axes(sweep, x, y)
    for outcome in outcomes:
        outcome_map.check(sweep.finished, outcome)
    folder = Path(out) if out else default_folder(name, thresholds or {})
    drawn = Drawn(tuple(write(sweep.trials, folder)))
    for figure in figures or (*FIGURES, PAGE):
        asked = bool(figures) or figure == "phase_diagram"
        sides = {side: one for side, one in (("x", x), ("y", y)) if side in OPTIONS.get(figure, ())}
        if figure == PAGE:
            drawn += Drawn((_write_page(sweep, folder),))
        elif figure == "outcome_map":
            for outcome in outcomes or outcome_map.natural(sweep.finished):
                stem = folder / f"{figure}_{outcome}"
                drawn += _draw(sweep, figure, stem, asked or bool(outcomes), outcome=outcome, **sides)
        else:
            drawn += _draw(sweep, figure, folder / figure, asked, **sides)
    return drawn


def default_folder(name: str, thresholds: Mapping[str, float]) -> Path:
    """Where the figures of a sweep go: ``figures/NAME``; with other thresholds into a folder of these below it, so that
    none takes the place of one as recorded."""
    again = ",".join(f"{setting}={value:g}" for setting, value in thresholds.items())
    return Path("figures") / name / again


def figure_of(sweep: Sweep, name: str, **options: str | None) -> Figure:
    """One figure of a sweep; ``options``: outcome, x and y, of those figures that have them.

    Raises:
        ValueError: no such figure, outcome or axis, or this sweep cannot have it.
    """
    _check_figure(name, FIGURES)
    _check_options([name], options)
    sweep = axis.with_ratios(sweep, options.get("x"), options.get("y"))
    try:
        summary = FIGURES[name].of_sweep(sweep, **{option: one for option, one in options.items() if one})
        sheet = FIGURES[name].figure(summary)
    except style.Absent as absent:
        raise ValueError(f"{sweep.name}: {name} cannot be drawn, because {absent}") from absent
    style.mark_unfinished(sheet, sweep.progress)
    return sheet


def _check_figure(name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = did_you_mean(name, known)
        raise ValueError(f"figure: must be one of {', '.join(known)}, got {name!r}{near}; choose one of these")


def _check_options(figures: Iterable[str], options: Mapping[str, object]) -> None:
    for option, value in options.items():
        able = [figure for figure, taken in OPTIONS.items() if option in taken]
        if value and not set(figures) & set(able):
            raise ValueError(f"{option}: is an option of {', '.join(able)}, got {', '.join(figures)}; leave it out")


def _write_page(sweep: Sweep, folder: Path) -> Path:
    path = folder / f"{PAGE}.html"
    path.write_text(interactive.of_sweep(sweep), encoding="utf-8")
    return path


def _draw(sweep: Sweep, name: str, stem: Path, asked: bool, **options: str | None) -> Drawn:
    """PNG, SVG and CSV of one figure; nothing when it is neither asked for nor natural here."""
    module = FIGURES[name]
    try:
        summary = module.of_sweep(sweep, **options)
    except style.Absent as absent:
        sheet = style.notice(f"{sweep.name}: {absent}. {sweep.progress}", name.replace("_", " "))
        return Drawn(_save(sheet, stem), ((stem.name, str(absent)),)) if asked else Drawn()
    sheet = module.figure(summary)
    style.mark_unfinished(sheet, sweep.progress)
    numbers = stem.with_name(f"{stem.name}.csv")
    summary.table.to_csv(numbers, index=False)
    return Drawn((*_save(sheet, stem), numbers))


@style.applied()
def _save(sheet: Figure, stem: Path) -> tuple[Path, ...]:
    paths = tuple(stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg"))
    for path in paths:
        sheet.savefig(path)
        sheet.set_layout_engine("none")  # laid out once: it is half the time of drawing
    return paths


def _check_alone(chosen: argparse.Namespace, thresholds: Mapping[str, float]) -> None:
    """The report takes no figure and no option of one."""
    given = [*chosen.figures, *(f"--{name.replace('_', '-')}" for name in thresholds)]
    given += [f"--{name}" for name in ("outcome", "x", "y") if getattr(chosen, name)]
    if given:
        raise ValueError(f"replicate: takes --tracking-uri and --out alone, got {', '.join(given)}; leave it out")


@piped
def main(arguments: Sequence[str] | None = None, prog: str = f"python -m {__package__}") -> int:
    """The command. Exit status 2 for bad input, 3 where a figure named cannot be drawn. ``prog``: how it was called."""
    parser = Parser(prog=prog, description="Draws the figures of a sweep, and writes its table and their numbers.")
    parser.add_argument("name", metavar="NAME", help="the sweep, an MLflow experiment; or the word replicate")
    parser.add_argument("figures", metavar="FIGURE", nargs="*", help=f"only these: {', '.join([*FIGURES, PAGE])}")
    parser.add_argument("--tracking-uri", default=None, help=f"MLflow store (default: {default_uri()})")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder to write into (default: figures/NAME; with other thresholds a folder of these below it, such as "
        "figures/NAME/grok_threshold=0.95; docs for replicate)",
    )
    parser.add_argument(
        "--outcome",
        metavar="NAME",
        action="append",
        default=[],
        help="a recorded number: draw its outcome_map; repeatable",
    )
    for side in ("x", "y"):
        able = ", ".join(figure for figure, taken in OPTIONS.items() if side in taken)
        parser.add_argument(f"--{side}", metavar="AXIS", help=f"{side} axis of {able}; or a ratio, width/modulus")
    for setting in resummarize.SETTINGS:
        parser.add_argument(
            f"--{setting.replace('_', '-')}",
            type=KINDS[setting],
            metavar="VALUE",
            help="read all again from the logged curves, into a folder of its own",
        )
    parser.add_argument("--no-captions", action="store_true", help="figures without the words below them")
    chosen = parser.parse_args(arguments)
    thresholds = {s: getattr(chosen, s) for s in resummarize.SETTINGS if getattr(chosen, s) is not None}
    try:
        with terminal.Doing(f"{chosen.name}: drawing", plain=False), style.captions(not chosen.no_captions):
            if chosen.name == "replicate":
                _check_alone(chosen, thresholds)
                drawn = Drawn(tuple(replicate.write(chosen.out or Path("docs"), chosen.tracking_uri)))
            else:
                view = {"outcomes": chosen.outcome, "x": chosen.x, "y": chosen.y}
                drawn = draw_named(chosen.name, chosen.figures, chosen.tracking_uri, chosen.out, thresholds, **view)
    except ValueError as fault:
        print(fault, file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in drawn.paths))
    if thresholds and not chosen.out:
        folder = default_folder(chosen.name, thresholds)
        print(f"{chosen.name}: read again, into {folder}; the figures as recorded are left alone", file=sys.stderr)
    for picture, reason in drawn.absent if chosen.figures or chosen.outcome else ():
        why = f"{picture} cannot be drawn, because {reason}; {picture}.png says so too"
        print(f"{chosen.name}: {why}", file=sys.stderr)
    return 0 if all(_is_drawn(figure, drawn.paths) for figure in chosen.figures) else ABSENT


def _is_drawn(figure: str, paths: Iterable[Path]) -> bool:
    """Beside each figure stand its numbers, but beside one that only says why it cannot be drawn, and the page."""
    return figure == PAGE or any(path.suffix == ".csv" and path.stem.startswith(figure) for path in paths)


if __name__ == "__main__":
    sys.exit(main())
