"""The tables of trials beside the report, ``trials_NAME.csv``: what machines recorded, each trial once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from phasemap.plan.outcome import DEFINITION_VERSIONS, other_definitions
from phasemap.plan.trial import KINDS
from phasemap.record.reader import COLUMNS, experiments, read, typed_fields

from .claims import CLAIMS


def in_store(tracking_uri: str | None = None) -> dict[str, pd.DataFrame]:
    """The finished trials in this store of each experiment that a claim speaks of, where there are any."""
    if not tracking_uri and "MLFLOW_TRACKING_URI" not in os.environ and not Path("mlflow.db").exists():
        return {}  # no store is named, and this folder has none: the tables beside the report alone
    here = set(experiments(tracking_uri))
    tables = {name: read(name, tracking_uri, everything=True).finished for name in sorted(_sweeps() & here)}
    return {name: table for name, table in tables.items() if len(table)}


def gathered(folder: Path, here: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The trials of this store, and those that other machines left in the tables beside the report, each once."""
    tables = {}
    for name in sorted(_sweeps()):
        file = folder / f"trials_{name}.csv"
        parts = [here[name]] if name in here else []
        parts += [kept(file)] if file.exists() else []
        if parts:
            tables[name] = pd.concat(parts, ignore_index=True).drop_duplicates("trial", ignore_index=True)
    return tables


def kept(file: Path) -> pd.DataFrame:
    """A table as ``write`` left it, perhaps years ago: fields that it does not know have their defaults, and outcomes
    that meant something else then are absent and named in ``redefined``."""
    table = pd.read_csv(file, dtype=dict.fromkeys(KINDS, str))
    if "probes" in table:
        table["probes"] = table["probes"].fillna("")  # none; any other empty cell is of a trial from before the field
    versions = table.pop("definitions") if "definitions" in table else pd.Series(None, table.index, dtype=object)
    table["redefined"] = None
    for recorded, rows in table.groupby(versions.fillna("")):
        older = other_definitions(recorded)
        table.loc[rows.index, [*(older & set(table))]] = math.nan
        table.loc[rows.index, "redefined"] = ",".join(sorted(older)) or None
    return typed_fields(table.reindex(columns=[*COLUMNS, *(name for name in table if name not in COLUMNS)]))


def keep(here: pd.DataFrame, file: Path) -> None:
    """Adds trials to a table. The rows of others stay as they are, with the definitions that they were recorded by."""
    versions = here.redefined.fillna("").map(
        lambda older: json.dumps({name: n for name, n in DEFINITION_VERSIONS.items() if name not in older.split(",")})
    )
    fresh = here.drop(columns=["run_id", "redefined"]).dropna(axis=1, how="all").assign(definitions=versions)
    if file.exists():
        before = pd.read_csv(file, dtype=str, keep_default_na=False)
        fresh = pd.concat([fresh, before[~before.trial.isin(fresh.trial)]], ignore_index=True)
    fresh.to_csv(file, index=False)


def _sweeps() -> set[str]:
    return {name for claim in CLAIMS for name in claim.spaces}
