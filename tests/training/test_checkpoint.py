"""What is interrupted and resumed equals what was not, to the last bit; what is damaged is refused."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from small import MLP, PARITY, TRANSFORMER, facts, finish, mixed, trained

from phasemap.plan.outcome import Result
from phasemap.plan.stack import Stack
from phasemap.scheduling.worker import StackRun
from phasemap.training import train
from phasemap.training.checkpoint import MAGIC, Storage
from phasemap.training.step import training_step
from phasemap.training.train import Training, begin


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "checkpoints"))


def run_to(training: Training, step: int) -> dict:
    """Trains to a step with the evaluations on the way, as ``train`` does."""
    found: dict[str, Result] = {}
    every = training.trials[0].evaluate_every
    while training.step < step:
        training.advance(min(step, (training.step // every + 1) * every))
        if training.step % every == 0:
            found |= {one.trial.id: one for one in training.evaluate()}
    return found


def resumed(storage: Storage, *stacks) -> dict:
    """The results of the trials of each stack, gone on with from their checkpoints."""
    found: dict[str, Result] = {}
    for trials in stacks:
        for training in storage.resume(tuple(trials), say=pytest.fail):
            found |= finish(training)
    return found


@pytest.mark.parametrize("shape", [MLP, TRANSFORMER, PARITY], ids=["mlp", "transformer", "six tokens"])
@pytest.mark.parametrize("step", [10, 23])
def test_a_resumed_stack_equals_the_undisturbed_one(storage, shape, step):
    trials = [trial for i, trial in enumerate(mixed(shape)) if i != 3]
    whole = trained(trials)
    training = begin(tuple(trials))
    run_to(training, step)
    storage.save(training)
    found = resumed(storage, trials)
    assert found.keys() == whole.keys()
    for trial in trials:
        assert facts(found[trial.id]) == facts(whole[trial.id])


def test_trials_may_be_stacked_otherwise_after_each_interruption(storage):
    """Two stacks stopped at different steps, mixed with a fresh trial, stopped again, and regrouped again."""
    a, b, c, _, d = mixed(MLP)
    whole = trained([a, b, c, d])
    for trials, step in (((a, b), 35), ((c,), 12)):
        training = begin(trials)
        run_to(training, step)
        storage.save(training)
    stacks = storage.resume((d, c, b, a), say=pytest.fail)
    assert [(part.step, part.trials) for part in stacks] == [(35, (b, a)), (12, (c,)), (0, (d,))]
    for training in stacks[1:]:
        run_to(training, 35)
        storage.save(training)
    (together,) = storage.resume((a, b, c, d), say=pytest.fail)
    assert together.step == 35
    found = finish(together)
    assert {key: facts(one) for key, one in found.items()} == {key: facts(one) for key, one in whole.items()}


def test_a_trial_resumed_many_times_is_the_same(storage):
    whole = trained([MLP])[MLP.id]
    training = begin((MLP,))
    for step in (3, 4, 17, 20, 40, 41, 59):
        run_to(training, step)
        storage.save(training)
        (training,) = storage.resume((MLP,), say=pytest.fail)
    assert facts(finish(training)[MLP.id]) == facts(whole)


def test_the_newest_checkpoint_counts(storage):
    training = begin((MLP,))
    for step in (5, 9):
        run_to(training, step)
        storage.save(training)
    assert [part.step for part in storage.resume((MLP,))] == [9]


def test_without_checkpoints_all_begin_together(storage):
    trials = tuple(mixed(MLP))
    (fresh,) = storage.resume(trials, say=pytest.fail)
    assert (fresh.step, fresh.trials) == (0, trials)


def test_time_spent_before_an_interruption_counts(storage):
    training = begin((MLP,))
    run_to(training, 20)
    training.seconds[MLP.id] = 1_000.0
    storage.save(training)
    assert resumed(storage, [MLP])[MLP.id].outcome.train_seconds > 1_000


def saved(storage: Storage, trial=MLP, step: int = 20) -> Path:
    training = begin((trial,))
    run_to(training, step)
    storage.save(training)
    return Path(storage.place) / f"{trial.id}.pt"


def refused(storage: Storage) -> str:
    """The message said, and that the trial begins again."""
    said: list[str] = []
    (training,) = storage.resume((MLP,), say=said.append)
    assert training.step == 0
    assert torch.equal(training.flat, begin((MLP,)).flat)
    (message,) = said
    return message


@pytest.mark.parametrize("keep", [0, 1, 10, len(MAGIC), len(MAGIC) + 20, len(MAGIC) + 32, 500, -1])
def test_a_torn_file_is_refused_and_reported(storage, keep):
    file = saved(storage)
    file.write_bytes(file.read_bytes()[:keep])
    assert refused(storage) == f"checkpoint {file} is damaged or not phasemap's: refused, the trial starts again"


@pytest.mark.parametrize("place", [0, 5, len(MAGIC), len(MAGIC) + 31, len(MAGIC) + 32, 700, -1])
def test_a_flipped_bit_is_noticed(storage, place):
    file = saved(storage)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert refused(storage).endswith("is damaged or not phasemap's: refused, the trial starts again")


def test_a_file_with_something_behind_it_is_refused(storage):
    file = saved(storage)
    file.write_bytes(file.read_bytes() + b"\0")
    assert "is damaged or not phasemap's" in refused(storage)


def test_a_foreign_file_is_refused(storage):
    file = saved(storage)
    torch.save({"trial": MLP.id, "step": 3}, file)
    assert "is damaged or not phasemap's" in refused(storage)


def test_a_checkpoint_of_another_trial_is_refused(storage):
    other = mixed(MLP)[1]
    saved(storage, other).rename(Path(storage.place) / f"{MLP.id}.pt")
    assert "is not of this trial: refused" in refused(storage)


def test_one_torn_file_costs_only_its_own_trial(storage):
    a, b, c, _, _ = mixed(MLP)
    whole = trained([a, b, c])
    training = begin((a, b, c))
    run_to(training, 30)
    storage.save(training)
    file = Path(storage.place) / f"{b.id}.pt"
    file.write_bytes(file.read_bytes()[:300])
    said: list[str] = []
    stacks = storage.resume((a, b, c), say=said.append)
    assert [(part.step, part.trials) for part in stacks] == [(30, (a, c)), (0, (b,))]
    assert len(said) == 1
    for part in stacks:
        for trial_id, found in finish(part).items():
            assert facts(found) == facts(whole[trial_id])


class Malice:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def forged(file: Path, payload: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(MAGIC + hashlib.sha256(payload).digest() + payload)


def test_a_checkpoint_is_never_run_as_code(storage, tmp_path):
    """Even one with the right digest: as a bare pickle, and inside a file of torch.save."""
    mark, buffer = tmp_path / "executed", io.BytesIO()
    torch.save({"trial": MLP.id, "step": Malice(mark)}, buffer)
    for payload in (pickle.dumps(Malice(mark)), buffer.getvalue()):
        forged(Path(storage.place) / f"{MLP.id}.pt", payload)
        try:
            (training,) = storage.resume((MLP,), say=lambda text: None)
        except pickle.UnpicklingError:
            continue
        finally:
            assert not mark.exists()
        assert training.step == 0


@pytest.mark.parametrize(
    ("name", "other"), [("engine", "compiled"), ("product", "another"), ("device", "H100"), ("torch", "1.0")]
)
def test_a_checkpoint_whose_last_bits_were_made_otherwise_is_refused(storage, monkeypatch, name, other):
    """Going on from it would give numbers that equal those of neither."""
    notes = Training.notes
    monkeypatch.setattr(Training, "notes", lambda training: notes(training) | {name: other})
    a, b = MLP, MLP.replace(seed=1)
    storage.save(begin((a, b)))
    monkeypatch.undo()
    said: list[str] = []
    (training,) = storage.resume((a, b), say=said.append)
    assert training.trials == (a, b)
    assert training.step == 0
    here = training.notes()[name]
    expected = (
        f"checkpoints in {storage.place} were made with {name} {other} (here {here}): refused, their trials start"
    )
    assert set(said) == {f"{expected} again"}


def test_a_stack_that_fell_back_to_eager_steps_goes_on_by_them(storage):
    """Without a compiler every resumption asks for compiled steps again."""
    training = begin((MLP,))
    run_to(training, 20)
    storage.save(training, compiled=True)
    (again,) = storage.resume((MLP,), compiled=True, say=pytest.fail)
    assert (again.step, again.compiled) == (20, False)
    assert facts(finish(again)[MLP.id]) == facts(trained([MLP])[MLP.id])


@pytest.mark.long
def test_compiled_steps_do_not_go_on_by_eager_ones_where_the_compiler_is_gone(storage, monkeypatch):
    training = begin((MLP,), compiled=True)
    run_to(training, 20)
    if not training.compiled:
        pytest.skip("no compiler on this machine")
    storage.save(training)
    said: list[str] = []
    assert storage.resume((MLP,), compiled=True, say=said.append)[0].step == 20

    def refuse(*tensors):
        raise torch._dynamo.exc.TorchDynamoException("no compiler")

    monkeypatch.setattr(train, "training_step", lambda *shape: refuse if shape[-1] else training_step(*shape))
    (again,) = storage.resume((MLP,), compiled=True, say=said.append)
    assert again.step == 0
    assert said == [
        f"checkpoints in {storage.place} were made with engine compiled (here eager): refused, their trials start again"
    ]
    assert facts(finish(again)[MLP.id]) == facts(trained([MLP])[MLP.id])


def test_a_checkpoint_from_when_every_optimizer_kept_the_same_two_tensors_is_read(storage):
    whole = trained([MLP])[MLP.id]
    file = saved(storage)
    content = torch.load(io.BytesIO(file.read_bytes()[len(MAGIC) + 32 :]), weights_only=True)
    content |= content.pop("state")
    assert {"flat", "mean", "square"} <= content.keys()
    buffer = io.BytesIO()
    torch.save(content, buffer)
    forged(file, buffer.getvalue())
    found = resumed(storage, [MLP])[MLP.id]
    assert facts(found) == facts(whole)


def test_a_checkpoint_without_what_the_optimizer_keeps_is_refused(storage):
    file = saved(storage)
    content = torch.load(io.BytesIO(file.read_bytes()[len(MAGIC) + 32 :]), weights_only=True)
    del content["state"]["square"]
    buffer = io.BytesIO()
    torch.save(content, buffer)
    forged(file, buffer.getvalue())
    assert refused(storage).endswith("is not of this trial: refused, the trial starts again")


def test_a_place_is_checked_before_the_training(tmp_path, monkeypatch):
    good = tmp_path / "new" / "folder"
    Storage(str(good)).check()
    assert list(good.iterdir()) == []
    (tmp_path / "file").write_text("")
    for bad in (str(tmp_path / "file" / "below"), "/proc/x", "nonsense://place"):
        with pytest.raises(ValueError, match=r"^--storage .*: must be writable, got .*; choose another folder$"):
            Storage(bad).check()
    monkeypatch.setattr("phasemap.training.checkpoint.ANSWER", 0.5)
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = f"s3://a:b@bucket/folder?scheme=http&endpoint_override=127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"must answer within 0 s, got nothing"):
            Storage(place).check()


def test_a_checkpoint_is_removed_once_and_again(storage):
    file = saved(storage)
    storage.remove(MLP.id)
    assert not file.exists()
    storage.remove(MLP.id)


def test_a_stack_that_raised_saves_no_more(storage, monkeypatch):
    monkeypatch.setattr("phasemap.scheduling.worker.REPORT_EVERY", 0.0)
    run = StackRun(Stack((MLP,)), storage, "cpu", every=60)
    reports = iter(run)
    next(reports)
    monkeypatch.setattr(Training, "advance", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(reports)
    run.checkpoint()
    assert not list(Path(storage.place).glob("*"))


@pytest.mark.parametrize("place", ["folder", "object store"])
def test_checkpoints_of_recorded_trials_are_forgotten_and_no_others(tmp_path, place):
    folder = tmp_path / "store"
    storage = Storage(str(folder) if place == "folder" else folder.as_uri())
    storage.forget({MLP.id})  # there is none yet, and no folder
    other = MLP.replace(seed=MLP.seed + 1)
    storage.save(begin((MLP, other)))
    storage.forget({MLP.id, "never trained"})
    assert [file.name for file in folder.iterdir()] == [f"{other.id}.pt"]


def test_nothing_is_left_beside_a_checkpoint(storage):
    file = saved(storage)
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_what_a_killed_writer_left_beside_is_not_read_and_goes_with_the_checkpoint(storage):
    file = saved(storage)
    (file.parent / f"{file.name}.12345.part").write_bytes(b"half")
    assert [part.step for part in storage.resume((MLP,), say=pytest.fail)] == [20]
    storage.remove(MLP.id)
    assert list(file.parent.iterdir()) == []


def test_a_full_disk_leaves_the_older_checkpoints(storage):
    """A limit on the size of files makes the write fail half-way, as a full disk does."""
    file = saved(storage)
    before = file.read_bytes()
    code = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
        from small import MLP
        from phasemap.training.checkpoint import Storage
        (training,) = Storage({storage.place!r}).resume((MLP,))
        training.advance(30)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            Storage({storage.place!r}).save(training)
        except OSError as error:
            print("refused", training.step)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused 30\n"
    assert file.read_bytes() == before
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    assert facts(resumed(storage, [MLP])[MLP.id]) == facts(trained([MLP])[MLP.id])


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        Storage(str(tmp_path / "file" / "below")).save(begin((MLP,)))


def test_an_object_stores_address_works_as_a_folder_does(tmp_path):
    storage = Storage((tmp_path / "objects").as_uri())
    training = begin((MLP,))
    run_to(training, 20)
    storage.save(training)
    assert facts(resumed(storage, [MLP])[MLP.id]) == facts(trained([MLP])[MLP.id])
    storage.remove(MLP.id)
    storage.remove(MLP.id)
    assert [part.step for part in storage.resume((MLP,), say=pytest.fail)] == [0]
