"""What happened in a trial, read off its curves: steps of events, counts, last values, the phase.

Every definition stands in ``plan/outcome.py``. Plain Python, no torch: a
handful of evaluations per trial. Nothing here is measured on a network; that is in ``probes/``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from phasemap.plan.outcome import Curve
from phasemap.plan.trial import Trial

FORGOTTEN = 0.5  # test accuracy below which an evaluation after a grokked one is an oscillation
SPIKE = 10.0  # train loss over its running median
SPIKE_MEMORY = 5  # evaluations in that median
TAKEN_OVER = 0.5  # outer stride score
FINALS = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
EMPTY: Curve = ((), ())


def events(trial: Trial, curves: Mapping[str, Curve], diverged: bool) -> dict[str, object]:
    """Every outcome that follows from the curves alone; a missing curve leaves its outcomes None."""
    train, test = curves.get("train_accuracy", EMPTY), curves.get("test_accuracy", EMPTY)
    memorized = first_reaching(train, trial.memorization_threshold)
    grokked = first_reaching(test, trial.grok_threshold)
    settled = settled_step(test, trial.grok_threshold, trial.settle_evaluations)
    end = train[0][-1] if train[0] else None  # of the trial: a curve that stops before it has no value there
    finals = {f"final_{name}": last(curves.get(name, EMPTY), end) for name in FINALS}
    probed = {name: curve for name, curve in curves.items() if name not in FINALS and "/" not in name}
    return {
        "phase": phase(trial, memorized, grokked, settled, finals["final_test_accuracy"], diverged),
        "memorization_step": memorized,
        "grok_step": grokked,
        "settled_step": settled,
        "oscillations": oscillations(test, trial.grok_threshold),
        "slingshots": slingshots(curves.get("train_loss", EMPTY), memorized),
        "takeover_step": takeover_step(curves.get("winning_stride_score", EMPTY)),
        "best_test_accuracy": max(_finite(test[1]), default=None),
        **finals,
        **lowest("intrinsic_dimension", curves.get("intrinsic_dimension", EMPTY)),
        **{name: last(curve, end) for name, curve in probed.items()},
    }


def phase(
    trial: Trial,
    memorization_step: int | None,
    grok_step: int | None,
    settled_step: int | None,
    final_test_accuracy: float | None,
    diverged: bool,
) -> str:
    """The phase of Liu et al. 2022 (https://arxiv.org/abs/2205.10343), or collapse, or diverged.

    A test accuracy that reaches its threshold before, or without, the train accuracy does not lag:
    comprehension.
    """
    if diverged:
        return "diverged"
    if settled_step is not None and final_test_accuracy is not None and final_test_accuracy < trial.grok_threshold:
        return "collapse"
    if grok_step is None:
        return "confusion" if memorization_step is None else "memorization"
    late = memorization_step is not None and grok_step - memorization_step >= trial.delay_limit
    return "grokking" if late else "comprehension"


def is_settled(test_accuracies: Sequence[float], threshold: float, evaluations: int) -> bool:
    """Whether the latest ``evaluations`` accuracies all reach the threshold; looks at no later one."""
    latest = test_accuracies[-evaluations:]
    return len(latest) == evaluations and all(value >= threshold for value in latest)


def first_reaching(curve: Curve, threshold: float) -> int | None:
    """Step of the first evaluation at or above the threshold."""
    return next((step for step, value in zip(*curve, strict=True) if value >= threshold), None)


def settled_step(test: Curve, threshold: float, evaluations: int) -> int | None:
    """Step of the first of ``evaluations`` consecutive ones at or above the threshold."""
    steps, values = test
    starts = range(len(values) - evaluations + 1)
    return next((steps[i] for i in starts if is_settled(values[i : i + evaluations], threshold, evaluations)), None)


def oscillations(test: Curve, threshold: float) -> int:
    """How often an evaluation at or above the threshold is followed at the next by one below 0.5."""
    return sum(now >= threshold and after < FORGOTTEN for now, after in pairwise(test[1]))


def slingshots(train_loss: Curve, memorization_step: int | None) -> int:
    """Evaluations after memorization whose train loss exceeds 10 x the median of the (up to) 5 before."""
    steps, losses = train_loss
    if memorization_step is None:
        return 0
    later = [i for i in range(1, len(steps)) if steps[i] > memorization_step]
    return sum(_spikes(losses[i], losses[max(0, i - SPIKE_MEMORY) : i]) for i in later)


def _spikes(loss: float, before: Sequence[float]) -> bool:
    return math.isfinite(loss) and loss > SPIKE * median(before)


def takeover_step(stride_score: Curve) -> int | None:
    """Step from which the outer stride score stays below 0.5, after having been at or above it."""
    known = [(step, value) for step, value in zip(*stride_score, strict=True) if math.isfinite(value)]
    strong = [i for i, (_, value) in enumerate(known) if value >= TAKEN_OVER]
    return known[strong[-1] + 1][0] if strong and strong[-1] + 1 < len(known) else None


def last(curve: Curve, end: int | None = None) -> float | None:
    """The last value; None if there is none, none at the step ``end``, or it is not finite."""
    steps, values = curve
    reached = bool(steps) and (end is None or steps[-1] == end)
    return values[-1] if reached and math.isfinite(values[-1]) else None


def lowest(name: str, curve: Curve) -> dict[str, object]:
    """``minimum_<name>`` and the first step it was reached at."""
    value = min(_finite(curve[1]), default=None)
    step = None if value is None else curve[0][curve[1].index(value)]
    return {f"minimum_{name}": value, f"minimum_{name}_step": step}


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
