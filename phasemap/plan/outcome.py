"""``Outcome``: what a trial showed, each number defined once. ``Result``: a trial on its way to the record.

Outcome name = MLflow key = table column, everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from phasemap.plan.trial import Trial

PICTURE_FILE = "hidden_picture.csv"  # of a trial with the probe picture, beside its metrics


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
        "first of 3 probes in a row with the outer stride score < 0.5 and the inner one >= 0.5, after the outer one "
        "had been >= 0.5 (multiplication and division only)"
    )
    both_strides_score: float | None = _defined(
        "largest min(winning_stride_score, inner_winning_stride_score) at any probe (multiplication and division only)"
    )
    jump_steps: int | None = _defined(
        "steps from the last evaluation with test accuracy <= 0.1 to the first with >= 0.9; never less than the "
        "distance of two evaluations"
    )
    early_high_share: float | None = _defined(
        "share of evaluations with test accuracy >= 0.99, in the first half of the steps after grok_step"
    )
    late_high_share: float | None = _defined("the same in the second half")
    final_train_accuracy: float | None = _defined("train accuracy at the last step")
    final_test_accuracy: float | None = _defined("test accuracy at the last step, not the best")
    best_test_accuracy: float | None = _defined("highest test accuracy at any evaluation")
    final_train_loss: float | None = _defined("mean training loss at the last step")
    final_test_loss: float | None = _defined("mean test loss at the last step")
    learned_bits: float | None = _defined(
        "mutual information of prediction and label over the test examples, in bits, adjusted for chance: 0 for "
        "independent predictions, the entropy of the labels for perfect ones (Vinh et al. 2010)"
    )
    ceiling: float | None = _defined(
        "best test accuracy any predictor can reach from the tokens shown, computed from the task"
    )
    overlap: float | None = _defined("share of test examples whose input stands in the training set too")
    intrinsic_dimension: float | None = _defined(
        "principal components of the hidden test vectors holding 95 % of the variance, at the end", curve=True
    )
    minimum_intrinsic_dimension: float | None = _defined(
        "smallest intrinsic_dimension at any probe up to grok_step, or at any probe if there is no grok_step"
    )
    minimum_intrinsic_dimension_step: int | None = _defined("step of that minimum (the first, if repeated)")
    grok_intrinsic_dimension: float | None = _defined("intrinsic_dimension at the last probe up to grok_step")
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
        "addition and subtraction mod p, the cosets of the subgroup for multiplication and division",
        curve=True,
    )
    winning_stride_score: float | None = _defined("adjacency score of winning_stride, 0 to 1", curve=True)
    winning_stride_p_value: float | None = _defined(
        "share of 999 random relabellings whose best score is as high, (1 + hits) / 1000"
    )
    inner_winning_stride: int | None = _defined(
        "as winning_stride, inside each coset, averaged over cosets, from one nearest neighbour of each place "
        "(multiplication and division only)",
        curve=True,
    )
    inner_winning_stride_score: float | None = _defined(
        "adjacency score of it above chance: 0 at chance for every stride, 1 for a perfect walk", curve=True
    )
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


DEFINITION_VERSIONS: dict[str, int] = {  # outcomes whose meaning has changed; all others are at 1
    "takeover_step": 2,
    "learned_bits": 2,
    "minimum_intrinsic_dimension": 2,
    "minimum_intrinsic_dimension_step": 2,
    "inner_winning_stride": 2,
    "inner_winning_stride_score": 2,
    "inner_winning_stride_p_value": 2,
    "inner_stride_agrees": 2,
}
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
