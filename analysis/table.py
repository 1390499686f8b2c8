"""Reads one MLflow experiment into one tidy table, a row per trial, and the curves of its runs.

The only reader of MLflow in this package. It aggregates nothing and draws nothing: statistics
stand in ``statistics.py``, each figure in a file of its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read by mlflow when it is imported

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from phasemap.plan.outcome import CURVES, DEFINITIONS, PICTURE_FILE, WORDS
from phasemap.plan.trial import FIELDS, KINDS
from phasemap.record.writer import default_uri

OUTCOMES = tuple(DEFINITIONS)
NOTES = ("product", "engine", "device", "torch")  # tags of a run: what its last bits hang on
COLUMNS = ("trial", "run_id", "status", "failure", *FIELDS, *OUTCOMES, *NOTES)
PAGE = 1_000  # runs asked for at once; a server refuses more than 50,000
_SQL = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Sweep:
    """A sweep as recorded so far.

    ``trials`` has a row per finished or failed trial and the columns ``COLUMNS``; ``axes`` are the
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

    @property
    def cell_axes(self) -> tuple[str, ...]:
        """The axes a cell is a point of: all but the seed, and only those with two values or more."""
        return tuple(a for a in self.axes if a != "seed" and self.trials[a].nunique() > 1)

    @property
    def finished(self) -> pd.DataFrame:
        """The trials that ran to their end; the failed ones have no outcome."""
        return self.trials[self.trials.status == "FINISHED"]

    @property
    def progress(self) -> str:
        """One sentence when trials are missing, failed, or computed in more than one way, else the empty text."""
        done, failed = len(self.finished), len(self.trials) - len(self.finished)
        notes = [f"{failed} failed and left out"] if failed else []
        if self.planned is not None and done + failed < self.planned:
            notes.insert(0, f"unfinished sweep: {done} of {self.planned} trials")
        elif self.planned is None and self.running:
            notes.insert(0, f"unfinished sweep: {done} trials done, {self.running} running")
        ways = {name: sorted(self.finished[name].dropna().unique()) for name in NOTES}
        notes += [f"more than one {name}: {' and '.join(found)}" for name, found in ways.items() if len(found) > 1]
        return ", ".join(notes)


def read(name: str, tracking_uri: str | None = None) -> Sweep:
    """The sweep of this name.

    Raises:
        ValueError: no such experiment or store, or a trial with two finished runs.
    """
    uri = tracking_uri or default_uri()
    client = _client(uri)
    experiment = _experiment(client, name, uri)
    parents = _runs(client, experiment, "sweep")
    runs = _runs(client, experiment, "trial")
    trials = _refuse_doubled(tabulate(runs), name)
    tags = max(parents, key=lambda run: run.info.start_time).data.tags if parents else {}
    return Sweep(
        name=name,
        axes=_axes(tags.get("phasemap.axes", ""), trials),
        trials=trials,
        running=sum(run.info.status == "RUNNING" for run in runs),
        planned=int(tags["phasemap.trials"]) if tags.get("phasemap.trials", "").isdigit() else None,
        tracking_uri=uri,
        experiment_id=experiment,
    )


def load_table(name: str, tracking_uri: str | None = None) -> pd.DataFrame:
    """Only the table of ``read``: a row per finished or failed trial, the columns ``COLUMNS``."""
    return read(name, tracking_uri).trials


def experiments(tracking_uri: str | None = None) -> list[str]:
    """Names of all experiments in the store, sorted."""
    client = _client(tracking_uri or default_uri())
    return sorted(e.name for e in client.search_experiments())


def load_curves(run_ids: Iterable[str], tracking_uri: str | None = None, keys: Iterable[str] = CURVES) -> pd.DataFrame:
    """Tidy frame (run_id, key, step, value) of whole curves, sorted; steps are optimiser steps.

    An SQL store is read in a few queries, whatever the number of runs; a tracking server is asked
    once per run and key. A point logged twice counts once, as logged last.
    """
    uri, wanted, names = tracking_uri or default_uri(), list(run_ids), list(keys)
    if urlparse(uri).scheme.split("+")[0] in _SQL:
        points = _sql_points(uri, wanted, names)
    else:
        points = _served_points(uri, wanted, names)
    order = ["run_id", "key", "step", "timestamp"]
    latest = points.sort_values(order).drop_duplicates(order[:3], keep="last")
    return latest.drop(columns="timestamp").reset_index(drop=True)


def load_pictures(run_ids: Iterable[str], tracking_uri: str | None = None) -> pd.DataFrame:
    """Tidy frame (run_id, x, y, class) of the hidden vectors on a plane, of the runs that logged them."""
    client = _client(tracking_uri or default_uri())
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
    ended = [run for run in runs if run.info.status in ("FINISHED", "FAILED")]
    found = {name for run in ended for name in run.data.metrics if "/" not in name}
    own = sorted(found - {*COLUMNS, *CURVES})  # of the user's probes
    frame = pd.DataFrame([_row(run) for run in ended], columns=[*COLUMNS, *own])
    for name, kind in KINDS.items():
        values = frame[name].fillna(str(FIELDS[name].default))
        if kind is bool:
            frame[name] = values == "True"
        elif kind is int:
            frame[name] = values.astype(float).astype("int64")
        else:
            frame[name] = values.astype(kind)
    numbers = [name for name in (*OUTCOMES, *own) if name not in WORDS]
    return frame.astype(dict.fromkeys(numbers, float))


def _row(run: Run) -> dict[str, object]:
    tags, metrics = run.data.tags, run.data.metrics
    own = {"trial": tags.get("phasemap.trial"), "run_id": run.info.run_id, "status": run.info.status}
    words = {name: tags.get(name) for name in ("failure", *WORDS)}
    words |= {name: tags.get(f"phasemap.{name}") for name in NOTES}
    return own | words | metrics | run.data.params


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
    names = tuple(n.strip() for n in declared.split(",") if n.strip() in FIELDS)
    return names or tuple(n for n in FIELDS if trials[n].nunique() > 1)


def _client(uri: str) -> MlflowClient:
    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():  # mlflow would create an empty database
        raise ValueError(f"tracking database: must exist, got {path}; run a sweep first, or pass --tracking-uri")
    try:
        return MlflowClient(uri)
    except MlflowException as error:
        raise ValueError(f"tracking store: must be readable, got {uri} ({error}); check --tracking-uri") from error


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    try:
        found = client.get_experiment_by_name(name)
        known = [] if found else sorted(e.name for e in client.search_experiments())
    except MlflowException as error:
        raise ValueError(f"tracking store: must answer, got {uri} ({error}); check --tracking-uri") from error
    if found is None:
        raise ValueError(f"experiment: must exist in {uri}, got {name!r}; there are {', '.join(known) or 'none'}")
    return found.experiment_id


def _runs(client: MlflowClient, experiment: str, kind: str) -> list[Run]:
    runs: dict[str, Run] = {}  # while a sweep is written, pages shift, and a run may stand on two
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`phasemap.kind` = '{kind}'", max_results=PAGE, page_token=token)
        runs |= {run.info.run_id: run for run in page}
        token = page.token
        if not token:
            return list(runs.values())


def _sql_points(uri: str, runs: list[str], keys: list[str]) -> pd.DataFrame:
    import sqlalchemy as sql

    query = sql.text(
        "SELECT run_uuid AS run_id, key, step, value, is_nan, timestamp FROM metrics "
        "WHERE run_uuid IN :runs AND key IN :keys"
    ).bindparams(sql.bindparam("runs", expanding=True), sql.bindparam("keys", expanding=True))
    engine = sql.create_engine(uri)
    with engine.connect() as connection:
        pages = [
            pd.read_sql_query(query, connection, params={"runs": runs[i : i + 500], "keys": keys})
            for i in range(0, max(len(runs), 1), 500)
        ]
    engine.dispose()
    points = pd.concat(pages)
    return points.assign(value=points.value.mask(points.is_nan.astype(bool))).drop(columns="is_nan")


def _served_points(uri: str, runs: list[str], keys: list[str]) -> pd.DataFrame:
    client = _client(uri)
    rows = [
        (run, key, point.step, point.value, point.timestamp)
        for run in runs
        for key in keys
        for point in client.get_metric_history(run, key)
    ]
    return pd.DataFrame(rows, columns=["run_id", "key", "step", "value", "timestamp"])
