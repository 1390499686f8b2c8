"""Wrong training labels, and splits by tokens and by classes: what is replaced or held out, and what is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import MLP, TRANSFORMER, facts, mixed, trained

from phasemap.fields import Fault
from phasemap.numerics.random_streams import replaced
from phasemap.plan.trial import make_trial
from phasemap.tasks.task import Task
from phasemap.training.train import begin

NOISY = MLP.replace(label_noise=0.3, probes="corruption")


def masks(trial):
    """The rule's labels and those trained on [N], and the training set [N]."""
    training = begin((trial,))
    return training.labels.numpy(), training.targets[0].numpy(), training.split.train[0].numpy()


def test_a_share_of_the_training_labels_is_another_class_and_no_test_label_is():
    for share, wrong in ((0.0, 0), (0.3, 25), (1.0, 84)):
        labels, targets, train = masks(MLP.replace(label_noise=share))  # 84 of 169 examples are trained on
        assert (targets != labels).sum() == wrong
        assert not (targets != labels)[~train].any()


def test_a_larger_share_replaces_more_labels_and_gives_back_none():
    few, more = (masks(MLP.replace(label_noise=share))[1] for share in (0.2, 0.5))
    labels = masks(MLP)[0]
    assert (more[few != labels] == few[few != labels]).all()


def test_wrong_labels_are_drawn_evenly_and_independently_of_one_another():
    chosen = torch.ones(1, 60_000, dtype=torch.bool)
    which, further = replaced([3], chosen, [0.5], 5)
    assert int(which.sum()) == 30_000
    counts = np.bincount(further[which].numpy(), minlength=6)[1:]
    assert ((counts - 6_000) ** 2 / 6_000).sum() < 18.5  # chi squared of 4 degrees of freedom, 0.1 %
    halves = which.view(2, -1).sum(1).double()
    assert abs(halves[0] - halves[1]) < 4 * 60_000**0.5 / 2


def test_a_label_is_replaced_by_one_that_the_task_gives():
    trial = MLP.replace(task="modular_multiplication", label_noise=1.0)  # 0 is a class and never a product
    labels, targets, train = masks(trial)
    assert set(targets[train]) == set(labels) == set(range(1, 13))


def test_tests_of_their_own_keep_their_labels():
    def apart() -> Task:
        inputs = np.indices((8, 8)).reshape(2, -1).T
        return Task(inputs, inputs.sum(1) % 8, inputs, inputs.sum(1) % 8)

    labels, targets, _ = masks(MLP.replace(task=apart, label_noise=1.0))
    assert ((targets != labels)[:64].sum(), (targets != labels)[64:].sum()) == (32, 0)


def test_train_accuracy_counts_the_labels_trained_on_and_test_accuracy_the_rules():
    trial = NOISY.replace(steps=400, evaluate_every=400, probe_every=400, width=64, weight_decay=0.0)
    result = trained([trial])[trial.id]
    assert result.outcome.final_train_accuracy == 1  # the wrong ones are memorized
    assert (result.outcome.corrupted_accuracy, result.outcome.restored_accuracy) == (1, 0)
    assert result.outcome.final_train_loss < 0.1
    training = begin((trial,))
    training.advance(400)
    with torch.no_grad():
        logits = training.network.look(training.network.layout.split(training.flat), training.inputs[None])[1][0]
    train = training.split.train[0]
    right = (logits.argmax(1) == training.labels).double()
    assert right[train].mean() == pytest.approx(59 / 84)
    assert result.outcome.final_test_accuracy == pytest.approx(float(right[~train].mean()))


@pytest.mark.product
@pytest.mark.parametrize("trial", [NOISY, TRANSFORMER.replace(label_noise=0.2)], ids=["mlp", "transformer"])
def test_a_trial_with_wrong_labels_is_the_same_alone_and_beside_clean_ones(trial):
    trials = [*mixed(trial)[:3], trial.replace(label_noise=0.0, seed=5)]
    together = trained(trials)
    for one in trials:
        assert facts(trained([one])[one.id]) == facts(together[one.id])


def test_no_noise_is_no_change_and_some_is_another_trial():
    assert MLP.replace(label_noise=0.0).id == MLP.id != NOISY.id
    assert MLP.replace(label_noise=0.4).shape == MLP.shape


# ------------------------------------------------------------------ splits


@pytest.mark.parametrize("batch_size", [32, 0])
def test_split_by_values_trains_on_no_example_with_a_value_that_is_held_out(batch_size):
    trial = MLP.replace(split="values", data_fraction=0.6, batch_size=batch_size)
    training = begin((trial, trial.replace(seed=4)))
    for k in (0, 1):
        train = training.split.train[k].numpy()
        pairs = training.inputs.numpy()
        values = set(pairs[train].ravel())
        assert (len(values), train.sum()) == (7, 49)  # 0.6 of 13, and all of their pairs
        assert all(not set(pair) <= values for pair in pairs[~train].tolist())
    assert (training.split.train[0] != training.split.train[1]).any()


def test_split_by_classes_trains_on_no_label_that_is_held_out():
    training = begin((MLP.replace(split="classes", data_fraction=0.6),))
    train = training.split.train[0]
    assert (len(training.labels[train].unique()), int(train.sum())) == (7, 91)
    assert not set(training.labels[train].tolist()) & set(training.labels[~train].tolist())


def test_a_class_that_is_never_an_answer_is_no_part_of_a_split():
    training = begin((MLP.replace(task="modular_multiplication", split="classes", data_fraction=0.5),))
    assert len(training.labels[training.split.train[0]].unique()) == 6


@pytest.mark.product
@pytest.mark.parametrize("split", ["values", "classes"])
def test_a_trial_with_things_held_out_is_the_same_alone_and_in_a_stack(split):
    trials = mixed(MLP.replace(split=split, steps=20))[:3]
    together = trained(trials)
    for one in trials:
        assert facts(trained([one])[one.id]) == facts(together[one.id])


def test_a_split_that_cannot_be_is_refused_before_the_start():
    cases: dict[str, dict[str, object]] = {
        "split: values needs a task whose tokens stand in all places together, as in modular tables; use examples": {
            "task": "lfsr_5",
            "split": "values",
        },
        "data_fraction: both sides of the split must hold an example, got 0.05, which leaves the training side of "
        "modular_addition (13 values) empty; move it away from 0": {
            "modulus": 13,
            "split": "values",
            "data_fraction": 0.05,
        },
        "label_noise: must lie in [0, 1], got 1.5; use a share such as 0.1": {"label_noise": 1.5},
    }
    for message, said in cases.items():
        with pytest.raises(Fault) as caught:
            make_trial(said)
        assert caught.value.faults == [message]


def test_one_label_cannot_be_wrong():
    from phasemap.plan.space import Space

    def constant() -> Task:
        return Task(np.arange(10)[:, None], np.zeros(10, int), classes=2)

    with pytest.raises(Fault) as caught:
        Space(task=constant, model="mlp", label_noise=0.5).trials()
    assert caught.value.faults == ["label_noise: needs a task of several labels, got 0.5 and one; use 0"]
