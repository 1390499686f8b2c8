"""phasemap from Python: ``sweep = phasemap.run(space, name="...")`` in a script or a notebook, and its results."""

from __future__ import annotations

import html
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasemap.command.figures import analysis
from phasemap.fields import Fault
from phasemap.plan.space import Space

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

    from phasemap.maps.phase_map import PhaseMap
    from phasemap.plan.component import Component
    from phasemap.record.reader import KeptTrial
    from phasemap.training.weights import Kept


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
    from phasemap.numerics import processor

    check_name(name)
    chosen = options(given)
    processor.let_waiting_threads_yield()
    with processor.threads_restored():
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
            name: a figure; ``phasemap figures --help`` lists them.
            outcome: the number of an ``outcome_map``, any column of ``table`` that was measured.
            x, y: axes of a map or a law; if not given, the first ones that vary.

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

    The axes and ``phase``, ``grok_step`` and ``final_test_accuracy`` stand first, so that a printed table shows them.
    Outcomes that did not happen are NaN. ``tracking_uri`` as for the command; every figure of ``analysis`` is made
    from this frame: ``phase_diagram.figure(phase_diagram.summarize(load(name), "weight_decay", "width"))``.

    Raises:
        ValueError: no such sweep or store.
    """
    from phasemap.record import reader  # pandas and MLflow come with the first call

    sweep = reader.read(name, tracking_uri)
    first = [*sweep.axes, "phase", "grok_step", "final_test_accuracy"]
    columns = [*first, *sweep.finished.columns.difference(first, sort=False)]
    return sweep.finished[columns].sort_values(list(sweep.axes), ignore_index=True)


def weights(trial: str, step: int | None = None, tracking_uri: str | None = None) -> dict[str, Tensor]:
    """Kept weights of a trial: name -> tensor, on the CPU.

    Args:
        trial: its id, or the id of its run, as the columns ``trial`` and ``run_id`` of ``load`` have them.
        step: one of the kept steps; if not given, the last.
        tracking_uri: as for the command.

    Raises:
        ValueError: no such trial, store or step, or nothing of it is kept.
    """
    from phasemap.record import reader
    from phasemap.training import weights as files
    from phasemap.training.checkpoint import Storage

    return files.load(Storage(reader.kept(trial, tracking_uri).weights), step)[1]


def network(
    trial: str,
    step: int | None = None,
    tracking_uri: str | None = None,
    space: Space | None = None,
    execute: bool = False,
) -> Kept:
    """A trial's network as it stood at a kept step: ``network(tokens)`` are logits, ``network.hidden(tokens)`` vectors.

    A built-in network and task are rebuilt from the configuration. Those of your own are code, which the record knows
    by its fingerprint: they are taken from a space, or from the space file that the record keeps.

    Args:
        trial, step, tracking_uri: as of ``weights``.
        space: where the classes and functions of your own stand.
        execute: run the recorded space file for them, as any Python file.

    Raises:
        Fault: the classes and functions are not at hand, or have changed.
        ValueError: as of ``weights``.
    """
    from phasemap.plan.trial import make_trial
    from phasemap.record import reader
    from phasemap.training import weights as files
    from phasemap.training.checkpoint import Storage

    kept = reader.kept(trial, tracking_uri)
    at, tensors = files.load(Storage(kept.weights), step)
    parts = _parts(kept, space, execute, tracking_uri) if kept.code else ()
    return files.Kept(make_trial(kept.params, parts), at, tensors)


def _parts(kept: KeptTrial, space: Space | None, execute: bool, uri: str | None) -> tuple[Component, ...]:
    """The components of the user's that a recorded trial has."""
    if space is None and execute:
        space = _recorded_space(kept.run_id, uri)
    if space is None:
        listed = ", ".join(name.partition(" ")[2] for name in kept.code)
        what = f"trial {kept.trial}: needs the code of {listed}, which is not built in, got none"
        raise Fault([f"{what}; pass space=, or execute=True to run the space file that the record keeps"])
    faults = [
        f"{name}: must be the code that trial {kept.trial} was recorded under, got {space.code.get(name, 'none')} "
        f"(recorded {code}); pass the space that it was run from"
        for name, code in kept.code.items()
        if space.code.get(name) != code
    ]
    if faults:
        raise Fault(faults)
    return space.parts


def _recorded_space(run_id: str, uri: str | None) -> Space:
    from phasemap.plan.space_file import load as read
    from phasemap.plan.space_file import overrides
    from phasemap.record import reader

    source = reader.space_source(run_id, uri)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder).resolve() / "recorded_space.py"
        file.write_text(source, encoding="utf-8")
        try:
            return read(file).override(overrides(source))
        finally:
            if str(file.parent) in sys.path:  # put there for what stands beside a space file: nothing, here
                sys.path.remove(str(file.parent))
