"""The two words everything else speaks: ``Trial`` (what to run) and ``Outcome`` (what came out).

Both are frozen. Field name = MLflow key = table column, everywhere. This file knows the rules a
configuration must obey; it trains nothing, reads no file and imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from phasemap.tasks import task as tasks

MODELS = ("transformer", "mlp")
PRECISIONS = ("fp32", "tf32", "bf16")
PROBES = (
    *("dimension", "twonn", "activation", "stride", "spectrum", "purity", "attention", "layers"),
    *("homology", "picture"),  # need a library of their own
)
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


PICTURE_FILE = "hidden_picture.csv"  # of a trial with the probe picture, beside its metrics
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
    unknown = sorted(set(filter(None, trial.probes.split("+"))) - set(PROBES))
    rule(
        not unknown,
        "probes",
        f"must be names of {', '.join(PROBES)}",
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


def _defined(text: str, curve: bool = False) -> Any:
    return field(default=None, metadata={"definition": text, "curve": curve})


@dataclass(frozen=True)
class Outcome:
    """What a trial showed. ``None`` means it did not happen within the steps run, or that the
    quantity does not exist for this task; never -1, never the budget.

    Each definition stands in the field's metadata and nowhere else; ``events.py`` and ``probes/``
    compute them. Liu = Liu et al. 2022 (arXiv 2205.10343). Facco = Facco et al. 2017.
    """

    phase: str | None = _defined(
        "Liu et al. 2022: comprehension, grokking (test follows train by delay_limit steps or more), memorization, "
        "confusion; here also collapse (had settled, ends below grok_threshold) and diverged (a loss or a weight "
        "stopped being finite)"
    )
    ending: str | None = _defined("why training ended: budget, settled (stop_when_settled) or diverged")
    steps_run: int | None = _defined("optimiser steps actually taken")
    memorization_step: int | None = _defined(
        "first evaluation with train accuracy >= memorization_threshold (Liu: 0.9)"
    )
    grok_step: int | None = _defined("first evaluation with test accuracy >= grok_threshold (0.9)")
    settled_step: int | None = _defined(
        "first of settle_evaluations consecutive evaluations with test accuracy >= grok_threshold"
    )
    oscillations: int | None = _defined(
        "evaluations with test accuracy >= grok_threshold followed at the next by one < 0.5"
    )
    slingshots: int | None = _defined(
        "evaluations after memorization whose train loss exceeds 10 x the running median of the last 5"
    )
    takeover_step: int | None = _defined(
        "first evaluation from which the outer stride score stays < 0.5, after having been >= 0.5"
    )
    final_train_accuracy: float | None = _defined("train accuracy at the last step")
    final_test_accuracy: float | None = _defined("test accuracy at the last step, not the best")
    best_test_accuracy: float | None = _defined("highest test accuracy at any evaluation")
    final_train_loss: float | None = _defined("mean training loss at the last step")
    final_test_loss: float | None = _defined("mean test loss at the last step")
    learned_bits: float | None = _defined(
        "mutual information of prediction and label over the test examples, in bits (plug-in estimate)"
    )
    ceiling: float | None = _defined(
        "best test accuracy any predictor can reach from the tokens shown, computed from the task"
    )
    overlap: float | None = _defined("share of test examples whose input stands in the training set too")
    intrinsic_dimension: float | None = _defined(
        "principal components of the hidden test vectors holding 95 % of the variance, at the end", curve=True
    )
    minimum_intrinsic_dimension: float | None = _defined("smallest intrinsic_dimension at any probe")
    minimum_intrinsic_dimension_step: int | None = _defined("step of that minimum (the first, if repeated)")
    pca99_dimension: float | None = _defined("as intrinsic_dimension, for 99 % of the variance", curve=True)
    participation_ratio: float | None = _defined(
        "(sum of PCA variances)^2 / sum of their squares, of the hidden test vectors", curve=True
    )
    twonn_dimension: float | None = _defined(
        "Facco: dimension from the ratio of the two nearest neighbour distances (a curve with the probe twonn)",
        curve=True,
    )
    winning_stride: int | None = _defined(
        "stride s with the highest adjacency score of the class centroids, outer reading: the whole group for "
        "addition and subtraction mod p, the cosets of the subgroup for multiplication and division"
    )
    winning_stride_score: float | None = _defined("adjacency score of winning_stride, 0 to 1", curve=True)
    winning_stride_p_value: float | None = _defined(
        "share of 999 random relabellings whose best score is as high, (1 + hits) / 1000"
    )
    inner_winning_stride: int | None = _defined(
        "as winning_stride, inside each coset, averaged over cosets (multiplication and division only)"
    )
    inner_winning_stride_score: float | None = _defined("adjacency score of it, 0 to 1", curve=True)
    inner_winning_stride_p_value: float | None = _defined("its p-value against random relabellings")
    spectrum_frequencies: int | None = _defined(
        "frequencies of the outer circle, of 1 to n/2, that hold 90 % of the power of its class vectors", curve=True
    )
    dominant_frequency: int | None = _defined("the frequency with the most power", curve=True)
    dominant_share: float | None = _defined("its share of the power", curve=True)
    predicted_stride: int | None = _defined(
        "the stride with the smallest mean distance, as the power of all frequencies predicts it", curve=True
    )
    stride_agrees: int | None = _defined("1 if predicted_stride is winning_stride, else 0")
    inner_spectrum_frequencies: int | None = _defined("as spectrum_frequencies, over the inner circles", curve=True)
    inner_dominant_frequency: int | None = _defined("as dominant_frequency, over the inner circles", curve=True)
    inner_dominant_share: float | None = _defined("its share of the power", curve=True)
    inner_predicted_stride: int | None = _defined("as predicted_stride, over the inner circles", curve=True)
    inner_stride_agrees: int | None = _defined("1 if inner_predicted_stride is inner_winning_stride, else 0")
    coset_purity: float | None = _defined(
        "share of the classes' M - 1 nearest others that are of their own coset of M members (multiplication and "
        "division only; 0.07 is chance mod 97)",
        curve=True,
    )
    weight_norm: float | None = _defined("Euclidean norm of all weights", curve=True)
    activation_sparsity: float | None = _defined("share of hidden test values with |h| < 0.1", curve=True)
    activation_norm: float | None = _defined("mean L2 norm of the hidden test vectors", curve=True)
    activation_deviation: float | None = _defined("standard deviation of the hidden test values", curve=True)
    activation_largest: float | None = _defined("largest of the hidden test values", curve=True)
    attention_entropy: float | None = _defined(
        "mean entropy, in bits, of the readout token's attention in the last block, over heads and test examples; 1 is "
        "even attention to two tokens",
        curve=True,
    )
    betti0: int | None = _defined(
        "pieces: Vietoris-Rips bars longer than 0.1 over 500 hidden test vectors, Euclidean, at the end"
    )
    betti1: int | None = _defined("loops: the same in dimension 1")
    parameters: int | None = _defined("number of trained weights")
    train_seconds: float | None = _defined("wall seconds of the stack's training / trials in it, this trial's share")


DEFINITIONS: dict[str, str] = {f.name: f.metadata["definition"] for f in fields(Outcome)}
CURVES = (
    "train_accuracy",
    "test_accuracy",
    "train_loss",
    "test_loss",
    *(f.name for f in fields(Outcome) if f.metadata.get("curve")),
)


def is_curve(name: str) -> bool:
    """Whether it is followed over the steps; a name with a slash is one layer's or block's share of a curve."""
    return name in CURVES or "/" in name


PHASES = ("comprehension", "grokking", "memorization", "confusion", "collapse", "diverged")

Curve = tuple[tuple[int, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Result:
    """A finished trial on its way to the record: its outcome, its curves (steps, values) and, if asked
    for, its hidden vectors on a plane (x, y, class)."""

    trial: Trial
    outcome: Outcome
    curves: Mapping[str, Curve]
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)  # machine, engine, ...
    picture: tuple[tuple[float, float, int], ...] = ()
