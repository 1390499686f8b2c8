"""Fields that a trial has and that can change nothing in it, because another field or the task leaves them nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phasemap.plan.trial import SLOTS, Trial


@dataclass(frozen=True)
class _Idle:
    """A field, the condition under which it changes nothing, and the words that end the message."""

    name: str
    holds: Callable[[Trial], bool]
    why: str
    networks: tuple[str, ...] = ()  # whose field it is; none: every trial's


def _one_table(trial: Trial) -> bool:
    task = trial.shape.examples
    return task.is_real or task.tokens == 1 or not task.separate_tables


def _without(group: str) -> Callable[[Trial], bool]:
    return lambda trial: group not in trial.shape.network.groups


_RULES = (
    *(
        _Idle(f"{group}_{what}", _without(group), f"where the network has no {group} of its own; leave it out")
        for group in ("embedding", "readout")
        for what in ("rate", "scale")
    ),
    _Idle("annealing", lambda t: t.warmup >= t.steps - 1, "where warmup leaves no further steps; lower warmup"),
    _Idle("decay_switch", lambda t: t.late_weight_decay == -1, "while late_weight_decay is -1; give that too"),
    _Idle(
        "late_weight_decay",
        lambda t: t.decay_switch >= t.steps,
        "where decay_switch is not below steps; lower decay_switch",
    ),
    _Idle(
        "weight_decay",
        lambda t: t.late_weight_decay != -1 and t.decay_switch == 0,
        "where late_weight_decay begins at step 0; raise decay_switch",
    ),
    _Idle(
        "split",
        lambda t: t.split == "distinct" and t.shape.examples.divided("distinct") == t.shape.examples.pool,
        "as distinct where no two inputs are equal; use examples",
    ),
    _Idle(
        "parity_examples",
        lambda t: t.task == "sparse_parity" and t.parity_examples > 2**t.context,
        "where it exceeds the inputs there are; lower it",
    ),
    _Idle("delay_limit", lambda t: t.phases != "liu", "on a phase rule of your own; leave it out"),
    _Idle("log_spaced", lambda t: t.evaluate_every == 1, "where evaluate_every is 1; raise that"),
    _Idle("nesterov", lambda t: t.momentum == 0, "while momentum is 0; give that too"),
    _Idle("clone_blocks", lambda t: t.depth == 1, "where depth is 1; raise that", ("transformer",)),
    _Idle("norm_kind", lambda t: t.norm == "none", "where norm is none; use post or pre", ("transformer",)),
    _Idle("residual", lambda t: t.depth == 1, "where depth is 1; raise that", ("mlp",)),
    _Idle(
        "embedding",
        lambda t: t.shape.examples.tokens == 1,
        "on a task of real inputs or of one token; leave it out",
        ("mlp",),
    ),
    _Idle(
        "tie_embeddings",
        _one_table,
        "on a task of real inputs, of one token, or with one table for all positions; leave it out",
        ("mlp", "transformer"),
    ),
)


def idle(trial: Trial, axes: tuple[str, ...]) -> list[str]:
    """The axes that can have no effect on a trial, each with why: their values would repeat one training."""
    used, network = trial.fields(), trial.part("model")
    where = f"{trial.model} on {trial.task} with {trial.optimizer}"
    foreign = [
        f"{name}: has no effect for {where}, so its values would repeat one training; leave it out"
        for name in axes
        if name not in used and name not in SLOTS
    ]
    return foreign + [
        f"{rule.name}: has no effect {rule.why}"
        for rule in _RULES
        if rule.name in axes
        and rule.name in used
        and (not rule.networks or (network.name in rule.networks and not network.code))
        and rule.holds(trial)
    ]
