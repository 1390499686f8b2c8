"""``Trial``: what to run. Field name = MLflow key = table column, everywhere.

This file knows the rules that a configuration must obey; it trains nothing, reads no file and imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from phasemap.probes import names as probe_names
from phasemap.tasks import task as tasks

MODELS = ("transformer", "mlp")
PRECISIONS = ("fp32", "tf32", "bf16")
CLOSEST = 300  # steps between two probes, unless said: nearer ones would cost small networks a tenth of their time
CHOICES: dict[str, tuple[str, ...]] = {
    "task": tasks.NAMES,
    "split": ("examples", "distinct"),
    "model": MODELS,
    "embedding": ("sum", "concatenate"),
    "activation": ("relu", "gelu", "square"),
    "norm": ("post", "pre", "none"),
    "loss": ("cross_entropy", "mean_squared_error", "stablemax"),
    "optimizer": ("adamw", "adam", "sgd"),
    "precision": PRECISIONS,
}
# Fields that may differ between the trials of one stack: each becomes a [K] tensor or is only
# read when outcomes are computed. Every other field fixes a tensor shape or the schedule.
STACKED = frozenset(
    {
        "weight_decay",
        "learning_rate",
        "data_fraction",
        "initial_scale",
        "seed",
        "grok_threshold",
        "memorization_threshold",
        "delay_limit",
        "settle_evaluations",
    }
)


@dataclass(frozen=True)
class Trial:
    """One training run of one configuration; equal fields are the same trial.

    Times are optimiser steps. Defaults are the published protocol for modular addition
    (a 2-block post-norm transformer of width 128, AdamW, batches of 512).
    """

    task: str = "modular_addition"
    modulus: int = 97
    context: int = 16  # tokens shown by the sequence tasks and bits of sparse parity
    split: str = "examples"  # "distinct": equal inputs never stand on both sides
    data_fraction: float = 0.3
    model: str = "transformer"
    width: int = 128
    depth: int = 2
    heads: int = 4
    embedding: str = "sum"  # how the MLP joins its token vectors
    activation: str = "relu"
    norm: str = "post"
    bottleneck: int = 0  # 0: none; r: hidden -> Linear(r) -> ReLU -> Linear(width) -> readout
    clone_blocks: bool = False  # the published code starts every block from the same weights
    tie_embeddings: bool = False  # one table for all token positions
    initial_scale: float = 1.0  # alpha of Omnigrok: multiplies all initial weights
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    warmup: int = 0  # steps of linear learning-rate warm-up
    late_weight_decay: float = -1.0  # weight decay from `decay_switch` on; -1: never changes
    decay_switch: int = 0
    loss: str = "cross_entropy"
    orthogonal_gradient: bool = False
    batch_size: int = 512  # 0: full batch
    precision: str = "fp32"
    seed: int = 0
    steps: int = 15_000
    evaluate_every: int = 1_000
    probe_every: int = 0  # 0: about 15 probes over the run, CLOSEST steps apart or more, on the evaluation steps
    log_spaced: bool = False  # evaluations at steps growing by a factor, up to evaluate_every
    probes: str = "dimension+activation+stride+spectrum"  # names joined by +; "" for none
    stop_when_settled: bool = False
    grok_threshold: float = 0.9
    memorization_threshold: float = 0.9
    delay_limit: int = 1_000
    settle_evaluations: int = 5

    @cached_property
    def id(self) -> str:
        """16 hex digits of the configuration. Defaults are left out, so a field added later, with
        today's behaviour as its default, keeps every identity."""
        said = {f.name: _canonical(f.name, getattr(self, f.name)) for f in fields(self)}
        said = {name: value for name, value in said.items() if value != FIELDS[name].default}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def shape(self) -> tuple:
        """What two trials must share to train in one stack. A full batch has the size of the
        training set, so there the data fraction is part of the shape."""
        own = {f.name for f in fields(self)} - STACKED
        if self.batch_size == 0:
            own.add("data_fraction")
        return tuple((name, getattr(self, name)) for name in sorted(own))

    @cached_property
    def cell(self) -> tuple:
        """The configuration without the seed."""
        return tuple((f.name, getattr(self, f.name)) for f in fields(self) if f.name != "seed")

    @property
    def probe_interval(self) -> int:
        """Steps between two probes, a multiple of ``evaluate_every``."""
        wanted = self.probe_every or max(self.steps / 15, CLOSEST)
        return max(1, round(wanted / self.evaluate_every)) * self.evaluate_every

    def label(self, axes: tuple[str, ...]) -> str:
        """A name a person can read, from the fields that vary in a sweep."""
        return " ".join(f"{name}={_short(getattr(self, name))}" for name in axes) or self.task


FIELDS = {f.name: f for f in fields(Trial)}
KINDS: dict[str, type] = {name: type(f.default) for name, f in FIELDS.items()}


class Fault(ValueError):
    """Bad input: one message with every fault found, each saying where, the rule, what was got."""

    def __init__(self, faults: list[str]):
        super().__init__("\n".join(faults))
        self.faults = faults


def make_trial(values: Mapping[str, object]) -> Trial:
    """Builds a Trial from plain values (ints are accepted for floats).

    Raises:
        Fault: unknown fields, wrong types or broken rules, all at once.
    """
    clean, faults = {}, []
    for name, value in values.items():
        try:
            clean[name] = coerce(name, value)
        except Fault as fault:
            faults += fault.faults
    if not faults:
        trial = Trial(**clean)  # type: ignore[arg-type]
        faults = broken_rules(trial)
        if not faults:
            return trial
    raise Fault(faults)


def coerce(name: str, value: object) -> object:
    """The value in the field's own type; text is parsed, so that the command line can speak too."""
    if name not in FIELDS:
        raise Fault([f"{name}: not a field of a trial, got {value!r}; use one of {', '.join(FIELDS)}"])
    kind = KINDS[name]
    try:
        if isinstance(value, str) and kind is not str:
            value = json.loads(value.lower())
        if kind is bool and isinstance(value, bool):
            return value
        if isinstance(value, bool):
            raise TypeError(name)
        if kind is str and isinstance(value, str):
            return value
        if kind is int and isinstance(value, int):
            return int(value)
        if kind in (int, float) and not isinstance(value, (bool, str)):
            number = float(value)  # type: ignore[arg-type]
            if kind is float:
                return number
            if number == int(number):
                return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise Fault([f"{name}: must be of type {kind.__name__}, got {value!r}; write it as {FIELDS[name].default!r} is"])


def broken_rules(trial: Trial) -> list[str]:
    """Every rule the trial breaks, as "axis: rule, got value; what to do"."""
    faults = []

    def rule(holds: bool, name: str, law: str, cure: str) -> None:
        if not holds:
            faults.append(f"{name}: {law}, got {getattr(trial, name)!r}; {cure}")

    for name, kind in KINDS.items():
        if kind is float:
            rule(math.isfinite(getattr(trial, name)), name, "must be a finite number", "remove it")
    for name, allowed in CHOICES.items():
        rule(getattr(trial, name) in allowed, name, f"must be one of {', '.join(allowed)}", "choose one of these")
    unknown = sorted(set(filter(None, trial.probes.split("+"))) - set(probe_names()))
    rule(
        not unknown,
        "probes",
        f"must be names of {', '.join(probe_names())}",
        "join those you want with +, as in dimension+stride",
    )
    for name in ("width", "depth", "heads", "steps", "evaluate_every", "context", "settle_evaluations"):
        rule(getattr(trial, name) >= 1, name, "must be at least 1", "use a positive whole number")
    for name in ("bottleneck", "batch_size", "warmup", "probe_every", "decay_switch", "delay_limit", "weight_decay"):
        rule(getattr(trial, name) >= 0, name, "must not be negative", "use 0 or more")
    for name in ("learning_rate", "initial_scale"):
        rule(getattr(trial, name) > 0, name, "must be positive", "use a number above 0")
    for name in ("grok_threshold", "memorization_threshold"):
        rule(0 < getattr(trial, name) <= 1, name, "must lie in (0, 1]", "use an accuracy such as 0.9")
    for name in ("beta1", "beta2"):
        rule(0 <= getattr(trial, name) < 1, name, "must lie in [0, 1)", "use a number such as 0.9")
    rule(0 < trial.data_fraction < 1, "data_fraction", "must lie strictly between 0 and 1", "use a share such as 0.3")
    rule(0 <= trial.seed < 2**53, "seed", "must lie from 0 to 2^53 - 1", "use 0, 1, 2, …")
    rule(
        trial.late_weight_decay == -1 or trial.late_weight_decay >= 0,
        "late_weight_decay",
        "must be -1 (never changes) or at least 0",
        "use one of these",
    )
    if trial.model == "transformer" and trial.heads >= 1 and trial.width >= 1:
        below = trial.width - trial.width % trial.heads
        cure = f"use {below} or {below + trial.heads}" if below else f"use {trial.heads}"
        rule(trial.width % trial.heads == 0, "width", f"must be a multiple of heads ({trial.heads})", cure)
    rule(trial.evaluate_every <= trial.steps, "evaluate_every", f"must not exceed steps ({trial.steps})", "lower it")
    rule(
        trial.probe_every % max(trial.evaluate_every, 1) == 0,
        "probe_every",
        f"must be a multiple of evaluate_every ({trial.evaluate_every})",
        "use a multiple, or 0 for the default",
    )
    rule(
        not (trial.task in tasks.SEQUENCES and trial.model == "mlp" and trial.embedding == "sum"),
        "embedding",
        f"must be concatenate for an MLP on {trial.task}, because a sum forgets the order of the tokens",
        "use concatenate",
    )
    if trial.task in tasks.NAMES:
        faults += tasks.broken_rules(trial.task, trial.modulus, trial.context, trial.model)
        if not faults:
            faults += _split_rules(trial)
    return faults


def _split_rules(trial: Trial) -> list[str]:
    examples = tasks.examples(trial.task, trial.modulus, trial.context, trial.split)
    train = train_examples(examples, trial.data_fraction)
    if 0 < train < examples:
        return []
    side = "training" if train == 0 else "test"
    return [
        f"data_fraction: both sides of the split must hold an example, got {trial.data_fraction!r}, which leaves "
        f"the {side} side of {trial.task} ({examples} examples) empty; move it away from {0 if train == 0 else 1}"
    ]


def train_examples(examples: int, data_fraction: float) -> int:
    """Number of training examples (the published code truncates)."""
    return int(examples * data_fraction + 1e-9)


def _canonical(name: str, value: Any) -> Any:
    """2 and 2.0, 0.0 and -0.0 are one value of a float field."""
    return float(value) + 0.0 if KINDS[name] is float else value


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
