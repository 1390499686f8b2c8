"""``python -m analysis NAME [FIGURE…]``: one sweep's table, figures and the numbers behind them.

``python -m analysis replicate`` writes the report on the published claims instead.

Reads MLflow once and writes files; what each figure shows is decided in its own module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from matplotlib.figure import Figure

from phasemap.plan.trial import KINDS
from phasemap.record.reader import Sweep, default_uri, read, write

from . import (
    bottleneck,
    boundary_position,
    data_fraction,
    dimension_collapse,
    grok_step_map,
    hidden_picture,
    interactive,
    learnability,
    learning_curves,
    phase_diagram,
    precision,
    probability_map,
    replicate,
    resummarise,
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
        probability_map,
        boundary_position,
        grok_step_map,
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


def draw_all(name: str, tracking_uri: str | None = None, out: Path | str | None = None) -> list[Path]:
    """Writes table and natural figures of the sweep into a folder; returns every path written."""
    return draw_named(name, (), tracking_uri, out)


def draw_named(
    name: str,
    figures: Sequence[str] = (),
    tracking_uri: str | None = None,
    out: Path | str | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> list[Path]:
    """As ``draw_all`` for the figures named; one that this sweep cannot have says why.

    With ``thresholds`` (see ``resummarise.py``) all is summarised anew from the logged curves.

    Raises:
        ValueError: no such experiment, store, figure or threshold.
    """
    unknown = [f for f in figures if f not in (*FIGURES, PAGE)]
    if unknown:
        raise ValueError(f"figure: must be one of {', '.join([*FIGURES, PAGE])}, got {', '.join(unknown)}")
    sweep = read(name, tracking_uri)
    if thresholds:
        sweep = resummarise.resummarise(sweep, **thresholds)
    folder = Path(out) if out else Path("figures") / name
    paths = write(sweep.trials, folder)
    for figure in figures or (*FIGURES, PAGE):
        if figure == PAGE:
            paths += _write_page(sweep, folder)
        else:
            paths += _draw(sweep, figure, folder, asked=bool(figures) or figure == "phase_diagram")
    return paths


def figure_of(sweep: Sweep, name: str) -> Figure:
    """One figure of a sweep.

    Raises:
        ValueError: no such figure, or this sweep cannot have it.
    """
    if name not in FIGURES:
        raise ValueError(f"figure: must be one of {', '.join(FIGURES)}, got {name!r}; choose one of these")
    try:
        sheet = FIGURES[name].figure(FIGURES[name].of_sweep(sweep))
    except style.Absent as absent:
        raise ValueError(f"{sweep.name}: {name} cannot be drawn, because {absent}") from absent
    style.mark_unfinished(sheet, sweep.progress)
    return sheet


def _write_page(sweep: Sweep, folder: Path) -> list[Path]:
    path = folder / f"{PAGE}.html"
    path.write_text(interactive.of_sweep(sweep), encoding="utf-8")
    return [path]


def _draw(sweep: Sweep, name: str, folder: Path, asked: bool) -> list[Path]:
    """PNG, SVG and CSV of one figure; nothing when it is neither asked for nor natural here."""
    module = FIGURES[name]
    try:
        summary = module.of_sweep(sweep)
    except style.Absent as absent:
        sheet = style.notice(f"{sweep.name}: {absent}. {sweep.progress}", name.replace("_", " "))
        return _save(sheet, folder / name) if asked else []
    sheet = module.figure(summary)
    style.mark_unfinished(sheet, sweep.progress)
    numbers = folder / f"{name}.csv"
    summary.table.to_csv(numbers, index=False)
    return [*_save(sheet, folder / name), numbers]


@style.applied()
def _save(sheet: Figure, stem: Path) -> list[Path]:
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in paths:
        sheet.savefig(path)
        sheet.set_layout_engine("none")  # laid out once: it is half the time of drawing
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for bad input."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("name", metavar="NAME", help="the sweep, an MLflow experiment; or the word replicate")
    parser.add_argument("figures", metavar="FIGURE", nargs="*", help=f"only these: {', '.join([*FIGURES, PAGE])}")
    parser.add_argument("--tracking-uri", default=None, help=f"MLflow store (default: {default_uri()})")
    parser.add_argument(
        "--out", type=Path, default=None, help="folder to write into (default: figures/NAME; docs for replicate)"
    )
    for setting in resummarise.SETTINGS:
        parser.add_argument(
            f"--{setting.replace('_', '-')}",
            type=KINDS[setting],
            metavar="VALUE",
            help="read anew from the logged curves",
        )
    parser.add_argument("--no-captions", action="store_true", help="figures without the words below them")
    chosen = parser.parse_args(arguments)
    thresholds = {s: getattr(chosen, s) for s in resummarise.SETTINGS if getattr(chosen, s) is not None}
    try:
        with style.captions(not chosen.no_captions):
            if chosen.name == "replicate":
                paths = replicate.write(chosen.out or Path("docs"), chosen.tracking_uri)
            else:
                paths = draw_named(chosen.name, chosen.figures, chosen.tracking_uri, chosen.out, thresholds)
    except ValueError as fault:
        print(fault, file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
