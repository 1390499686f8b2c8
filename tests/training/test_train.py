"""A trial's result is the same alone and in any stack, bit for bit; and the life of a stack."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from small import MLP, PARITY, TRANSFORMER, facts, finish, mixed, trained

from phasemap.numerics import processor
from phasemap.plan.outcome import CURVES, DEFINITIONS
from phasemap.plan.trial import Trial
from phasemap.probes import names
from phasemap.training.train import begin

SEQUENCE = TRANSFORMER.replace(task="lfsr_5", context=6, split="distinct", batch_size=8, steps=12, evaluate_every=6)
EVERY_PROBE = "+".join(name for name in names() if name != "homology")  # which needs ripser
SHAPES = {
    "mlp": MLP,
    "mlp, concatenated, deep, late weight decay": MLP.replace(
        embedding="concatenate", depth=3, activation="gelu", late_weight_decay=0.2, decay_switch=30
    ),
    "mlp, full batch, mean squared error": MLP.replace(batch_size=0, loss="mean_squared_error"),
    "mlp, orthogonal gradient, stablemax": MLP.replace(orthogonal_gradient=True, loss="stablemax"),
    "mlp, tanh, rms norm, residual": MLP.replace(depth=3, activation="tanh", hidden_norm="rms", residual=True),
    "mlp, silu, layer norm": MLP.replace(activation="silu", hidden_norm="layer"),
    "transformer": TRANSFORMER,
    "transformer, pre-norm, adam, bottleneck": TRANSFORMER.replace(norm="pre", optimizer="adam", bottleneck=4),
    "transformer, division, warm-up": TRANSFORMER.replace(task="modular_division", warmup=20, clone_blocks=True),
    "transformer, six tokens": PARITY,
    "transformer, rms norm, mean pooling, sigmoid": TRANSFORMER.replace(
        norm="pre", norm_kind="rms", pooling="mean", activation="sigmoid"
    ),
    "mlp, subnormals flushed": MLP.replace(subnormals="flushed"),
    "transformer, bf16": TRANSFORMER.replace(precision="bf16"),
    "transformer, tf32": TRANSFORMER.replace(precision="tf32"),
}


def mixed_stack(trial: Trial) -> list[Trial]:
    trials = mixed(trial)
    if trial.batch_size == 0:  # there the data fraction is part of the shape
        trials = [one.replace(data_fraction=trial.data_fraction) for one in trials]
    assert len({one.shape for one in trials}) == 1
    return trials


@pytest.mark.product
@pytest.mark.parametrize("trial", SHAPES.values(), ids=SHAPES)
def test_a_trial_alone_is_the_same_trial_in_any_stack(trial):
    alone_and_in_stacks(trial)


@pytest.mark.long
def test_a_trial_with_every_probe_alone_is_the_same_in_any_stack():
    """Long, because umap compiles itself first."""
    every = {"modulus": 17, "probes": EVERY_PROBE, "probe_every": 30}
    alone_and_in_stacks(TRANSFORMER.replace(task="modular_multiplication", **every))


def alone_and_in_stacks(trial):
    trials = mixed_stack(trial)
    alone = {one.id: facts(trained([one])[one.id]) for one in trials}
    assert len({told["curve of train_loss"] for told in alone.values()}) == 5
    orders = (trials[::-1], [trials[3], trials[0]], [trials[1], trials[3], trials[4]])
    for order in orders:
        found = trained(order)
        assert found.keys() == {one.id for one in order}
        for one in order:
            assert facts(found[one.id]) == alone[one.id]
    assert alone[trials[3].id]["ending"] == "'diverged'"


ODD = {"width": 9, "batch_size": 21}  # pieces, activations and trials begin at every place within 64 bytes
NETWORKS = {
    "mlp, summed": MLP.replace(**ODD, depth=2),
    "mlp, concatenated, orthogonal": MLP.replace(**ODD, embedding="concatenate", orthogonal_gradient=True),
    "mlp, gelu, bottleneck": MLP.replace(**ODD, activation="gelu", bottleneck=3),
    "transformer, post-norm": TRANSFORMER.replace(**ODD, heads=3),
    "transformer, pre-norm, two blocks": TRANSFORMER.replace(**ODD, heads=3, norm="pre", depth=2),
    "transformer, no norm, bottleneck": TRANSFORMER.replace(**ODD, heads=3, norm="none", bottleneck=5),
    "transformer, six tokens": PARITY.replace(**ODD, heads=3),
    "transformer, six tokens, two blocks": PARITY.replace(**ODD, heads=1, depth=2, norm="pre"),
    "mlp, tanh, rms norm, residual": MLP.replace(**ODD, depth=2, activation="tanh", hidden_norm="rms", residual=True),
    "mlp, sigmoid, layer norm": MLP.replace(**ODD, depth=2, activation="sigmoid", hidden_norm="layer"),
    "mlp, silu": MLP.replace(**ODD, depth=2, activation="silu"),
    "transformer, rms norm, mean pooling": TRANSFORMER.replace(**ODD, heads=3, norm_kind="rms", pooling="mean"),
    "transformer, six tokens, mean pooling": PARITY.replace(**ODD, heads=3, norm="pre", pooling="mean"),
    "transformer of even width": TRANSFORMER,
    "transformer of even width, six tokens": PARITY.replace(depth=2),
}


def numbers_of(trials: list[Trial], offset: int) -> tuple[torch.Tensor, dict[str, str]]:
    """The last trial's weights and its curves after some steps in a stack that begins ``offset`` numbers off a line."""
    training = begin(tuple(one.replace(steps=9, evaluate_every=5, probe_every=5) for one in trials))
    training.flat, *state = (
        torch.empty(offset + part.numel())[offset:].view_as(part).copy_(part)
        for part in (training.flat, *training.state)
    )
    training.state = tuple(state)
    training.advance(5)
    assert training.evaluate() == []
    assert training.flat.data_ptr() % 64 == 4 * offset
    curves = training.curves[training.trials[-1].id]
    return training.flat[-1].clone(), {key: repr(points) for key, points in curves.items()}


@pytest.mark.product
@pytest.mark.parametrize("trial", NETWORKS.values(), ids=NETWORKS)
def test_a_trials_numbers_do_not_depend_on_where_its_row_lies(trial):
    others = [trial.replace(seed=seed) for seed in range(1, 7)]
    weights, curves = numbers_of([trial], 0)
    assert weights.isfinite().all()
    for offset in range(16):
        for trials in (1, 2, 3) if offset else (1, 2, 3, 7):
            found, told = numbers_of([*others[: trials - 1], trial], offset)
            assert torch.equal(found, weights), (offset, trials)
            assert told == curves, (offset, trials)


@pytest.mark.long
def test_with_two_threads_a_trial_alone_is_the_same_in_a_stack():
    """Activations and pieces here are long enough for torch to share work between threads."""
    code = """
import dataclasses, small
wide = small.MLP.replace(width=192, steps=4, evaluate_every=2, probe_every=4)
trials = small.mixed(wide)[:3]
together = small.trained(trials)
for one in trials:
    assert small.facts(small.trained([one])[one.id]) == small.facts(together[one.id])
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PHASEMAP_PRODUCT": ""}
    folder = Path(__file__).parents[1] / "helpers"
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, check=True)


def test_the_same_stack_twice_is_the_same():
    first, second = trained(mixed(MLP)), trained(mixed(MLP))
    assert {key: facts(one) for key, one in first.items()} == {key: facts(one) for key, one in second.items()}


@pytest.mark.product
@pytest.mark.parametrize("batch_size", [8, 0])
def test_windows_split_by_distinct_inputs_are_the_same_alone_and_stacked(batch_size):
    """Here the training sets of the trials differ in length."""
    shape = (
        SEQUENCE
        if batch_size
        else SEQUENCE.replace(model="mlp", embedding="concatenate", batch_size=0, steps=4, evaluate_every=2)
    )
    trials = [shape.replace(probe_every=0, seed=seed) for seed in range(3)]
    together = trained(trials)
    for one in trials:
        assert facts(trained([one])[one.id]) == facts(together[one.id])
        assert together[one.id].outcome.overlap == 0


@pytest.mark.long
def test_compiled_steps_of_shapes_with_equal_tensors_are_not_mixed_up():
    """What the step closes over is not compared before a call, so each shape needs steps of its own."""
    for change in ({}, {"activation": "gelu"}, {"optimizer": "adam"}, {"beta1": 0.5}):
        trial = MLP.replace(**change)
        eager, fast = begin((trial,)), begin((trial,), compiled=True)
        for training in (eager, fast):
            training.advance(10)
        assert fast.compiled
        torch.testing.assert_close(fast.flat, eager.flat, rtol=1e-4, atol=1e-5)


COMPILED = {
    name: SHAPES[name]
    for name in (
        "mlp, tanh, rms norm, residual",
        "mlp, silu, layer norm",
        "mlp, concatenated, deep, late weight decay",
        "mlp, orthogonal gradient, stablemax",
        "transformer, pre-norm, adam, bottleneck",
    )
} | {
    "transformer, six tokens, rms norm, mean pooling, sigmoid, bf16": PARITY.replace(
        norm="pre", norm_kind="rms", pooling="mean", activation="sigmoid", precision="bf16"
    )
}


@pytest.mark.long
@pytest.mark.parametrize("trial", COMPILED.values(), ids=COMPILED)
def test_a_compiled_trial_alone_is_the_same_in_a_stack(trial):
    """Each takes up to a minute of compiling."""
    trials = mixed_stack(trial)  # of the last three the middle diverges early, so that the stack shrinks on its way
    together = trained(trials[2:], compiled=True)
    assert {one.notes["engine"] for one in together.values()} == {"compiled"}
    alone = trained(trials[4:], compiled=True)
    assert facts(alone[trials[4].id]) == facts(together[trials[4].id])


WEIGHTS = """
import sys
from small import TRANSFORMER
from phasemap.training.train import begin

def weights(**change):
    training = begin((TRANSFORMER.replace(batch_size=0, **change),), compiled=True)
    for step in (2, 7):  # blocks of different lengths
        training.advance(step)
    assert training.compiled
    return training.flat.numpy().tobytes().hex()

if sys.argv[1] == "later":
    weights(width=12, heads=2, data_fraction=0.4)
print(weights())
"""


@pytest.mark.long
def test_compiled_steps_do_not_depend_on_what_the_process_trained_before():
    """Left to itself, torch compiles the second width of a process for any width: other bits, at half the speed."""

    def run(when: str) -> str:
        here = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1] / "helpers"))
        command = [sys.executable, "-c", WEIGHTS, when]
        return subprocess.run(command, env=here, check=True, capture_output=True, text=True, timeout=900).stdout

    assert run("first") == run("later")


def test_a_diverged_trial_is_recorded_as_diverged_and_its_neighbors_finish():
    trials = mixed(MLP)
    results = trained(trials)
    outcome = results[trials[3].id].outcome
    assert (outcome.phase, outcome.ending) == ("diverged", "diverged")
    assert outcome.steps_run == 20
    assert outcome.final_train_loss is None
    assert all(value == value for value in outcome.values.values() if isinstance(value, float))
    for trial in (*trials[:3], trials[4]):
        outcome = results[trial.id].outcome
        assert (outcome.ending, outcome.steps_run) == ("budget", 60)


def test_a_network_crushed_to_nothing_has_no_dimension_rather_than_not_a_number():
    crushed = MLP.replace(weight_decay=99.0, optimizer="sgd")
    outcome = trained([crushed])[crushed.id].outcome
    assert outcome.weight_norm < 1e-2
    assert outcome.ending == "budget"
    values = [value for value in outcome.values.values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in values)


SETTLING = MLP.replace(stop_when_settled=True, steps=200, evaluate_every=10, probe_every=40)


def test_a_settled_trial_stops_and_leaves_the_others_as_they_would_be_without_it():
    easy = SETTLING.replace(grok_threshold=0.01, settle_evaluations=2)
    hard = [SETTLING.replace(seed=seed, weight_decay=0.3) for seed in (1, 2)]
    results = trained([hard[0], easy, hard[1]])
    outcome = results[easy.id].outcome
    assert outcome.ending == "settled"
    assert outcome.steps_run < 200
    assert outcome.settled_step == outcome.steps_run - 10
    assert results[easy.id].curves["test_accuracy"][0][-1] == outcome.steps_run
    for one in hard:
        assert results[one.id].outcome.ending == "budget"
        assert facts(results[one.id]) == facts(trained([one])[one.id])
    assert facts(results[easy.id]) == facts(trained([easy])[easy.id])


def test_a_trial_that_settles_between_two_probes_is_probed_at_its_end():
    easy = SETTLING.replace(grok_threshold=0.001, settle_evaluations=3)
    found = trained([easy])[easy.id]
    assert found.outcome.steps_run == 30
    assert found.curves["intrinsic_dimension"][0] == (30,)
    assert found.outcome.intrinsic_dimension == found.curves["intrinsic_dimension"][1][0]


def test_training_goes_on_after_settling_unless_told_to_stop():
    goes_on = SETTLING.replace(stop_when_settled=False, grok_threshold=0.01, settle_evaluations=2)
    outcome = trained([goes_on])[goes_on.id].outcome
    assert (outcome.ending, outcome.steps_run) == ("budget", 200)
    assert outcome.settled_step is not None


GROKS = Trial(
    modulus=23,
    data_fraction=0.8,
    model="mlp",
    width=64,
    depth=1,
    learning_rate=1e-2,
    beta2=0.98,
    weight_decay=1.0,
    steps=800,
    evaluate_every=100,
    probe_every=800,
    delay_limit=200,
)


def test_addition_groks_and_labels_without_a_rule_never_do():
    learned = trained([GROKS])[GROKS.id].outcome
    assert learned.memorization_step is not None
    assert learned.grok_step is not None
    assert learned.best_test_accuracy > 0.95
    assert learned.phase in ("grokking", "comprehension")
    control = GROKS.replace(task="random_labels", weight_decay=0.01)
    found = trained([control])[control.id].outcome
    assert found.final_train_accuracy > 0.95
    assert found.grok_step is None
    assert found.best_test_accuracy < 0.2
    assert found.phase == "memorization"
    assert found.ceiling == 1 / 23


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(60, 20, [20, 40, 60]), (50, 20, [20, 40, 50]), (15, 15, [15]), (7, 3, [3, 6, 7])],
)
def test_the_last_step_is_always_evaluated(steps, every, expected):
    trial = MLP.replace(steps=steps, evaluate_every=every, probe_every=0)
    found = trained([trial])[trial.id]
    assert list(found.curves["test_accuracy"][0]) == expected
    assert found.outcome.steps_run == found.curves["weight_norm"][0][-1] == steps


def test_log_spaced_evaluations_grow_by_a_factor_up_to_their_interval():
    trial = MLP.replace(steps=100, evaluate_every=20, log_spaced=True, probe_every=0)
    steps = trained([trial])[trial.id].curves["test_accuracy"][0]
    assert steps[:6] == (1, 2, 3, 4, 5, 6)
    assert set(steps) >= {20, 40, 60, 80, 100}
    assert all(0 < after - before <= max(1, round(before / 4)) for before, after in pairwise(steps))
    assert len(steps) < 25


@pytest.mark.long
def test_the_last_point_of_a_curve_is_the_outcome():
    task = "modular_multiplication"
    quick = EVERY_PROBE.replace("local_learning_coefficient+", "")  # seconds; its own test has it
    trial = TRANSFORMER.replace(task=task, modulus=17, probe_every=20, probes=quick, label_noise=0.2)
    found = trained([trial])[trial.id]
    assert {key for key in found.curves if "/" not in key} == set(CURVES) - {"local_learning_coefficient"}
    for key, (steps, values) in found.curves.items():
        assert steps[-1] == trial.steps
        if "/" in key:
            continue
        name = key if key in DEFINITIONS else f"final_{key}"
        assert getattr(found.outcome, name) == values[-1]
    assert found.curves["train_loss"][0] == (10, 20, 30)
    assert found.curves["weight_norm"][0] == (20, 30)


def test_curves_without_a_group_hold_no_stride():
    trial = PARITY
    found = trained([trial])[trial.id]
    assert not any("stride" in key for key in found.curves)
    assert found.outcome.winning_stride is None


def test_accuracies_are_those_of_the_trials_own_split():
    """Recomputed from the weights, example by example."""
    trials = mixed(MLP)[:3]
    training = begin(tuple(trials))
    training.advance(20)
    model, tokens, labels = training.network, training.inputs, training.labels
    weights = model.layout.split(training.flat)
    hits = model.logits(weights, tokens[None]).argmax(-1) == labels
    sets = zip(training.batches.train, training.batches.counts, strict=True)
    train_sets = [set(part[:count].tolist()) for part, count in sets]
    assert training.evaluate() == []
    for k, trial in enumerate(trials):
        assert len(train_sets[k]) == int(169 * trial.data_fraction)
        for side, members in (("train", train_sets[k]), ("test", set(range(169)) - train_sets[k])):
            expected = hits[k, sorted(members)].double().mean().item()
            ((step, value),) = training.curves[trial.id][f"{side}_accuracy"]
            assert step == 20
            assert value == pytest.approx(expected, abs=1e-6)


def test_rows_kept_are_unchanged():
    trials = mixed(MLP)
    training = begin(tuple(trials))
    training.advance(7)
    before = training.flat.clone()
    training.keep([4, 1])
    assert training.trials == (trials[4], trials[1])
    assert torch.equal(training.flat, before[[4, 1]])
    results = finish(training)
    for trial in (trials[4], trials[1]):
        assert facts(results[trial.id]) == facts(trained([trial])[trial.id])


def test_a_result_says_what_its_last_bits_depend_on():
    notes = trained([MLP.replace(steps=20)]).popitem()[1].notes
    assert notes["device"] == f"cpu {processor.name()}"
    assert notes["device"].startswith(f"cpu {torch.backends.cpu.get_cpu_capability()} ")
    assert notes["engine"] == "eager"
    assert notes["torch"] == torch.__version__
    assert notes["product"]


def test_the_trials_of_a_stack_share_its_time_and_none_is_counted_twice():
    began = time.perf_counter()
    shares = [found.outcome.train_seconds for found in trained(mixed(MLP)).values()]
    assert min(shares) > 0
    assert sum(shares) <= time.perf_counter() - began


SMALLEST = torch.finfo(torch.float32).smallest_normal


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_subnormal_numbers_are_flushed_on_request_and_change_nothing_that_is_recorded(optimizer):
    """The weights of a unit that is off decay out of the normal numbers."""
    long = MLP.replace(steps=1_000, evaluate_every=50, learning_rate=0.02, depth=2, optimizer=optimizer)
    trained = []
    for trial in (long, long.replace(subnormals="flushed")):
        training = begin((trial,))
        weights = training.network.layout.split(training.flat)
        weights["layer0.bias"][:, 0] = -100
        weights["layer0.weight"][..., 0] = weights["layer1.weight"][:, 0] = 2 * SMALLEST
        for until in (50, 100):
            training.advance(until)
            training.evaluate()
        trained.append((training.flat, training.curves[trial.id]))
    (kept, curves), (flushed, flushed_curves) = trained
    assert ((kept != 0) & (kept.abs() < SMALLEST)).any()
    assert not ((flushed != 0) & (flushed.abs() < SMALLEST)).any()
    assert flushed_curves == curves
    assert torch.equal(kept[kept.abs() > 1e-30], flushed[kept.abs() > 1e-30])
    assert torch.tensor(2e-38) / 4 > 0  # outside of training nothing is flushed
