"""``Outcome``: what a trial showed, each number defined once. ``Result``: a trial on its way to the record.

Outcome name = MLflow key = table column, everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from phasemap import probes
from phasemap.plan.trial import Trial

PICTURE_FILE = "hidden_picture.csv"  # of a trial with the probe picture, beside its metrics
WORDS = ("phase", "ending")  # the outcomes that are text
EVENTS = ("memorization_step", "grok_step", "settled_step", "takeover_step")  # not there: later than the steps run
# What follows from the curves or from training; ``events.py`` and ``train.py`` compute it. Liu = Liu et al. 2022
# (arXiv 2205.10343). What a probe measures is defined in the probe's file.
OWN = {
    "phase": "Liu et al. 2022: comprehension, grokking (test follows train by delay_limit steps or more), "
    "memorization, confusion; here also collapse (had settled, ends below grok_threshold) and diverged (the "
    "training loss or a weight stopped being finite)",
    "ending": "why training ended: budget, settled (stop_when_settled) or diverged",
    "steps_run": "optimizer steps actually taken",
    "memorization_step": "first evaluation with train accuracy >= memorization_threshold (Liu: 0.9)",
    "grok_step": "first evaluation with test accuracy >= grok_threshold (0.9)",
    "settled_step": "first of settle_evaluations consecutive evaluations with test accuracy >= grok_threshold",
    "oscillations": "evaluations with test accuracy >= grok_threshold followed at the next by one < 0.5",
    "slingshots": "evaluations after memorization whose train loss exceeds 10 x the running median of the last 5",
    "takeover_step": "first of 3 probes in a row with the outer stride score below its level and the inner one >= 0.5, "
    "after the outer one had been at its level (multiplication and division only). The level is 0.5; on outer circles "
    "of 5 to 9 places it is the score that 5 % of random orders reach: 0.9, 0.75, 0.71, 0.62, 0.55; on 4 there is none",
    "takeover_accuracy": "lowest test accuracy at any evaluation from takeover_step to the third of its probes",
    "outer_stride_run": "steps of the longest run of probes with winning_stride_score at the level of takeover_step, "
    "whichever stride wins; a probe stands for the steps since the one before",
    "both_strides_score": "largest min(winning_stride_score, inner_winning_stride_score) at any probe (multiplication "
    "and division only)",
    "jump_steps": "steps from the last evaluation with test accuracy <= 0.1 to the first with >= 0.9; never less than "
    "the distance of two evaluations",
    "early_high_share": "share of evaluations with test accuracy >= 0.99, in the first half of the steps after "
    "grok_step",
    "late_high_share": "the same in the second half",
    "final_train_accuracy": "train accuracy at the last step",
    "final_test_accuracy": "test accuracy at the last step, not the best",
    "best_test_accuracy": "highest test accuracy at any evaluation",
    "final_train_loss": "mean training loss at the last step",
    "final_test_loss": "mean test loss at the last step",
    "ceiling": "best test accuracy any predictor can reach from the tokens shown, computed from the task",
    "overlap": "share of test examples whose input stands in the training set too",
    "minimum_intrinsic_dimension": "smallest intrinsic_dimension at any probe up to grok_step, or at any probe if "
    "there is no grok_step",
    "minimum_intrinsic_dimension_step": "step of that minimum (the first, if repeated)",
    "grok_intrinsic_dimension": "intrinsic_dimension at the last probe up to grok_step",
    "parameters": "number of trained weights",
    "train_seconds": "wall seconds of the stack's training / trials in it, this trial's share",
}
DEFINITION_VERSIONS = {  # outcomes whose meaning has changed; all others are at 1
    "takeover_step": 3,
    "takeover_accuracy": 2,
    "outer_stride_run": 2,
    "learned_bits": 2,
    "minimum_intrinsic_dimension": 2,
    "minimum_intrinsic_dimension_step": 2,
    "inner_winning_stride": 2,
    "inner_winning_stride_score": 2,
    "inner_winning_stride_p_value": 2,
    "inner_stride_agrees": 2,
}
DEFINITIONS: dict[str, str] = OWN | probes.definitions()
CURVES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss", *probes.curves())


def other_definitions(recorded: str | None) -> set[str]:
    """Outcomes that meant something else when a trial was recorded. ``recorded``: what the record keeps of
    ``DEFINITION_VERSIONS`` then, as JSON; older records keep nothing."""
    then = json.loads(recorded) if recorded else {}
    return {name for name, now in DEFINITION_VERSIONS.items() if then.get(name, 1) != now}


def is_curve(name: str) -> bool:
    """Whether it is followed over the steps: all a user's probe finds is, and a name with a slash, which is one
    layer's or block's share of a curve."""
    return name in CURVES or name not in DEFINITIONS


@dataclass(frozen=True, init=False, repr=False)
class Outcome:
    """What a trial showed, by name: those of ``DEFINITIONS``, and those of the user's probes.

    ``outcome.grok_step`` is None where it did not happen within the steps run, or where the quantity
    does not exist for this task; never -1, never the budget. ``values`` holds what is not None.
    """

    values: Mapping[str, Any]

    def __init__(self, **values: Any):
        object.__setattr__(self, "values", {name: value for name, value in values.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})  # none while it is unpickled
        if name in values or name in DEFINITIONS:
            return values.get(name)
        raise AttributeError(f"{name}: must be an outcome of this trial, which has {', '.join(values)}")

    def __repr__(self) -> str:
        return f"Outcome({', '.join(f'{name}={value!r}' for name, value in self.values.items())})"

    def __hash__(self) -> int:
        return hash(frozenset(self.values.items()))

    def replace(self, **changes: Any) -> Outcome:
        """A copy with other values; None takes one away."""
        return Outcome(**{**self.values, **changes})


Curve = tuple[tuple[int, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Result:
    """A finished trial on its way to the record: its outcome, its curves (steps, values) and, if asked
    for, its hidden vectors on a plane (x, y, class)."""

    trial: Trial
    outcome: Outcome
    curves: Mapping[str, Curve]
    notes: Mapping[str, str] = field(default_factory=dict)  # machine, engine, ...
    picture: tuple[tuple[float, float, int], ...] = ()
    began: float = 0.0  # seconds since 1970: its stack's start, or where it was resumed
    ended: float = 0.0
