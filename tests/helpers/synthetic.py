"""Made-up results that look like real ones, in a table or recorded in MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from phasemap.plan.outcome import Outcome, Result
from phasemap.plan.trial import FIELDS, Trial
from phasemap.record.reader import COLUMNS, NOTES
from phasemap.record.writer import Recorder

BASE = Trial(
    model="mlp", modulus=59, learning_rate=1e-2, beta2=0.98, data_fraction=0.4, steps=3_000, evaluate_every=100
)
DECAYS = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0)
WIDTHS = (32, 64, 128, 192, 256)
AXES = ("weight_decay", "width", "seed")
PUBLISHED = {"width": 128, "depth": 2, "heads": 4, "model": "transformer", "learning_rate": 1e-3, "weight_decay": 1.0}


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
    words = ("phase", "ending", "failure", "fault", "redefined", "trial", "run_id", "status", *NOTES)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({n: float for n in COLUMNS if n not in words and n not in FIELDS})


def result(trial: Trial, outcome: Outcome, lines: bool = False, **notes: str) -> Result:
    """What a training hands to the recorder; ``lines``: with its curves."""
    drawn = curves(trial, outcome) if lines else {}
    told = {key: (tuple(x for x, _ in line), tuple(y for _, y in line)) for key, line in drawn.items()}
    return Result(trial, outcome, told, notes)


def record(uri: str, name: str, *results: Result, axes: tuple[str, ...] = AXES, **more: Any) -> None:
    """A sweep of these results, written by the recorder into the store."""
    with Recorder(name, uri, axes, "space = Space()", **more) as recorder:
        for one in results:
            recorder.result(one)


def success(n: int, of: int, **fields: Any) -> list[tuple[Trial, Outcome]]:
    """The published network over seeds: the first n end high, the others in a dip."""
    settings: dict[str, Any] = {"steps": 150_000} | PUBLISHED | fields
    trials = [Trial(seed=s, **settings) for s in range(of)]
    grown = {"phase": "grokking", "grok_step": 9_000, "final_test_accuracy": 1.0}
    lost = {"phase": "collapse", "grok_step": 9_000, "final_test_accuracy": 0.3}
    more = {"ending": "budget", "steps_run": fields.get("steps", 150_000), "oscillations": 15}
    return [(t, Outcome(**(grown if t.seed < n else lost), **more)) for t in trials]
