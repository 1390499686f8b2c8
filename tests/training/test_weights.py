"""Weights that are kept: the trained ones under the network's own names, in a file that holds no code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors
import torch
from small import MLP, TRANSFORMER, facts, mixed, trained
from torch import nn

from phasemap.numerics import matmul
from phasemap.plan.keep import Keep
from phasemap.plan.stack import Stack
from phasemap.plan.trial import Trial
from phasemap.scheduling.worker import StackRun
from phasemap.tasks.task import Task
from phasemap.training import weights
from phasemap.training.checkpoint import Storage
from phasemap.training.train import begin, started


class Shared(nn.Module):
    """One table that reads and writes, a frozen weight and a buffer."""

    def __init__(self, task: Task, width: int = 16):
        super().__init__()
        self.table = nn.Embedding(max(task.vocabulary, task.classes), width)
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, self.table.num_embeddings, bias=False)
        self.head.weight = self.table.weight
        self.gain = nn.Parameter(torch.full((width,), 0.5), requires_grad=False)
        self.register_buffer("shift", torch.arange(width) / width)
        self.classes = task.classes

    def forward(self, tokens):
        hidden = self.body(self.table(tokens).sum(1)).relu() * self.gain + self.shift
        return self.head(hidden)[:, : self.classes]


OWN = Trial(
    model=Shared, modulus=11, width=8, batch_size=16, steps=30, evaluate_every=10, probes="", learning_rate=1e-2
)


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "sweep"))


def kept(storage: Storage, trials: list[Trial], words: str = "final", compiled: bool = False) -> dict:
    """The results of a stack whose weights are kept."""
    run = StackRun(Stack(tuple(trials), compiled), storage, "cpu", 60.0, Keep(words))
    reports = list(run)
    assert not [note for report in reports for note in report.notes]
    return {result.trial.id: result for report in reports for result in report.results}


def network(storage: Storage, trial: Trial, step: int | None = None) -> weights.Kept:
    return weights.Kept(trial, *weights.load(weights.place(storage, trial.id), step))


@pytest.mark.parametrize("trial", [MLP, TRANSFORMER, OWN], ids=["mlp", "transformer", "own module"])
def test_keeping_weights_changes_no_number(storage, trial):
    trials = [one for i, one in enumerate(mixed(trial)) if i != 3] if trial is not OWN else [OWN, OWN.replace(seed=1)]
    found, plain = kept(storage, trials, "log+13+every:7"), trained(trials)
    assert {key: facts(one) for key, one in found.items()} == {key: facts(one) for key, one in plain.items()}
    for trial in trials:
        steps = found[trial.id].notes["kept"]
        assert steps == "+".join(map(str, Keep("log+13+every:7").steps(trial.steps)))
        assert found[trial.id].notes["weights"] == weights.place(storage, trial.id).place


@pytest.mark.parametrize("trial", [MLP, TRANSFORMER, OWN], ids=["mlp", "transformer", "own module"])
def test_kept_weights_are_those_of_training_and_give_the_recorded_accuracy(storage, trial):
    found = kept(storage, [trial, trial.replace(seed=5)], "17+final")
    training = begin((trial,))
    for step in (17, trial.steps):
        training.advance(step)
        row = weights.flat(trial.shape.network, network(storage, trial, step).weights)
        assert torch.equal(row, training.flat[0])
    last, task, split = network(storage, trial), trial.shape.examples, training.split
    right = last(task.inputs).argmax(1) == torch.from_numpy(task.labels)
    outcome = found[trial.id].outcome
    assert last.step == trial.steps
    assert right[split.test[0]].float().mean().item() == outcome.final_test_accuracy
    assert right[split.train[0]].float().mean().item() == outcome.final_train_accuracy
    assert last.hidden(task.inputs).shape == (len(task.inputs), trial.shape.network.width)


def test_a_module_takes_its_kept_weights_by_load_state_dict(storage):
    kept(storage, [OWN])
    own, task = network(storage, OWN), OWN.shape.examples
    module = Shared(task, width=8)
    module.load_state_dict(own.weights)
    assert torch.equal(module.table.weight, own.weights["table.weight"])
    assert torch.equal(own.weights["head.weight"], own.weights["table.weight"])
    with torch.no_grad():
        torch.testing.assert_close(module(torch.from_numpy(task.inputs)), own(task.inputs))


def test_a_file_names_its_trial_its_step_and_its_configuration(storage):
    kept(storage, [MLP])
    file = f"{weights.place(storage, MLP.id).place}/{MLP.steps}.safetensors"
    with safetensors.safe_open(file, "pt") as content:
        about, names = content.metadata(), set(content.keys())
        shapes = {name: tuple(content.get_slice(name).get_shape()) for name in names}
    assert about["trial"] == MLP.id
    assert about["step"] == str(MLP.steps)
    assert Trial(**json.loads(about["configuration"])) == MLP
    assert shapes == {piece.name: piece.shape for piece in MLP.shape.network.layout.pieces}


def test_a_trial_that_ends_early_keeps_its_last_step(storage):
    settles = MLP.replace(stop_when_settled=True, grok_threshold=1e-9, settle_evaluations=2)
    bursts = settles.replace(initial_scale=1e20, learning_rate=1e6, seed=3)
    found = kept(storage, [settles, bursts], "50+final")
    assert [found[one.id].outcome.ending for one in (settles, bursts)] == ["settled", "diverged"]
    assert [found[one.id].notes["kept"] for one in (settles, bursts)] == ["40", "20"]


def test_a_resumed_stack_names_the_weights_kept_before(storage):
    run = StackRun(Stack((MLP,)), storage, "cpu", 0.0, Keep("10+50"))
    run.every, run._cost = 0.0, 0.0
    training = begin((MLP,))
    training.advance(10)
    weights.save(storage, training, 0)
    training.advance(20)
    training.evaluate()
    storage.save(training)
    (result,) = (result for report in run for result in report.results)
    assert result.notes["kept"] == "10+50+60"


def test_a_full_disk_costs_the_weights_and_not_the_trial(storage, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save", full)
    reports = list(StackRun(Stack((MLP,)), storage, "cpu", 60.0, Keep("final")))
    (result,) = (result for report in reports for result in report.results)
    assert "weights" not in result.notes
    told = [note for report in reports for note in report.notes]
    assert told == [f"weights are not kept in {storage.place}: No space left on device; training goes on"]
    assert facts(result) == facts(trained([MLP])[MLP.id])


def test_inputs_of_another_task_are_refused(storage):
    kept(storage, [MLP])
    own = network(storage, MLP)
    for wrong in (np.zeros((3, 5), int), np.zeros((3, 2)), np.zeros(2, int)):
        with pytest.raises(ValueError, match=r"^inputs: must be tokens \[N, 2\], got "):
            own(wrong)


@pytest.mark.parametrize("trial", [MLP, TRANSFORMER, OWN], ids=["mlp", "transformer", "own module"])
def test_tokens_that_the_task_does_not_have_are_refused(storage, trial):
    kept(storage, [trial])
    own, last = network(storage, trial), trial.modulus - 1
    assert own(np.array([[0, last]])).shape == (1, trial.modulus)
    for tokens, got in (([[last + 1, 0]], last + 1), ([[0, last], [-1, 99]], -1)):
        message = rf"^inputs: tokens must lie from 0 to vocabulary - 1 = {last}, got {got}; correct one$"
        with pytest.raises(ValueError, match=message):
            own(torch.tensor(tokens))


def test_a_kept_network_leaves_the_callers_threads_as_they_are(storage):
    kept(storage, [MLP])
    own, before = network(storage, MLP), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        matmul.chosen.cache_clear()  # the first product of a process limits them
        own(MLP.shape.examples.inputs)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_step_that_is_not_kept_is_named_with_those_that_are(storage):
    kept(storage, [MLP], "10+20")
    with pytest.raises(ValueError, match=r"must hold weights of step 30, got those of 10, 20, 60; name one"):
        network(storage, MLP, 30)
    with pytest.raises(ValueError, match="must hold weights, got none"):
        network(storage, TRANSFORMER)


# ---------------------------------------------------------------- starting from kept weights


def test_a_trial_starts_from_kept_weights_with_a_fresh_optimizer(storage):
    kept(storage, [MLP], "20")
    name = f"{MLP.id}@20"
    weights.bring(storage, name, weights.place(storage, MLP.id))
    tuned = MLP.replace(start_from=name, weight_decay=0.0, seed=7)
    found = weights.sources(storage, [tuned])
    training = begin((tuned,), sources=found)
    source = begin((MLP,))
    source.advance(20)
    assert torch.equal(training.flat, source.flat)
    assert not any(part.any() for part in training.state)
    assert torch.equal(training.start(), source.flat)
    scaled = tuned.replace(initial_scale=2.0)
    assert torch.equal(started((scaled,), torch.device("cpu"), found), 2 * source.flat)


def test_what_starts_from_kept_weights_is_the_same_alone_in_a_stack_and_resumed(storage):
    other = MLP.replace(seed=4)
    kept(storage, [MLP, other])
    for one in (MLP, other):
        weights.bring(storage, one.id, weights.place(storage, one.id))
    trials = [
        MLP.replace(start_from=MLP.id, seed=1, probes="distance"),
        MLP.replace(start_from=other.id, seed=1, probes="distance"),
        MLP.replace(seed=1, probes="distance"),
    ]
    assert len({trial.id for trial in trials}) == 3
    assert len({trial.shape for trial in trials}) == 1
    together = kept(storage, trials, "")
    alone = {trial.id: kept(storage, [trial], "")[trial.id] for trial in trials}
    assert {key: facts(one) for key, one in together.items()} == {key: facts(one) for key, one in alone.items()}
    assert len({facts(one)["curve of train_loss"] for one in alone.values()}) == 3
    training = begin(tuple(trials), sources=weights.sources(storage, trials))
    training.advance(13)
    storage.save(training)
    resumed = kept(storage, trials, "")
    assert {key: facts(one) for key, one in resumed.items()} == {key: facts(one) for key, one in alone.items()}


def test_weights_of_another_network_are_refused_and_the_tensors_named(storage):
    kept(storage, [MLP])
    weights.bring(storage, MLP.id, weights.place(storage, MLP.id))
    fault = weights.source_fault(storage, MLP.replace(start_from=MLP.id, width=8))
    assert fault.startswith(f"start_from: the weights of {MLP.id} must have the tensors of this network, got ")
    assert "readout.weight [16, 13] (here [8, 13])" in fault
    assert weights.source_fault(storage, MLP.replace(start_from=MLP.id, seed=9)) == ""
