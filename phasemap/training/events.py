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

FORGOTTEN = 0.5  # test accuracy below which an evaluation after one that generalized is an oscillation
SPIKE = 10.0  # train loss over its running median
SPIKE_MEMORY = 5  # evaluations in that median
TAKEN_OVER = 0.5  # stride score
# Outer scores that points without an order reach in at most 5 % of draws, where 0.5 is easier than that: by places on
# the circle. On 4 places no score is so rare.
CHANCE_LEVELS = {4: math.inf, 5: 0.9, 6: 0.75, 7: 0.71, 8: 0.62, 9: 0.55}
TAKEOVER_PROBES = 3  # in a row
FINE_DELAY = 5  # evaluations in a delay limit, below which phases are misread
NORMAL = 87.0  # e^-87 is the smallest normal fp32 number
HIGH = 0.99  # test accuracy of the shares after the grok step
ROUNDING = 1e-7  # of an accuracy, which is fp32: 9 of 10 right are 0.89999998
JUMP = (0.1, 0.9)  # test accuracies between which the jump is measured
FINALS = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
EMPTY: Curve = ((), ())


def events(trial: Trial, curves: Mapping[str, Curve], diverged: bool) -> dict[str, object]:
    """Every outcome that follows from the curves alone; a missing curve leaves its outcomes None."""
    train, test = curves.get("train_accuracy", EMPTY), curves.get("test_accuracy", EMPTY)
    memorized = first_reaching(train, trial.memorization_threshold)
    grokked = first_reaching(test, trial.grok_threshold)
    settled = settled_step(test, trial.grok_threshold, trial.settle_evaluations)
    outer, inner = (curves.get(f"{side}winning_stride_score", EMPTY) for side in ("", "inner_"))
    level = outer_level(trial)
    taken_over = takeover(outer, inner, level)
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
        "jump_steps": jump_steps(test),
        **high_shares(test, grokked),
        "takeover_step": taken_over[0] if taken_over else None,
        "takeover_accuracy": lowest_within(test, taken_over),
        "outer_stride_run": stride_run(outer, curves.get("weight_norm", outer)[0], level),
        "both_strides_score": both_strides(outer, inner),
        "best_test_accuracy": max(_finite(test[1]), default=None),
        **finals,
        **lowest("intrinsic_dimension", until(curves.get("intrinsic_dimension", EMPTY), grokked)),
        "grok_intrinsic_dimension": at_grok(curves.get("intrinsic_dimension", EMPTY), grokked),
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
    ends_high = final_test_accuracy is None or reaches(final_test_accuracy, trial.grok_threshold)
    if settled_step is not None and not ends_high:
        return "collapse"
    if grok_step is None:
        return "confusion" if memorization_step is None else "memorization"
    late = memorization_step is not None and grok_step - memorization_step >= trial.delay_limit
    return "grokking" if late else "comprehension"


def coarse_delay(trial: Trial) -> str | None:
    """A warning where evaluations are too far apart to tell grokking from comprehension, else None.

    Both steps of a delay are known to the next evaluation only. With the delay limit at one evaluation a lag
    of a single one is grokking, and a quarter of the true delays up to twice the limit are misread.
    """
    if not trial.delay_limit or trial.delay_limit >= FINE_DELAY * trial.evaluate_every:
        return None
    return (
        f"evaluate_every: {trial.evaluate_every} steps leave fewer than {FINE_DELAY} evaluations in delay_limit "
        f"({trial.delay_limit}), too few to tell grokking from comprehension; "
        f"lower it to {max(1, trial.delay_limit // FINE_DELAY)}"
    )


def slow_decay(trial: Trial) -> str | None:
    """A warning where decay takes the weights of dead units out of the normal fp32 numbers for half of a trial or more,
    else None."""
    late = trial.late_weight_decay if trial.late_weight_decay >= 0 else trial.weight_decay
    early = min(trial.decay_switch, trial.steps)
    exponent = trial.learning_rate * (trial.weight_decay * early + late * (trial.steps - early))
    if exponent < 2 * NORMAL or trial.subnormals == "flushed" or not trial.shape.rule.decoupled:
        return None
    return (
        "subnormals: in so many steps weight decay shrinks unused weights below the normal fp32 numbers, where a CPU's "
        "steps take ten times as long and more; subnormals=flushed counts them as 0"
    )


def reaches(accuracy: float, threshold: float) -> bool:
    """Whether an accuracy is at or above a threshold."""
    return accuracy >= threshold - ROUNDING


def is_settled(test_accuracies: Sequence[float], threshold: float, evaluations: int) -> bool:
    """Whether the latest ``evaluations`` accuracies all reach the threshold; looks at no later one."""
    latest = test_accuracies[-evaluations:]
    return len(latest) == evaluations and all(reaches(value, threshold) for value in latest)


def first_reaching(curve: Curve, threshold: float) -> int | None:
    """Step of the first evaluation at or above the threshold."""
    return next((step for step, value in zip(*curve, strict=True) if reaches(value, threshold)), None)


def settled_step(test: Curve, threshold: float, evaluations: int) -> int | None:
    """Step of the first of ``evaluations`` consecutive ones at or above the threshold."""
    steps, values = test
    starts = range(len(values) - evaluations + 1)
    return next((steps[i] for i in starts if is_settled(values[i : i + evaluations], threshold, evaluations)), None)


def oscillations(test: Curve, threshold: float) -> int:
    """How often an evaluation at or above the threshold is followed at the next by one below 0.5."""
    return sum(reaches(now, threshold) and after < FORGOTTEN for now, after in pairwise(test[1]))


def slingshots(train_loss: Curve, memorization_step: int | None) -> int:
    """Evaluations after memorization whose train loss exceeds 10 x the median of the (up to) 5 before."""
    steps, losses = train_loss
    if memorization_step is None:
        return 0
    later = [i for i in range(1, len(steps)) if steps[i] > memorization_step]
    return sum(_spikes(losses[i], losses[max(0, i - SPIKE_MEMORY) : i]) for i in later)


def _spikes(loss: float, before: Sequence[float]) -> bool:
    return math.isfinite(loss) and loss > SPIKE * median(before)


def outer_level(trial: Trial) -> float:
    """The outer stride score that counts: 0.5, or more on a circle so small that chance reaches 0.5 too often."""
    group = trial.shape.examples.group
    places = (group.cosets or group.order) if group else 0
    return CHANCE_LEVELS.get(places, TAKEN_OVER)


def takeover(outer: Curve, inner: Curve, level: float = TAKEN_OVER) -> tuple[int, ...]:
    """Steps of the first three probes in a row with the outer stride score below ``level`` and the inner one at or
    above 0.5, after the outer one had been at or above ``level``. Without an inner reading there are none."""
    known = _together(outer, inner)
    taken = [there < level and inside >= TAKEN_OVER for _, there, inside in known]
    strong = next((i for i, (_, there, _) in enumerate(known) if there >= level), len(known))
    starts = range(strong + 1, len(known) - TAKEOVER_PROBES + 1)
    first = next((i for i in starts if all(taken[i : i + TAKEOVER_PROBES])), len(known))
    return tuple(step for step, _, _ in known[first : first + TAKEOVER_PROBES])


def lowest_within(curve: Curve, window: Sequence[int]) -> float | None:
    """The smallest value from the first to the last step of a window."""
    inside = [value for step, value in zip(*curve, strict=True) if window and window[0] <= step <= window[-1]]
    return min(_finite(inside), default=None)


def stride_run(outer: Curve, probed: Sequence[int], level: float = TAKEN_OVER) -> int | None:
    """Steps of the longest run of probes in a row with the outer stride score at or above ``level``; None if it was
    never read. A probe stands for the steps since the one before, and one that reads no stride ends a run."""
    scores = dict(zip(*outer, strict=True))
    longest = run = before = 0
    for step in probed:
        run = run + step - before if scores.get(step, math.nan) >= level else 0
        longest, before = max(longest, run), step
    return longest if scores else None


def both_strides(outer: Curve, inner: Curve) -> float | None:
    """The largest score that both readings reach at one probe."""
    return max((min(there, inside) for _, there, inside in _together(outer, inner)), default=None)


def _together(left: Curve, right: Curve) -> list[tuple[int, float, float]]:
    """Step and both values, where both are finite."""
    other = dict(zip(*right, strict=True))
    pairs = ((step, value, other.get(step, math.nan)) for step, value in zip(*left, strict=True))
    return [pair for pair in pairs if math.isfinite(pair[1]) and math.isfinite(pair[2])]


def jump_steps(test: Curve) -> int | None:
    """Steps from the last evaluation at or below 0.1 to the first at or above 0.9, if there are both."""
    top = first_reaching(test, JUMP[1])
    below = [step for step, value in zip(*test, strict=True) if top is not None and step < top and value <= JUMP[0]]
    return top - below[-1] if top is not None and below else None


def high_shares(test: Curve, grok_step: int | None) -> dict[str, object]:
    """Share of the evaluations after the grok step at or above 0.99, in the early and in the late half of
    the steps that remain."""
    later = [(step, value) for step, value in zip(*test, strict=True) if grok_step is not None and step > grok_step]
    middle = (later[-1][0] + (grok_step or 0)) / 2 if later else 0
    halves = [[reaches(v, HIGH) for s, v in later if (s <= middle) == early] for early in (True, False)]
    return {
        f"{name}_high_share": sum(half) / len(half) if half else None
        for name, half in zip(("early", "late"), halves, strict=True)
    }


def until(curve: Curve, step: int | None) -> Curve:
    """The curve up to a step, the whole of it if there is none."""
    kept = [(s, v) for s, v in zip(*curve, strict=True) if step is None or s <= step]
    return tuple(s for s, _ in kept), tuple(v for _, v in kept)


def at_grok(curve: Curve, grok_step: int | None) -> float | None:
    """The last value at or before the grok step."""
    return None if grok_step is None else last(until(curve, grok_step))


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
