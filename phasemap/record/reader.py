"""Reads one MLflow experiment into one tidy table, a row per trial, and the curves of its runs.

It aggregates nothing and draws nothing: statistics and figures stand in ``analysis``.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

from phasemap.record import client as store  # first: it sets what MLflow reads when imported  # isort: skip
import pandas as pd
import sqlalchemy as sql
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from phasemap.plan.asked import Asked, strays
from phasemap.plan.outcome import CURVES, DEFINITIONS, PICTURE_FILE, WORDS, is_curve, other_definitions
from phasemap.plan.phases import PHASES
from phasemap.plan.trial import FIELDS, KINDS
from phasemap.record.client import default_uri
from phasemap.words import count, did_you_mean

OUTCOMES = tuple(DEFINITIONS)
NOTES = ("product", "engine", "device", "torch")  # tags of a run: what its last bits depend on
POINT = ("run_uuid", "key", "step", "value", "is_nan", "timestamp")  # columns of MLflow's table of metrics
COLUMNS = ("trial", "run_id", "status", "failure", "fault", "redefined", *FIELDS, *OUTCOMES, *NOTES)


@dataclass(frozen=True)
class Sweep:
    """A sweep as recorded so far.

    ``trials`` has a row per finished or failed trial and the columns ``COLUMNS``, of which ``redefined`` names the
    outcomes (comma between them) that are left out because they meant something else then; ``axes`` are the
    fields that vary, in the order they were declared, the seed included; ``running`` counts the
    runs not yet ended; ``planned`` is the number of trials in the space, where it is known.
    """

    name: str
    axes: tuple[str, ...]
    trials: pd.DataFrame
    running: int = 0
    planned: int | None = None
    tracking_uri: str = ""
    experiment_id: str = ""
    phases: tuple[str, ...] = PHASES  # what a trial's phase may be
    outdated: int = 0  # trials of a user's code that has changed since
    strays: int = 0  # trials that its space does not ask for
    stray_fields: tuple[str, ...] = ()  # in what they differ
    redefined: Mapping[str, int] = field(default_factory=dict)  # outcome -> trials that recorded an older meaning of it

    @property
    def cell_axes(self) -> tuple[str, ...]:
        """The axes a cell is a point of: all but the seed, and only those with two values or more."""
        table = self.trials if self.finished.empty else self.finished
        return tuple(a for a in self.axes if a != "seed" and table[a].nunique() > 1)

    @property
    def finished(self) -> pd.DataFrame:
        """The trials that ran to their end; the failed ones have no outcome."""
        return self.trials[self.trials.status == "FINISHED"]

    @property
    def progress(self) -> str:
        """One sentence when trials are missing, failed, or computed in more than one way, else the empty text."""
        done, failed = len(self.finished), len(self.trials) - len(self.finished)
        notes = [f"{failed} failed and left out"] if failed else []
        notes += [f"{self.outdated} recorded under other code and left out"] if self.outdated else []
        if self.strays:
            notes += [f"{self.strays} recorded with other {', '.join(self.stray_fields)} and left out"]
        notes += [f"{count} with an older {name}, left out" for name, count in self.redefined.items()]
        if self.planned is not None and done + failed < self.planned:
            notes.insert(0, f"unfinished sweep: {done} of {count(self.planned, 'trial')}")
        elif self.planned is None and self.running:
            notes.insert(0, f"unfinished sweep: {count(done, 'trial')} done, {self.running} running")
        ways = {name: sorted(self.finished[name].dropna().unique()) for name in NOTES}
        notes += [f"more than one {name}: {' and '.join(values)}" for name, values in ways.items() if len(values) > 1]
        return ", ".join(notes)


def read(name: str, tracking_uri: str | None = None, everything: bool = False) -> Sweep:
    """The sweep of this name, as its space files ask for it now; with ``everything``, also the trials of other
    budgets, of other fixed values and of values that an axis has lost since.

    Raises:
        ValueError: no such experiment or store, or a trial with two finished runs.
    """
    uri = tracking_uri or default_uri()
    client = store.connect(uri, new=False)
    experiment = _experiment(client, name, uri)
    parent = store.parent_of(client, experiment)
    runs = store.search(client, experiment, "tags.`phasemap.kind` = 'trial'")
    tags = parent.data.tags if parent else {}
    same = [run for run in runs if _same_code(run.data.tags, tags)]
    asks = [] if everything else list(json.loads(tags.get("phasemap.space", "{}")).values())
    differing = {run.info.run_id: _stray(asks, run.data.params) for run in same}
    current = [run for run in same if not differing[run.info.run_id]]
    left_out = [run for run in same if differing[run.info.run_id] and _counts(run)]
    trials = _refuse_doubled(tabulate(current), name)
    phases = tuple(json.loads(tags.get("phasemap.phases", "null")) or PHASES)
    trials.attrs["phases"] = phases  # a figure is made from the table alone
    return Sweep(
        name=name,
        axes=_axes(tags.get("phasemap.axes", ""), trials),
        trials=trials,
        phases=phases,
        outdated=sum(_counts(run) for run in runs) - sum(_counts(run) for run in same),
        strays=len(left_out),
        stray_fields=tuple(sorted({name for run in left_out for name in differing[run.info.run_id]})),
        redefined=Counter(name for run in current if _counts(run) for name in _older(run)),
        running=sum(run.info.status == "RUNNING" for run in runs),
        planned=int(tags["phasemap.trials"]) if tags.get("phasemap.trials", "").isdigit() else None,
        tracking_uri=uri,
        experiment_id=experiment,
    )


def _same_code(tags: Mapping[str, str], parent: Mapping[str, str]) -> bool:
    """Whether a trial was recorded under the code that its sweep has now."""
    now, then = (json.loads(one.get("phasemap.code", "{}")) for one in (parent, tags))
    return all(then.get(part, code) == code for part, code in now.items())


def _stray(asks: Iterable[Asked], params: Mapping[str, str]) -> list[str]:
    """In what a trial differs from the nearest of what was asked for; nothing where it was asked for."""
    return min((strays(one, params) for one in asks), key=len, default=[])


@dataclass(frozen=True)
class KeptTrial:
    """What the record has of a trial whose weights are kept."""

    trial: str
    run_id: str
    weights: str  # the place of their files
    params: Mapping[str, str]
    code: Mapping[str, str]  # as ``Trial.code``


def kept(trial: str, tracking_uri: str | None = None) -> KeptTrial:
    """A finished trial, by its id or the id of its run, in any sweep of the store.

    Raises:
        ValueError: no such trial or store, or nothing of it is kept.
    """
    uri = tracking_uri or default_uri()
    client = store.connect(uri, new=False)
    tag = "tags.`phasemap.trial`" if re.fullmatch(r"[0-9a-f]{16}", trial) else "attributes.run_id"
    if not re.fullmatch(r"[0-9a-f]{16}|[0-9a-f]{32}", trial):
        raise ValueError(f"trial {trial!r}: must be the id of a trial (16 of 0-9a-f) or of a run (32); copy one")
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = list(client.search_runs(experiments, f"{tag} = '{trial}' and attributes.status = 'FINISHED'"))
    if not runs:
        raise ValueError(f"trial {trial}: must be recorded in {store.redacted(uri)}, got none; check id and store")
    run = max(runs, key=lambda run: "phasemap.weights" in run.data.tags)
    tags = run.data.tags
    if "phasemap.weights" not in tags:
        cure = "run its sweep with --keep-weights final --retrain"
        raise ValueError(f"trial {trial}: must have kept weights, got none; {cure}")
    code = json.loads(tags.get("phasemap.code", "{}"))
    return KeptTrial(tags["phasemap.trial"], run.info.run_id, tags["phasemap.weights"], run.data.params, code)


def space_source(run_id: str, tracking_uri: str | None = None) -> str:
    """The text of the search space that the sweep of a run was started with last; empty where there is none."""
    client = store.connect(tracking_uri or default_uri(), new=False)
    parent = client.get_run(run_id).data.tags.get("mlflow.parentRunId", "")
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(parent, "search_space.py", folder)).read_text(encoding="utf-8")
    except (OSError, MlflowException):
        return ""


def load_table(name: str, tracking_uri: str | None = None) -> pd.DataFrame:
    """Only the table of ``read``: a row per finished or failed trial, the columns ``COLUMNS``."""
    return read(name, tracking_uri).trials


def experiments(tracking_uri: str | None = None) -> list[str]:
    """Names of all experiments in the store, sorted."""
    client = store.connect(tracking_uri or default_uri(), new=False)
    return sorted(e.name for e in client.search_experiments())


def load_curves(run_ids: Iterable[str], tracking_uri: str | None = None, keys: Iterable[str] = CURVES) -> pd.DataFrame:
    """Tidy frame (run_id, key, step, value) of whole curves, sorted; steps are optimizer steps.

    An SQL store is read in a few queries, whatever the number of runs; a tracking server is asked
    once per run and key. A point logged twice counts once, as logged last.
    """
    uri, wanted, names = tracking_uri or default_uri(), list(run_ids), list(keys)
    points = _sql_points(uri, wanted, names) if urlparse(uri).scheme.split("+")[0] in store.SQL else None
    if points is None:
        points = _served_points(uri, wanted, names)
    order = ["run_id", "key", "step", "timestamp"]
    latest = points.sort_values(order).drop_duplicates(order[:3], keep="last")
    return latest.drop(columns="timestamp").reset_index(drop=True)


def load_pictures(run_ids: Iterable[str], tracking_uri: str | None = None) -> pd.DataFrame:
    """Tidy frame (run_id, x, y, class) of the hidden vectors on a plane, of the runs that logged them."""
    client = store.connect(tracking_uri or default_uri(), new=False)
    frames = []
    for run in run_ids:
        if any(file.path == PICTURE_FILE for file in client.list_artifacts(run)):
            with tempfile.TemporaryDirectory() as folder:
                frames.append(pd.read_csv(client.download_artifacts(run, PICTURE_FILE, folder)).assign(run_id=run))
    return pd.concat(frames) if frames else pd.DataFrame(columns=["run_id", "x", "y", "class"])


def write(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes ``trials.csv`` and ``trials.parquet``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    csv, parquet = folder / "trials.csv", folder / "trials.parquet"
    table.to_csv(csv, index=False)
    table.to_parquet(parquet, index=False)
    return [csv, parquet]


def tabulate(runs: Iterable[Run]) -> pd.DataFrame:
    """A row per finished or failed run. Settings have the type of their field's default, a setting
    that the run does not know has that default; numeric outcomes are floats, NaN where absent, those of the
    user's probes last."""
    ended = [run for run in runs if _counts(run)]
    measured = {name for run in ended for name in run.data.metrics if "/" not in name}
    own = sorted(measured - {*COLUMNS, *CURVES})  # of the user's probes
    settings = sorted({name for run in ended for name in run.data.params} - {*COLUMNS})  # of the user's components
    frame = pd.DataFrame([_row(run) for run in ended], columns=[*COLUMNS, *settings, *own])
    frame.attrs["settings"] = settings
    for name in settings:
        frame[name] = _typed(frame[name])
    frame = typed_fields(frame)
    numbers = [name for name in (*OUTCOMES, *own) if name not in WORDS]
    return frame.astype(dict.fromkeys(numbers, float))


def settings(table: pd.DataFrame) -> tuple[str, ...]:
    """Columns of the table that were set and not measured: the fields, then those of the user's components."""
    return (*FIELDS, *table.attrs.get("settings", ()))


def own_numbers(table: pd.DataFrame) -> list[str]:
    """Columns of the table that the user's probes measured."""
    known = {*COLUMNS, *settings(table)}
    return [name for name in table if name not in known and pd.api.types.is_numeric_dtype(table[name])]


def typed_fields(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with our fields, text as recorded, in their types; one that is absent has its default."""
    for name, kind in KINDS.items():
        values = frame[name].fillna(str(FIELDS[name].default))
        if kind is bool:
            frame[name] = values == "True"
        elif kind is int:
            frame[name] = values.astype(float).astype("int64")
        else:
            frame[name] = values.astype(kind)
    return frame


def _typed(values: pd.Series) -> pd.Series:
    """A setting of the user's, recorded as text: truths, whole numbers, numbers, or words."""
    known = values.dropna()
    if known.isin(["True", "False"]).all():
        return values == "True"
    with contextlib.suppress(ValueError):
        return pd.to_numeric(values)  # whole numbers where all are
    return values


def _counts(run: Run) -> bool:
    """Ended, and not robbed of its tag by hand."""
    return run.info.status in ("FINISHED", "FAILED") and "phasemap.trial" in run.data.tags


def _row(run: Run) -> dict[str, object]:
    tags, metrics = run.data.tags, run.data.metrics
    own = {"trial": tags.get("phasemap.trial"), "run_id": run.info.run_id, "status": run.info.status}
    words = {name: tags.get(name) for name in ("failure", *WORDS)}
    words |= {name: tags.get(f"phasemap.{name}") for name in ("fault", *NOTES)}
    left_out = _older(run)
    words["redefined"] = ",".join(sorted(left_out)) or None
    if words["phase"] == "diverged":  # its curves end before it does: their last points are no outcomes
        left_out |= {name for name in metrics if is_curve(name)}
    return own | words | {name: value for name, value in metrics.items() if name not in left_out} | run.data.params


def _older(run: Run) -> set[str]:
    """Outcomes of a run that meant something else when it was recorded."""
    return other_definitions(run.data.tags.get("phasemap.definitions")) & run.data.metrics.keys()


def _refuse_doubled(trials: pd.DataFrame, name: str) -> pd.DataFrame:
    """A trial that failed and was run again counts once, by its finished run."""
    finished = trials[trials.status == "FINISHED"]
    doubled = finished[finished.trial.duplicated(keep=False)]
    if len(doubled):
        pairs = "; ".join(f"trial {t}: runs {', '.join(g.run_id)}" for t, g in doubled.groupby("trial"))
        raise ValueError(
            f"{name}: a trial must have one finished run, got {pairs}; delete all but one of them in MLflow"
        )
    failed = trials[(trials.status == "FAILED") & ~trials.trial.isin(finished.trial)].drop_duplicates("trial")
    return (
        pd.concat([finished, failed]).sort_index().reset_index(drop=True)
        if len(failed)
        else finished.reset_index(drop=True)
    )


def _axes(declared: str, trials: pd.DataFrame) -> tuple[str, ...]:
    known = settings(trials)
    names = tuple(n.strip() for n in declared.split(",") if n.strip() in known)
    return names or tuple(n for n in known if trials[n].nunique() > 1)


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    place = store.redacted(uri)
    try:
        experiment = client.get_experiment_by_name(name)
        known = [] if experiment else sorted(e.name for e in client.search_experiments())
    except MlflowException as error:
        raise ValueError(
            f"tracking store: must answer, got {place} ({store.short(error)}); check --tracking-uri"
        ) from error
    if experiment is None:
        near = did_you_mean(name, known)
        there = ", ".join(known) or "none"
        raise ValueError(f"experiment: must exist in {place}, got {name!r}{near}; there are {there}")
    return experiment.experiment_id


def _sql_points(uri: str, runs: list[str], keys: list[str]) -> pd.DataFrame | None:
    """Points as MLflow's own table has them (a reach-in, docs/reach-ins.md). None where it has another one: MLflow is
    then asked, run by run."""
    query = sql.text(f"SELECT {', '.join(POINT)} FROM metrics WHERE run_uuid IN :runs AND key IN :keys").bindparams(
        sql.bindparam("runs", expanding=True), sql.bindparam("keys", expanding=True)
    )
    with store.sql_connection(uri) as connection:
        inspector = sql.inspect(connection)
        known = {one["name"] for one in inspector.get_columns("metrics")} if inspector.has_table("metrics") else set()
        if not set(POINT) <= known:
            return None
        pages = [
            pd.read_sql_query(query, connection, params={"runs": runs[i : i + 500], "keys": keys})
            for i in range(0, max(len(runs), 1), 500)
        ]
    points = pd.concat(pages)
    points = points.assign(value=points.value.mask(points.is_nan.astype(bool))).drop(columns="is_nan")
    return points.rename(columns={"run_uuid": "run_id"})


def _served_points(uri: str, runs: list[str], keys: list[str]) -> pd.DataFrame:
    client = store.connect(uri, new=False)
    rows = [
        (run, key, point.step, point.value, point.timestamp)
        for run in runs
        for key in keys
        for point in client.get_metric_history(run, key)
    ]
    return pd.DataFrame(rows, columns=["run_id", "key", "step", "value", "timestamp"])
