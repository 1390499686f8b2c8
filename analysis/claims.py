"""The published claims, each with its source, its value and the range that counts as replicating it.

Data alone: ``CLAIMS`` is the one list, in the order of its chapters. What a claim is measured by stands in
``measures.py``, the verdict in ``findings.py``; ``replicate.py`` writes the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import gcd
from typing import Any, Final, Literal

from .measures import (
    Measure,
    below,
    between,
    ceiling,
    change,
    critical_exponent,
    difference,
    ends_high,
    explained,
    exponent,
    generalized,
    happened,
    inner_stride_is,
    inside_minus_end,
    is_phase,
    middle,
    overlaps,
    share,
    share_within,
    share_without,
    time_to,
)

PUBLISHED: Final = "published settings"  # but for what a row names
MECHANISM: Final = "mechanism"  # the same question at a smaller scale
COMPUTED: Final = "computed"  # a fact of the task: checked, not estimated
ASKED: Final = "asked here"  # no published value
Kind = Literal["published settings", "mechanism", "computed", "asked here"]

MANIFOLD = "lmxxf/grokking-manifold-discovery-experiment 05a7785"
LEARNABILITY = "lmxxf/grokking-train-learnability 5c90f33"
TAKEOVER = "the published takeover study (in neither repository)"
README_FINDINGS = f"{MANIFOLD}, README, Core Findings"
LIU = "Liu et al. 2022, arXiv 2205.10343, section 4"
PRIETO = "Prieto et al. 2025, arXiv 2501.04697"
OMNIGROK = "Liu et al. 2023, arXiv 2210.01117, on MNIST; here scikit-learn's digits, 200 of them to train on"
EDGE = f"{PRIETO}, figure 1a, and its code, LucasPrietoAl/grokking-at-the-edge-of-numerical-stability 0cc9e8d, one run"
VERMA = "Verma 2026, arXiv 2605.20441, and lucky-verma/grokking-diagnostics 5240374"
SCALING = "OpenReview TGqGmGZ2Hz, abstract: 384 configurations of two-layer MLPs, R^2 = 0.73"
KHANH = "Khanh 2026, arXiv 2606.18465, section 4.2, and ClevixLab/grokking-logit-scale e29d08d"
POWER = "Power et al. 2022, arXiv 2201.02177"

ONE_HOT: dict[str, Any] = {
    "modulus": 113,
    "data_fraction": 0.4,
    "width": 200,
    "weight_decay": 0.0,
    "learning_rate": 1e-2,
}
ADDITION: dict[str, Any] = {"task": "modular_addition", "modulus": 97, "data_fraction": 0.3, "weight_decay": 1.0}
MULTIPLICATION: dict[str, Any] = ADDITION | {"task": "modular_multiplication"}
SMALL: dict[str, Any] = {"model": "transformer", "width": 128, "depth": 2, "heads": 4, "learning_rate": 1e-3}
PLAIN = {"bottleneck": 0, "width": 128, "depth": 2}
TASKS = {"addition": ADDITION, "multiplication": MULTIPLICATION}

# Ranges. "Never" and "always" are shares; a few seeds cannot show either, so they stand for a third and two thirds.
RARELY, MOSTLY = (0.0, 1 / 3), (2 / 3, 1.0)
BUDGETS = (500, 1_000, 2_000, 4_000, 8_000)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One published statement and how it is measured here.

    ``claim``: what is tested, in a sentence. ``published``: as the text has it; ``logs``: what the published data
    say, where that differs, and ``points`` the published values themselves. ``low`` to ``high``: the values that count
    as replicating it. ``spaces``: names of the sweeps whose trials speak to it; ``select``: the trials meant (column ->
    value, tuple of values, or [low, high]). ``settings``: the other published settings; trials that differ in them are
    measured all the same, and the report says so. ``shown``: column of single values. ``fact``: computes its values
    from the task, instead of ``measure``.
    """

    name: str
    chapter: str
    claim: str
    source: str
    published: str
    low: float
    high: float
    unit: str
    points: tuple[float, ...] = ()
    kind: Kind = PUBLISHED
    logs: str = ""
    measure: Measure | None = None
    fact: Callable[[], list[float]] | None = None
    spaces: tuple[str, ...] = ()
    select: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""


JUMP = "How late and how suddenly generalization comes"
LOSS = "How long it lasts"
FATES = "Weight decay and the takeover"
SHAPE = "Dimension and rank"
SEQUENCES = "Which sequences can be learned"
ZONE = "Where grokking lies"
MORE = "Asked here"

_share = partial(Claim, unit="share of trials")
_steps = partial(Claim, unit="optimizer steps")
_accuracy = partial(Claim, unit="accuracy")
_difference = partial(Claim, unit="difference of shares")


def _runs(task: str) -> dict[str, Any]:
    """The trials of the published network on a task, wherever they were run."""
    extra = ("addition_success",) if task == "addition" else ("weight_decay_fates",)
    return {
        "spaces": ("seeds_success_rate", f"seeds_{task}", *extra),
        "select": {"task": TASKS[task]["task"], "weight_decay": 1.0, **PLAIN},
        "settings": SMALL | TASKS[task],
    }


def _task(
    task: str, *, grok: tuple[int, int], groks: tuple[int, ...], jumps: tuple[int, ...], ends: tuple[float, ...]
) -> list[Claim]:
    """``groks``: of the five published runs without a bottleneck, read off their logs; ``jumps``: of the four that were
    evaluated every 1,000 steps; ``ends``: the last accuracies of three."""
    name = task.capitalize()
    return [
        _steps(
            name=f"grok_step_{task}",
            chapter=JUMP,
            claim=f"{name}: median step at which test accuracy reaches 0.9",
            source=f"{MANIFOLD}, results/train_log.json, results_multi_seed/summary.json and, the first of the values, "
            "results/exp4_bottleneck/bottleneck_None.json",
            published=f"{grok[0]:,} to {grok[1]:,}",
            logs=f"{_listed(groks)} of five runs, the first evaluated every 500 steps, the others every 1,000",
            points=groks,
            low=grok[0],
            high=grok[1],
            measure=time_to("grok_step"),
            shown="grok_step",
            **_runs(task),
        ),
        _steps(
            name=f"jump_{task}",
            chapter=JUMP,
            claim=f"{name}: the rise from test accuracy 0.1 to 0.9 takes at most 4,000 steps",
            source=f"{MANIFOLD}, paper, section 4.4: grokking is sudden",
            published="sudden",
            logs=_listed(jumps),
            points=jumps,
            low=0,
            high=4_000,
            measure=middle("jump_steps"),
            shown="jump_steps",
            **_runs(task),
        ),
        _share(
            name=f"stuck_{task}",
            chapter=LOSS,
            claim=f"{name}: a third of the seeds (0.2 to 0.5) does not reach 0.9 within 15,000 steps",
            source=f"{README_FINDINGS} 3: 1/3 probability of getting stuck",
            published="1 of 3 seeds",
            logs="none of 5 runs: all reach 0.9 by step 13,000",
            points=(1 / 3, 0.0),
            low=0.2,
            high=0.5,
            measure=share_without("grok_step", 15_000),
            shown="grok_step",
            **_runs(task),
        ),
        _share(
            name=f"ends_high_{task}",
            chapter=LOSS,
            claim=f"{name}: two thirds of the seeds (0.5 to 0.8) stand at or above 0.9 at the last step",
            source=f"{README_FINDINGS} 3, results_multi_seed/summary.json",
            published=f"2 of 3 ({_listed(ends)})",
            points=(2 / 3,),
            logs="the third had generalized and ended in a dip",
            low=0.5,
            high=0.8,
            measure=share(ends_high),
            shown="final_test_accuracy",
            **_runs(task)
            | {
                "settings": SMALL | TASKS[task] | {"steps": 150_000},
                "select": _runs(task)["select"] | {"ending": "budget"},  # one that stops when it settles ends high
            },
        ),
    ]


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:,g}" for value in values)


def _dimension(task: str, point: float, published: str, logs: str) -> Claim:
    """Within a quarter of the published number."""
    return Claim(
        name=f"dimension_{task}",
        chapter=SHAPE,
        claim=f"{task.capitalize()}: smallest number of principal components that hold 95 % of the variance of the "
        "hidden vectors, up to the grok step",
        source=f"{MANIFOLD}, results/dimension_analysis.json",
        published=published,
        logs=logs,
        points=(point,),
        low=0.75 * point,
        high=1.25 * point,
        unit="components",
        measure=middle("minimum_intrinsic_dimension"),
        shown="minimum_intrinsic_dimension",
        **_runs(task),
    )


def _bottleneck(task: str, step: int) -> list[Claim]:
    where: dict[str, Any] = {"spaces": ("seeds_bottleneck",), "settings": SMALL | TASKS[task] | {"steps": 50_000}}
    name, select = task.capitalize(), {"task": TASKS[task]["task"], "width": 128}
    return [
        _share(
            name=f"bottleneck_below_{task}",
            chapter=SHAPE,
            claim=f"{name}: through a bottleneck of 8 units or fewer at most a third of the trials generalizes within "
            "50,000 steps",
            source=f"{MANIFOLD}, results/exp4_bottleneck/summary.json, one run for each size",
            published="none of 4 sizes",
            points=(0.0,),
            low=RARELY[0],
            high=RARELY[1],
            measure=share_within("grok_step", 50_000),
            shown="best_test_accuracy",
            select=select | {"bottleneck": (1, 2, 4, 8)},
            **where,
        ),
        _steps(
            name=f"bottleneck_16_{task}",
            chapter=SHAPE,
            claim=f"{name}: median grok step through a bottleneck of 16 units (linear, ReLU, linear), within half and "
            "twice the published one",
            source=f"{MANIFOLD}, results/exp4_bottleneck/summary.json, one run",
            published=f"{step:,}",
            points=(step,),
            low=step / 2,
            high=step * 2,
            measure=time_to("grok_step"),
            shown="grok_step",
            select=select | {"bottleneck": 16},
            **where,
        ),
    ]


def _fate(decay: float, published: str, logs: str, span: tuple[float, float], words: str) -> Claim:
    return _share(
        name=f"weight_decay_{decay:g}",
        chapter=FATES,
        claim=f"Multiplication, weight decay {decay:g}: {words} reaches 0.9 within 20,000 steps",
        source=f"{TAKEOVER}, table of final accuracies, one run",
        published=published,
        logs=logs,
        low=span[0],
        high=span[1],
        measure=share_within("grok_step", 20_000),
        shown="grok_step",
        spaces=("weight_decay_fates", "seeds_takeover", "seeds_multiplication", "seeds_success_rate"),
        select={"task": "modular_multiplication", "weight_decay": decay, "depth": 2, "width": 128, "bottleneck": 0},
        settings=SMALL | MULTIPLICATION | {"weight_decay": decay},
    )


def _inner(
    name: str,
    claim: str,
    published: str,
    rule: Callable[[int, int], int],
    moduli: tuple[int, ...],
    kind: Kind = MECHANISM,
    source: str = f"{TAKEOVER}: stride 4 = gcd(12, 8)",
) -> Claim:
    return _share(
        name=name,
        chapter=FATES,
        kind=kind,
        claim=f"MLP, {claim} in at least two thirds of the trials, after 20,000 steps or more",
        source=source,
        published=published,
        low=MOSTLY[0],
        high=MOSTLY[1],
        measure=share(inner_stride_is(rule)),
        shown="inner_winning_stride",
        spaces=("strides_by_modulus",),
        select={"task": "modular_multiplication", "model": "mlp", "modulus": moduli, "steps": [20_000, 1e9]},
    )


def _arm(
    name: str,
    claim: str,
    source: str,
    published: str,
    span: tuple[float, float],
    kind: Kind = MECHANISM,
    **select: Any,
) -> Claim:
    plain = {"weight_decay": 0.0, "loss": "cross_entropy", "orthogonal_gradient": False, "task": "modular_addition"}
    return _share(
        name=name,
        chapter=JUMP,
        kind=kind,
        claim=f"MLP, data fraction 0.5, within 10,000 steps: {claim}",
        source=source,
        published=published,
        low=span[0],
        high=span[1],
        measure=share_within("grok_step", 10_000),
        shown="best_test_accuracy",
        spaces=("without_weight_decay", "control_tasks"),
        select=plain | {"steps": [10_000, 1e9]} | select,
    )


def _edge(name: str, claim: str, published: str, low: float, high: float, measure: Measure, **more: Any) -> Claim:
    orthogonal = name != "edge_plain"
    return Claim(
        name=name,
        chapter=JUMP,
        claim=f"Addition mod 113, one-hot MLP, no weight decay, within 300 steps: {claim}",
        source=EDGE if orthogonal else "–",
        published=published,
        low=low,
        high=high,
        measure=measure,
        spaces=("grokking_edge",),
        select={"orthogonal_gradient": orthogonal, "loss": "cross_entropy", "steps": [300, 1e9]},
        settings=ONE_HOT,
        **more,
    )


def _edge_long(name: str, claim: str, panel: str, loss: str, span: tuple[float, float], **more: Any) -> Claim:
    return _share(
        name=name,
        chapter=JUMP,
        claim=f"Addition mod 113, one-hot MLP, no weight decay, within 80,000 steps: {claim}",
        source=EDGE.replace("figure 1a", f"figure 1{panel}"),
        low=span[0],
        high=span[1],
        measure=share_within("grok_step", 80_000),
        spaces=("grokking_edge_long",),
        select={"orthogonal_gradient": False, "loss": loss, "steps": [80_000, 1e9]},
        **more,
    )


def _scaling(axis: str, published: float) -> Claim:
    """Within a quarter of the published exponent; no interval is published."""
    axes = ("width", "data_fraction", "learning_rate", "weight_decay")
    return Claim(
        name=f"exponent_{axis}",
        chapter=ZONE,
        kind=MECHANISM,
        claim=f"MLP, addition mod 59, widths 48, 80 and 128: exponent of {axis.replace('_', ' ')} in a law of the grok "
        "step, within a quarter of the published one",
        source=SCALING,
        published=f"{published:.2f}",
        points=(published,),
        low=1.25 * published,
        high=0.75 * published,
        unit="exponent",
        measure=exponent(axis, *(other for other in axes if other != axis)),
        spaces=("grok_step_exponents",),
        select={"steps": [2_500, 1e9]},
    )


def _critical(axis: str, where: str, space: str, budgets: tuple[int, ...] = ()) -> Claim:
    """Weights decay by exp(-learning rate x weight decay x steps): what is critical is their product, by its source."""
    return Claim(
        name=f"critical_weight_decay_by_{axis}",
        chapter=ZONE,
        kind=MECHANISM,
        claim=f"MLP, addition mod 59, {where}: the weight decay at which half of the trials begin to generalize falls "
        f"as one over the {axis.replace('_', ' ')}: exponent",
        source=f"{VERMA}, docs/paper_sources.json, eq:lambda-c-derived",
        published="-1: -ln(1 - p) / (learning rate x kappa x steps)",
        points=(-1.0,),
        low=-1.25,
        high=-0.75,
        unit="exponent",
        measure=critical_exponent("weight_decay", axis, budgets),
        spaces=(space,),
        select={"steps": (max(budgets, default=2_000),)},
    )


def _learnable(task: str, point: float, low: float, high: float, logs: str = "", least: int = 1) -> Claim:
    """``least``: trials of fewer steps say nothing."""
    return _accuracy(
        name=f"learnability_{task}",
        chapter=SEQUENCES,
        claim=f"{task}, 16 tokens shown: median test accuracy at the last step",
        source=f"{LEARNABILITY}, results/{task}/train_log.json, one run",
        published=f"{point:.4g}",
        points=(point,),
        logs=logs,
        low=low,
        high=high,
        measure=middle("final_test_accuracy", least),
        shown="final_test_accuracy",
        spaces=("seeds_learnability",),
        select={"task": task, "split": "examples", "context": 16},
        settings=SMALL | {"data_fraction": 0.3, "weight_decay": 1.0, "steps": 100_000},
    )


def _overlap(task: str) -> Claim:
    return Claim(
        name=f"overlap_{task}",
        chapter=SEQUENCES,
        kind=COMPUTED,
        claim=f"{task}: every test window also stands in the training set, so that 100 % is a lookup",
        source=f"{LEARNABILITY}, code/train_learnability.py, replayed",
        published="100 %, read as learned",
        low=0.999,
        high=1.0,
        unit="share of test examples",
        fact=overlaps(task),
    )


def _ceiling(context: int, value: float) -> Claim:
    return Claim(
        name=f"ceiling_{context}",
        chapter=SEQUENCES,
        kind=COMPUTED,
        claim=f"lfsr_31, {context} tokens shown: no predictor can be right more often than {value:g}",
        source=f"{LEARNABILITY}, code/train_learnability.py, the register replayed",
        published="7 of 8 bits learned, the last one beyond reach" if value < 1 else "–",
        low=value - 1e-9,
        high=value + 1e-9,
        unit="accuracy",
        fact=ceiling("lfsr_31", context=context),
    )


def _context(context: int, kind: Kind, low: float, high: float, published: str, logs: str = "") -> Claim:
    small = kind == MECHANISM
    return _accuracy(
        name=f"context_{context}" + ("_mlp" if small else ""),
        chapter=SEQUENCES,
        kind=kind,
        claim=f"lfsr_31 read by {'an MLP' if small else 'the published network'}, {context} tokens shown: median "
        "of the best test accuracy",
        source="the ceiling, computed" if small else f"{LEARNABILITY}, results/lfsr_31_ctx{context}/train_log.json",
        published=published,
        logs=logs,
        low=low,
        high=high,
        measure=middle("best_test_accuracy"),
        shown="best_test_accuracy",
        spaces=("lfsr_context_mlp",) if small else ("lfsr_context",),
        select={"task": "lfsr_31", "context": context, "steps": [2_000, 1e9]} | ({} if small else {"width": 128}),
        settings={} if small else SMALL | {"weight_decay": 1.0, "data_fraction": 0.3},
    )


def _digits(name: str, claim: str, published: str, span: tuple[float, float], measure: Measure, **select: Any) -> Claim:
    return _share(
        name=name,
        chapter=ZONE,
        kind=MECHANISM,
        claim=f"Digits, MLP, mean squared error, test accuracy 0.85 within 20,000 steps: {claim}",
        source=OMNIGROK,
        published=published,
        low=span[0],
        high=span[1],
        measure=measure,
        shown="grok_step",
        spaces=("digits",),
        select={"steps": [20_000, 1e9]} | select,
    )


def _zone(name: str, claim: str, source: str, measure: Measure) -> Claim:
    return _difference(
        name=name,
        chapter=ZONE,
        kind=MECHANISM,
        claim=f"MLP, addition mod 59, within 2,000 steps: {claim}",
        source=source,
        published="above 0",
        low=0.0,
        high=1.0,
        measure=measure,
        spaces=("seeds_goldilocks",),
    )


_takes_over = partial(
    _share,
    chapter=FATES,
    kind=MECHANISM,
    low=MOSTLY[0],
    high=MOSTLY[1],
    measure=share(happened("takeover_step", "both_strides_score")),
)
CLAIMS: tuple[Claim, ...] = (
    *_task(
        "addition",
        grok=(8_000, 10_000),
        groks=(8_000, 9_000, 9_000, 9_000, 10_000),
        jumps=(2_000, 2_000, 3_000, 3_000),
        ends=(1.0, 0.29, 1.0),
    ),
    *_task(
        "multiplication",
        grok=(7_000, 13_000),
        groks=(7_000, 9_000, 10_000, 10_000, 13_000),
        jumps=(1_000, 1_000, 3_000, 4_000),
        ends=(0.33, 1.0, 0.99),
    ),
    _arm(
        "no_weight_decay",
        "without weight decay at most a third of the trials generalizes (embeddings summed or concatenated)",
        f"{PRIETO}, abstract; {MANIFOLD}, paper, section 4.1",
        "does not grok",
        RARELY,
    ),
    _arm(
        "stablemax",
        "without weight decay, StableMax makes at least two thirds generalize",
        f"{PRIETO}, abstract",
        "groks (figure 1b: near step 60,000 of 80,000, another MLP, in float64)",
        MOSTLY,
        ASKED,
        loss="stablemax",
    ),
    _arm(
        "orthogonal_gradient",
        "without weight decay, the orthogonal gradient makes at least two thirds generalize",
        f"{PRIETO}, abstract",
        "groks (figure 1a: near step 150, another MLP)",
        MOSTLY,
        ASKED,
        orthogonal_gradient=True,
    ),
    _arm(
        "stablemax_and_orthogonal_gradient",
        "without weight decay, both together make at least two thirds generalize",
        f"{PRIETO}, abstract",
        "each alone groks",
        MOSTLY,
        ASKED,
        loss="stablemax",
        orthogonal_gradient=True,
    ),
    _edge(
        "edge_orthogonal",
        "with the orthogonal gradient at least two thirds of the trials generalize",
        "generalizes",
        *MOSTLY,
        share_within("grok_step", 300),
        unit="share of trials",
        shown="grok_step",
    ),
    _edge(
        "edge_orthogonal_step",
        "median grok step with the orthogonal gradient, within half and twice the published one",
        "about 150, read off the figure",
        75,
        300,
        time_to("grok_step"),
        unit="optimizer steps",
        shown="grok_step",
        points=(150,),
    ),
    _edge(
        "edge_plain",
        "without the orthogonal gradient at most a third of the trials generalizes",
        "–",
        *RARELY,
        share_within("grok_step", 300),
        unit="share of trials",
        kind=ASKED,
    ),
    _edge_long(
        "edge_stablemax",
        "with StableMax at least two thirds of the trials generalize",
        "b",
        "stablemax_float64",
        MOSTLY,
        published="generalizes near 60,000, read off the figure",
        shown="grok_step",
        settings=ONE_HOT | {"beta2": 0.999, "epsilon": 1e-25},
    ),
    _edge_long(
        "edge_softmax",
        "with a softmax in float64 at most a third of the trials generalizes",
        "c",
        "cross_entropy_float64",
        RARELY,
        published="does not generalize (0.00)",
        shown="best_test_accuracy",
        settings=ONE_HOT | {"beta2": 0.99, "epsilon": 1e-25},
    ),
    Claim(
        name="logit_scale",
        chapter=JUMP,
        claim="Addition mod 59, norm held at four values x three output temperatures: share of the variance of the "
        "logarithm of the grok step that the scale of the logits explains",
        source=KHANH,
        published="0.968 over 12 cells, n = 144",
        points=(0.968,),
        low=0.9,
        high=1.0,
        unit="R^2",
        measure=explained("logit_scale", "temperature", ("norm_clamp", "temperature")),
        spaces=("norm_and_temperature",),
        select={"loss": "cross_entropy", "norm_clamp": [50.0, 70.0], "steps": [20_000, 1e9]},
        settings={"modulus": 59, "data_fraction": 0.4, "learning_rate": 1e-3, "weight_decay": 1.0, "width": 256},
    ),
    _accuracy(
        name="random_labels",
        chapter=JUMP,
        kind=COMPUTED,
        claim="Random labels, 97 classes: no predictor can be right more often than one time in 97 on test examples",
        source=POWER + ": without a rule in the table there is nothing to generalize to",
        published="never",
        low=0.0,
        high=0.011,
        fact=ceiling("random_labels"),
    ),
    _arm(
        "permutations",
        "composition of permutations, at weight decay 1, generalizes in at least two thirds of the trials",
        POWER + ": S5 is among the tables that generalize",
        "generalizes",
        MOSTLY,
        task="permutation_composition",
        weight_decay=1.0,
    ),
    Claim(
        name="oscillations",
        chapter=LOSS,
        claim="Falls from test accuracy >= 0.9 to below 0.5 at the next evaluation, in 150,000 steps",
        source=f"{README_FINDINGS} 2, results_multi_seed/summary.json",
        published="12 to 20",
        logs="13, 20, 16 (addition), 14, 17, 12 (multiplication)",
        points=(12, 13, 14, 16, 17, 20),
        low=12,
        high=20,
        unit="oscillations",
        measure=middle("oscillations"),
        spaces=("seeds_success_rate",),
        select={"weight_decay": 1.0, **PLAIN, "steps": 150_000},
        settings=SMALL | {"modulus": 97, "data_fraction": 0.3, "evaluate_every": 1_000},
        shown="oscillations",
    ),
    _difference(
        name="collapse",
        chapter=LOSS,
        kind=ASKED,  # an MLP without dips: what the published network does it cannot show
        claim="MLP, multiplication, 1,000,000 steps: the share of evaluations at or above 0.99 is lower by 0.1 or more "
        "in the later half after the grok step than in the earlier one",
        source=f"{TAKEOVER}, weight decay 2, 5,000,000 steps, one run",
        published="collapse for good, of the transformer (ends at 0.734)",
        logs="0.998 one evaluation earlier; dips become denser, none lasts",
        low=-1.0,
        high=-0.1,
        measure=difference("late_high_share", "early_high_share"),
        spaces=("collapse_small",),
        select={"late_weight_decay": -1.0, "task": "modular_multiplication", "steps": [1_000_000, 1e9]},
    ),
    _fate(
        1.0,
        "does not grok (0.896)",
        "1.0 at step 10,000; 0.896 is the last of 200 evaluations",
        RARELY,
        "at most a third of the trials",
    ),
    _fate(1.5, "groks (1.00)", "", MOSTLY, "at least two thirds of the trials"),
    _fate(2.0, "groks (1.00)", "34 of 200 evaluations are below 0.90", MOSTLY, "at least two thirds of the trials"),
    _fate(5.0, "over-compressed (0.777)", "0.994 within 10,000 steps", RARELY, "at most a third of the trials"),
    _share(
        name="capacity",
        chapter=FATES,
        claim="Multiplication, weight decay 2, width 256, depth 4: at most a third of the trials reaches 0.9 within "
        "5,000 steps",
        source=f"{TAKEOVER}, capacity study, one run",
        published="cannot (0.5175, train 0.564)",
        logs="1.0 at step 5,000",
        low=RARELY[0],
        high=RARELY[1],
        measure=share_within("grok_step", 5_000),
        shown="best_test_accuracy",
        spaces=("capacity_reached", "seeds_capacity"),
        select={"width": 256, "depth": 4, "weight_decay": 2.0, "task": "modular_multiplication"},
        settings=MULTIPLICATION | {"weight_decay": 2.0, "heads": 8, "learning_rate": 1e-3, "batch_size": 512},
    ),
    Claim(
        name="outer_ring",
        chapter=FATES,
        claim="Multiplication, weight decay 1: adjacency score of the outer stride at the last step",
        source=f"{MANIFOLD}, exp_group2_multiplication/results/adjacency_analysis/coset_adjacency_results.json",
        published="1.0 (a perfect ring of 12 cosets)",
        points=(1.0,),
        low=0.9,
        high=1.0,
        unit="adjacency score",
        measure=middle("winning_stride_score"),
        shown="winning_stride_score",
        **_runs("multiplication") | {"settings": SMALL | MULTIPLICATION | {"steps": 100_000}},
    ),
    _share(
        name="ring_in_addition",
        chapter=FATES,
        claim="Addition: in at most a third of the trials the classes form a ring in the hidden space, in whatever "
        "stride, that chance does not explain (p < 0.01)",
        source=f"{MANIFOLD}, exp_group1_addition/results/adjacency_analysis/adjacency_results.json",
        published="no ring (adjacency 0.0)",
        logs="stride 1 alone was looked at, in a plane (UMAP); of the 194 neighbors listed 26 lie 37 apart, as many as "
        "in none of 4,999 random relabelings",
        low=RARELY[0],
        high=RARELY[1],
        measure=share(below("winning_stride_p_value", 0.01)),
        shown="winning_stride_score",
        **_runs("addition") | {"settings": SMALL | ADDITION | {"steps": 100_000}},
    ),
    _takes_over(
        name="takeover",
        claim="Transformer of width 32, weight decay 2: an inner stride takes over from an outer one in at least two "
        "thirds of the trials, within 200,000 steps",
        source=f"{TAKEOVER}, weight decay 2, one run",
        published="by step 140,000",
        shown="takeover_step",
        spaces=("takeover_small",),
        select={"weight_decay": 2.0, "width": 32, "steps": [200_000, 1e9]},
    ),
    _takes_over(
        name="takeover_mlp",
        claim="MLP, p = 97, 60,000 steps in which weights decay as in 300,000 to 400,000 published ones: an inner "
        "stride takes over from an outer one in at least two thirds of the trials",
        source=f"{TAKEOVER}, one run for each of two weight decays",
        published="2 of 2 (by steps 350,000 and 140,000)",
        shown="both_strides_score",
        spaces=("strides_by_modulus",),
        select={"modulus": 97, "steps": [60_000, 1e9]},
    ),
    _accuracy(
        name="takeover_accuracy",
        chapter=FATES,
        kind=MECHANISM,
        claim="Transformer of width 32, weight decay 2: median test accuracy while the inner stride takes over",
        source=f"{TAKEOVER}: test accuracy 100 % throughout the takeover",
        published="1.00",
        logs="0.22 at step 140,000, the takeover step; 0.37 at 350,000, that of weight decay 1.5",
        points=(0.366, 0.223),
        low=0.99,
        high=1.0,
        measure=middle("takeover_accuracy"),
        shown="takeover_accuracy",
        spaces=("takeover_small",),
        select={"weight_decay": 2.0, "width": 32, "steps": [200_000, 1e9]},
    ),
    _share(
        name="inner_stride_4",
        chapter=FATES,
        claim="Multiplication, weight decays 1.5 and 2: the inner winning stride is 4 at the last step in at least two "
        "thirds of the trials",
        source=f"{TAKEOVER}, one run for each weight decay",
        published="2 of 2",
        low=MOSTLY[0],
        high=MOSTLY[1],
        measure=share(inner_stride_is(lambda outer, inner: 4)),
        shown="inner_winning_stride",
        spaces=("weight_decay_fates", "seeds_takeover"),
        select={"task": "modular_multiplication", "weight_decay": (1.5, 2.0), **PLAIN},
        settings=SMALL | MULTIPLICATION | {"steps": 1_000_000},
    ),
    _inner("inner_stride_4_mlp", "p = 97: the inner winning stride is 4", "2 of 2", lambda outer, inner: 4, (97,)),
    _inner(
        "inner_stride_gcd",
        "p = 61, 73, 89, 113: the inner winning stride is gcd(outer, inner places)",
        "at p = 97 alone",
        gcd,
        (61, 73, 89, 113),
    ),
    _inner(
        "inner_stride_half",
        "p = 61, 73, 89, 113: the inner winning stride is half of the inner places",
        "nothing; at p = 97 it is the gcd",
        lambda outer, inner: inner // 2,
        (61, 73, 89, 113),
        ASKED,
        "–",
    ),
    _dimension("addition", 8, "8 (from 78)", "8 at step 7,000, before the grok step; 3 and 1 inside later dips"),
    _dimension("multiplication", 11, "11 (from 89)", "11 at steps 8,000 and 9,000"),
    Claim(
        name="twonn_addition",
        chapter=SHAPE,
        claim="Addition: TwoNN dimension of the hidden test vectors at the last step, 12,000 or 15,000",
        source=f"{MANIFOLD}, results/dimension_analysis.json",
        published="8 to 10 (from 20)",
        points=(6.46, 6.99, 8.32),
        logs="6.5 at step 8,000, 7.0 at 9,000, 8.3 at 10,000",
        low=8,
        high=10,
        unit="dimensions",
        measure=middle("twonn_dimension"),
        shown="twonn_dimension",
        **_runs("addition") | {"select": _runs("addition")["select"] | {"ending": "budget"}},
    ),
    *_bottleneck("addition", 17_500),
    *_bottleneck("multiplication", 39_000),
    _learnable("periodic", 1.0, 0.95, 1.0),
    _learnable("lfsr_5", 1.0, 0.95, 1.0),
    _learnable("lcg_simple", 1.0, 0.95, 1.0),
    _learnable("lfsr_31", 0.502, 0.45, 0.55, "0.509 at step 500, 0.49 to 0.52 ever after"),
    _learnable("lcg_glibc", 0.0041, 0.0, 0.02, least=1_000),
    _learnable("csprng", 0.0033, 0.0, 0.02),
    _overlap("periodic"),
    _overlap("lfsr_5"),
    _overlap("lcg_simple"),
    _ceiling(16, 0.5),
    _ceiling(24, 1.0),
    _context(32, PUBLISHED, 0.95, 1.0, "1.00", "0.99 at step 4,000"),
    _context(16, MECHANISM, 0.45, 0.55, "0.50"),
    _context(23, MECHANISM, 0.45, 0.55, "0.50"),
    _context(24, MECHANISM, 0.95, 1.0, "1.00"),
    _context(32, MECHANISM, 0.95, 1.0, "1.00"),
    _accuracy(
        name="reverse_scaling",
        chapter=SEQUENCES,
        claim="lfsr_31, 4 layers of width 1024, learning rate 0.0003: median test accuracy at the last step",
        source=f"{LEARNABILITY}, results/lfsr_31_xlarge/train_log.json, one run (16 heads, 0.0005, batches of 128)",
        published="0.005",
        points=(0.005,),
        low=0.0,
        high=0.05,
        measure=middle("final_test_accuracy"),
        spaces=("seeds_reverse_scaling",),
        select={"task": "lfsr_31", "width": 1024, "depth": 4, "learning_rate": 3e-4},
        settings={"heads": 16, "context": 16, "batch_size": 128, "steps": 100_000},
        shown="final_test_accuracy",
    ),
    Claim(
        name="reverse_scaling_small",
        chapter=SEQUENCES,
        kind=ASKED,  # published is no loss at 25 times the weights, and one at 100 times
        claim="lfsr_31, 16 tokens shown, transformers of 2 layers, 1,000 steps at learning rate 0.001: the last test "
        "accuracy at width 128 is lower by 0.1 or more than at width 32 (median over the seeds)",
        source=f"{LEARNABILITY}, README, core findings 3; learning rate, batch and weight decay change with the size",
        published="the largest model loses what smaller ones learn (0.50 at 0.3 and 8 million weights, 0.005 at 33)",
        logs="at 33 million the training set is not learned either (0.008)",
        low=-1.0,
        high=-0.1,
        unit="difference of accuracies",
        measure=change("final_test_accuracy", {"width": 128}, {"width": 32}),
        spaces=("size_and_learning_rate", "seeds_learnability"),
        select={"task": "lfsr_31", "split": "examples", "context": 16, "learning_rate": 1e-3, "steps": (1_000,)},
        settings={"depth": 2, "weight_decay": 1.0, "data_fraction": 0.3},
    ),
    _zone(
        "goldilocks_lowest",
        "the share that generalizes is larger at the inner weight decays than at the lowest",
        LIU,
        inside_minus_end("lowest"),
    ),
    _zone(
        "goldilocks_highest",
        "the share that generalizes is larger at the inner weight decays than at the highest",
        LIU,
        inside_minus_end("highest"),
    ),
    _zone(
        "more_data",
        "the share that generalizes is larger at data fraction 0.7 than at 0.3",
        f"{POWER}: less data, later generalization; Varma et al. 2023, arXiv 2309.02390: a critical size of the data",
        between({"data_fraction": 0.7}, {"data_fraction": 0.3}),
    ),
    _zone(
        "more_width",
        "the share that groks, and does not generalize at once, is larger at width 96 than at 16",
        f"{MANIFOLD}, paper, section 4.3: over-parameterized models are more prone to grokking",
        between({"width": 96}, {"width": 16}, is_phase("grokking")),
    ),
    _critical("learning_rate", "within 2,000 steps", "critical_weight_decay"),
    _critical("steps", "learning rate 0.01, within 500 to 8,000 steps", "critical_weight_decay_budget", BUDGETS),
    Claim(
        name="grok_step_above",
        chapter=ZONE,
        kind=MECHANISM,
        claim="The same MLP at weight decays of 0.65 to 1.5, where all trials generalize (chosen once that was known): "
        "exponent of weight decay in a law of the grok step",
        source=VERMA,
        published="-0.757 [-0.799, -0.725], n = 140 (from 0.1 to 2)",
        points=(-0.757,),
        low=1.25 * -0.757,
        high=0.75 * -0.757,
        unit="exponent",
        measure=exponent("weight_decay"),
        spaces=("critical_weight_decay",),
        select={"learning_rate": 1e-2, "weight_decay": [0.6, 1.6], "steps": [2_000, 1e9]},
    ),
    _scaling("width", -0.27),
    _scaling("data_fraction", -2.04),
    _scaling("learning_rate", -0.50),
    _scaling("weight_decay", -0.64),
    _digits(
        "digits_grok",
        "at 4 and 8 times the usual initial weights and weight decay 0.1, at least two thirds of the trials grok",
        "groks (weight decay 0.01, 100,000 steps)",
        MOSTLY,
        share(is_phase("grokking")),
        initial_scale=[4.0, 8.0],
        weight_decay=0.1,
    ),
    _digits(
        "digits_without_decay",
        "the same without weight decay: at most a third generalizes",
        "does not, or very late",
        RARELY,
        share(generalized),
        initial_scale=[4.0, 8.0],
        weight_decay=0.0,
    ),
    _digits(
        "digits_usual_weights",
        "at the usual initial weights, at least two thirds generalize as they memorize (comprehension)",
        "no grokking",
        MOSTLY,
        share(is_phase("comprehension")),
        initial_scale=1.0,
    ),
    _difference(
        name="precision",
        chapter=MORE,
        kind=ASKED,
        claim="MLP, addition mod 59, where all trials generalize in fp32: bf16 lowers their share by less than 0.2",
        source="–",
        published="–",
        low=-0.2,
        high=0.2,
        measure=between({"precision": "bf16"}, {"precision": "fp32"}),
        spaces=("precision",),
        select={"model": "mlp", "modulus": 59},
        settings={"depth": 1, "learning_rate": 1e-2, "beta2": 0.98, "data_fraction": 0.4, "evaluate_every": 100},
    ),
    _difference(
        name="annealing",
        chapter=MORE,
        kind=ASKED,
        claim="MLP, multiplication, 1,000,000 steps: a tenth of the weight decay from step 20,000 on raises the share "
        "of evaluations at or above 0.99 late in the run by 0.1 or more (median over the seeds)",
        source="–",
        published="–",
        low=0.1,
        high=1.0,
        measure=change("late_high_share", {"late_weight_decay": 0.1}, {"late_weight_decay": -1.0}),
        spaces=("collapse_small",),
        select={"task": "modular_multiplication", "steps": [1_000_000, 1e9]},
    ),
)
