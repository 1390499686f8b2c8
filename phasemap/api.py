"""phasemap from Python: ``sweep = phasemap.run(space, name="...")`` in a script or a notebook, and its results."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phasemap.command.figures import analysis
from phasemap.plan.space import Space

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from phasemap.maps.phase_map import PhaseMap


def run(space: Space, name: str, **given: Any) -> Results:
    """Runs what is missing of a sweep, as the command does, and returns its results.

    Run it again to continue. Interrupting it (Ctrl-C, the notebook's stop button) keeps all progress.

    Args:
        space: what to run.
        name: of the sweep and its MLflow experiment.
        **given: the options of the command, with underscores: ``local=True``, ``tracking_uri=...``, ``figures=False``.

    Raises:
        Fault: a broken rule or an unknown option, all faults at once.
        ValueError: a store, a cluster or a folder that cannot be used.
    """
    from phasemap.command.execution import execute
    from phasemap.command.options import check_name, options

    check_name(name)
    chosen = options(given)
    status = execute(name, space, chosen, _source(space), sys.argv[0] or "python")
    return Results(name, chosen.tracking_uri or None, status)


def _source(space: Space) -> str:
    """What the record keeps of a space that no file holds."""
    code = [f"# {part.kind} {part.name}: {part.code}" for part in space.parts]
    return "\n".join([f"# run from Python: {sys.argv[0]}", *code, f"Space({space.values!r})"])


@dataclass(frozen=True)
class Results:
    """What a sweep has given so far. ``status``: 0 all recorded, 1 some trials failed, 130 interrupted."""

    name: str
    tracking_uri: str | None = None
    status: int = 0

    @property
    def table(self) -> pd.DataFrame:
        """The finished trials, as ``phasemap.load`` gives them."""
        return load(self.name, self.tracking_uri)

    def curves(self, keys: Iterable[str] = ("train_accuracy", "test_accuracy")) -> pd.DataFrame:
        """Curves of all finished trials: a tidy frame (run_id, key, step, value)."""
        from phasemap.record import reader

        return reader.load_curves(self.table.run_id, self.tracking_uri, keys)

    def figure(
        self, name: str = "phase_diagram", outcome: str | None = None, x: str | None = None, y: str | None = None
    ) -> Figure:
        """One of the figures that ``phasemap figures NAME`` draws.

        Args:
            outcome: the number of an ``outcome_map``, any column of ``table`` that was measured.
            x: axis of a map or a law, as is ``y``; if not given, the first ones that vary.

        Raises:
            ValueError: there is no such figure, outcome or axis, or this sweep cannot have it.
        """
        drawn: Figure = analysis("__main__").figure_of(self._sweep(), name, outcome=outcome, x=x, y=y)
        return drawn

    @property
    def map(self) -> PhaseMap:
        """The fitted map of the phases over the sweep's axes, with its probabilities and boundaries."""
        probability_map, sweep = analysis("probability_map"), self._sweep()
        fitted: PhaseMap = probability_map.fit(sweep.finished, probability_map.natural_axes(sweep)).phases
        return fitted

    def _sweep(self) -> Any:
        from phasemap.record import reader

        return reader.read(self.name, self.tracking_uri)

    def _repr_html_(self) -> str:
        page = html.escape(analysis("interactive").of_sweep(self._sweep()))
        size = 'width="100%" height="640" style="border:0"'
        return f'<iframe srcdoc="{page}" {size} title="{html.escape(self.name)}"></iframe>'


def load(name: str, tracking_uri: str | None = None) -> pd.DataFrame:
    """The finished trials of a sweep: a row per trial, a column per field and outcome (``docs/definitions.md``).

    Outcomes that did not happen are NaN. ``tracking_uri`` as for the command; every figure of ``analysis`` is made
    from this frame: ``phase_diagram.figure(phase_diagram.summarize(load(name), "weight_decay", "width"))``.

    Raises:
        ValueError: no such sweep or store.
    """
    from phasemap.record import reader  # pandas and MLflow come with the first call

    sweep = reader.read(name, tracking_uri)
    return sweep.finished.sort_values(list(sweep.axes), ignore_index=True)
