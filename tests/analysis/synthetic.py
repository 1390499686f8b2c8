"""Made-up sweeps that look like real ones, and a writer of the recorder's schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from phasemap.plan.outcome import DEFINITION_VERSIONS, Outcome
from phasemap.plan.trial import FIELDS, Trial
from phasemap.record.reader import COLUMNS, NOTES

BASE = Trial(
    model="mlp", modulus=59, learning_rate=1e-2, beta2=0.98, data_fraction=0.4, steps=3_000, evaluate_every=100
)
DECAYS = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0)
WIDTHS = (32, 64, 128, 192, 256)


def wd_width(seeds: int = 5) -> list[tuple[Trial, Outcome]]:
    """8 weight decays x 5 widths: memorization below, grokking between, confusion above."""
    spots = [(d, w, s) for d in DECAYS for w in WIDTHS for s in range(seeds)]
    return [made(BASE.replace(weight_decay=d, width=w, seed=s)) for d, w, s in spots]


def made(trial: Trial) -> tuple[Trial, Outcome]:
    """The outcome of a trial under a smooth law with seeded noise."""
    rng = np.random.default_rng(int(trial.id, 16) % 2**32)
    pull = np.log2(trial.weight_decay) + 0.25 * np.log2(trial.width / 128) + rng.normal(0, 0.35)
    common = {"ending": "budget", "steps_run": 3_000, "parameters": 59 * 2 * trial.width + trial.width * 59}
    memorized = int(np.clip(round(rng.normal(3, 1)), 1, 6)) * 100
    dimension = float(rng.integers(30, 60))
    if pull > 1.1 or (trial.width < 48 and pull > 0.6):
        accuracy = float(rng.uniform(0.01, 0.3))
        return trial, Outcome(
            phase="confusion",
            final_train_accuracy=accuracy,
            final_test_accuracy=accuracy / 2,
            intrinsic_dimension=5.0,
            **common,
        )
    step = int(np.ceil(1_300 * 2 ** (-0.9 * pull) * rng.lognormal(0, 0.2) / 100)) * 100
    if step > 3_000:
        accuracy = float(rng.uniform(0.02, 0.5))
        return trial, Outcome(
            phase="memorization",
            memorization_step=memorized,
            final_train_accuracy=1.0,
            final_test_accuracy=accuracy,
            intrinsic_dimension=dimension,
            **common,
        )
    settled = {"memorization_step": memorized, "grok_step": step, "settled_step": step, "final_train_accuracy": 1.0}
    phase = "grokking" if step - memorized >= 1_000 else "comprehension"
    return trial, Outcome(
        phase=phase, final_test_accuracy=float(rng.uniform(0.95, 1.0)), intrinsic_dimension=9.0, **settled, **common
    )


def curves(trial: Trial, outcome: Outcome) -> dict[str, list[tuple[int, float]]]:
    """Curves that end in the outcome."""
    steps = np.arange(100, trial.steps + 1, 100)
    rng = np.random.default_rng(trial.seed)
    rise = 1 / (1 + np.exp(-(steps - (outcome.grok_step or 30_000)) / 80 - 2.2))
    learned = 1 / (1 + np.exp(-(steps - (outcome.memorization_step or 20_000)) / 40 - 2.2))
    test = np.clip(rise + rng.normal(0, 0.01, len(steps)), 0.01, 1)
    lines = {
        "train_accuracy": np.clip(learned + 0.02, 0, 1),
        "test_accuracy": test,
        "train_loss": 4 * (1 - 0.999 * learned),
        "test_loss": 6 * (1 - 0.97 * rise),
        "intrinsic_dimension": np.round(60 - 48 * rise - 10 * steps / 3000),
    }
    return {key: list(zip(steps.tolist(), map(float, line), strict=True)) for key, line in lines.items()}


def frame(pairs: Iterable[tuple[Trial, Outcome]]) -> pd.DataFrame:
    """The tidy table that reading these trials back gives."""
    rows = [
        {"trial": t.id, "run_id": f"run{i:04}", "status": "FINISHED", "failure": None}
        | {name: getattr(t, name) for name in FIELDS}
        | dict(o.values)
        for i, (t, o) in enumerate(pairs)
    ]
    words = ("phase", "ending", "failure", "trial", "run_id", "status", *NOTES)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({n: float for n in COLUMNS if n not in words and n not in FIELDS})


class Store:
    """A real MLflow database in a folder, written the way the recorder writes."""

    def __init__(self, folder: Path, name: str = "sweep", axes: str = "weight_decay,width,seed"):
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)
        self.experiment = self.client.create_experiment(name, str(folder / "artifacts"))
        tags = {"phasemap.kind": "sweep", "phasemap.axes": axes, "mlflow.runName": name}
        self.parent = self.client.create_run(self.experiment, tags=tags).info.run_id

    def add(
        self, trial: Trial, outcome: Outcome | None, status: str = "FINISHED", failure: str = "", lines: bool = True
    ) -> str:
        """One child run; no outcome means that it failed or still runs."""
        tags = {"phasemap.kind": "trial", "mlflow.parentRunId": self.parent, "phasemap.trial": trial.id}
        tags |= {"failure": failure} if failure else {}
        tags |= {"phasemap.definitions": json.dumps(DEFINITION_VERSIONS)}
        run = self.client.create_run(self.experiment, tags=tags).info.run_id
        params = [Param(name, str(getattr(trial, name))) for name in FIELDS]
        told = outcome.values if outcome else {}
        words = [RunTag(k, v) for k, v in told.items() if isinstance(v, str)]
        drawn = curves(trial, outcome) if outcome and lines else {}
        points = [Metric(k, y, 1, x) for k, line in drawn.items() for x, y in line]
        points += [Metric(k, float(v), 2, trial.steps) for k, v in told.items() if not isinstance(v, str)]
        for i in range(0, max(len(points), 1), 1000):
            self.client.log_batch(run, points[i : i + 1000], params if i == 0 else [], words if i == 0 else [])
        if status != "RUNNING":
            self.client.set_terminated(run, status)
        return run
