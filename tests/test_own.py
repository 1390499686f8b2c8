"""A network, a task, a probe and a phase rule of the user's, from one file, on every path."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
import torch
from mlflow.tracking import MlflowClient
from small import facts, trained

import phasemap
from phasemap import sweep
from phasemap.fields import Fault
from phasemap.networks.network import Network, Piece, Start, linear_pieces
from phasemap.plan.component import names
from phasemap.plan.source import fingerprint
from phasemap.plan.space import Space
from phasemap.plan.space_file import load
from phasemap.plan.stack import Stack
from phasemap.plan.trial import Trial
from phasemap.scheduling.worker import StackRun
from phasemap.tasks.task import Task
from phasemap.training.checkpoint import Storage
from phasemap.training.train import begin, may_be_stacked

OWN = Path(__file__).parent / "own"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder of the user's, the working directory; what it imports is forgotten again."""
    for file in OWN.glob("*.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("phasemap_space_") or name == "layers_of_mine":
            del sys.modules[name]


def again(folder: Path) -> Space:
    """The space file read as a new process would."""
    for name in [one for one in sys.modules if one.startswith("phasemap_space_") or one == "layers_of_mine"]:
        del sys.modules[name]
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return load(folder / "space_file.py")


def edited(folder: Path, file: str, old: str, new: str) -> Space:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    return again(folder)


# ------------------------------------------------------------------ fields


def test_parameters_become_fields_with_type_default_help_and_rules(folder):
    space = again(folder)
    trial = space.trials()[0]
    assert (trial.width, trial.kind, trial.size, trial.model, trial.task) == (8, "a", 11, "Net", "shifted_sum")
    assert space.known["width"].help == "units"
    assert space.override(["size=13", "width=4,5"]).trials()[0].size == 13
    with pytest.raises(Fault, match=r"width: must be at least 1, got 0; use a positive whole number"):
        space.override(["width=0"]).trials()
    with pytest.raises(Fault, match=r"kind: must be one of a, b, got 'c'"):
        space.override(["kind=c"]).trials()
    with pytest.raises(Fault, match=r"heads: has no effect for Net on shifted_sum"):
        Space(**{**space._components_back(), "heads": [2, 4]}).trials()


def test_a_dotted_name_and_a_name_of_the_file_work_on_the_command_line(folder):
    space = again(folder).override(["model=layers_of_mine:Hidden"])
    assert "parameter inputs of Hidden" not in str(space.problems)  # its parameters are fields: no default, so required
    with pytest.raises(Fault, match=r"inputs: needs a value"):
        space.trials()
    assert again(folder).override(["model=mlp", "task=modular_addition"]).trials()[0].model == "mlp"
    assert again(folder).override(["model=mlp"]).override(["model=Net"]).trials()[0].model == "Net"


def test_distributions_over_the_users_own_parameters_are_sampled(folder):
    optuna = pytest.importorskip("optuna")
    wide = optuna.distributions.IntDistribution(4, 16)
    space = Space(**{**again(folder)._components_back(), "width": wide}, sampler="sobol", trials=4)
    space.check()
    assert space.trial({**space.fixed, "width": 7, "weight_decay": 1.0, "seed": 0}).width == 7


# ------------------------------------------------------------------ a stack


class Stacked(Network):
    """A network written for K trials at once, of the three methods that it needs and no other."""

    def __init__(self, task: Task, width: int = 8):
        super().__init__(task)
        self.width = width

    def pieces(self) -> list[Piece]:
        table = Piece("table", (self.task.vocabulary, self.width), Start("normal", 1.0), "embedding")
        return [table, *linear_pieces("head", self.width, self.task.classes, "readout")]

    def hidden(self, weights, inputs):
        rows = inputs.expand(len(weights["table"]), -1, -1).flatten(1)[..., None].expand(-1, -1, self.width)
        a, b = weights["table"].gather(1, rows).unflatten(1, (-1, 2)).unbind(2)
        return (a * b).relu()

    def readout(self, weights, hidden):
        return self.linear(weights, "head", hidden)


def test_a_network_of_three_methods_is_planned_trained_and_recorded(uri, tmp_path):
    space = Space(
        model=Stacked, task="modular_addition", modulus=11, seed=range(2), batch_size=16, steps=20, evaluate_every=10
    )
    given = {"tracking_uri": uri, "storage": str(tmp_path / "states"), "figures": False, "local": True}
    results = phasemap.run(space, "stacked", **given)
    assert results.status == 0
    assert len(results.table) == 2
    trials = space.trials()
    together = trained(trials)
    for trial in trials:
        assert facts(trained([trial])[trial.id]) == facts(together[trial.id])


@pytest.mark.product
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)], ids=["eager", "compiled"])
def test_a_users_network_alone_is_the_same_in_any_stack(folder, compiled):
    trials = [trial for trial in again(folder).trials() if trial.width == 12]
    assert may_be_stacked(trials[0], "cpu", compiled)
    together = trained(trials, compiled)
    for trial in trials:
        assert facts(trained([trial], compiled)[trial.id]) == facts(together[trial.id])
        assert together[trial.id].notes["engine"] == ("compiled" if compiled else "eager")


def test_a_stack_of_modules_equals_torchs_own_loop(folder):
    """Weights after 10 steps of AdamW, against the plain module, its own optimizer and the same batches."""
    trial = again(folder).trials()[1].replace(steps=10, evaluate_every=10, probe_every=10)
    training = begin((trial,))
    network = trial.shape.network
    module = trial.part("model").target(trial.shape.examples, width=trial.width)
    start = network.layout.split(training.flat)
    module.load_state_dict({name: part[0].clone() for name, part in start.items()})
    theirs = torch.optim.AdamW(module.parameters(), lr=trial.learning_rate, weight_decay=trial.weight_decay)
    examples, weights = training.batches.draw(0, 10)
    for batch, weight in zip(examples[:, 0], weights[:, 0], strict=True):
        theirs.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            module(training.inputs[batch]), training.labels[batch], reduction="none"
        )
        (loss * weight).sum().backward()
        theirs.step()
    training.advance(10)
    for name, part in network.layout.split(training.flat).items():
        torch.testing.assert_close(part[0], module.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_rows_start_as_the_module_does_under_the_trials_seed(folder):
    trials = [trial for trial in again(folder).trials() if trial.width == 12]
    flat = begin(tuple(trials)).flat
    assert not torch.equal(flat[0], flat[1])
    for k, trial in enumerate(trials):
        assert torch.equal(begin((trial,)).flat[0], flat[k])


def test_a_network_whose_numbers_hang_on_the_stack_runs_alone_with_a_note(folder, tmp_path):
    """Here each call counts, so that no two runs are the same."""
    text = (folder / "layers_of_mine.py").read_text()
    text = text.replace("return torch.relu(", "CALLS.append(0)\n        return len(CALLS) * 1e-6 + torch.relu(")
    (folder / "layers_of_mine.py").write_text(text + "\n\nCALLS = []\n")
    stack = Stack(tuple(trial for trial in again(folder).trials() if trial.width == 12))
    reports = list(StackRun(stack, Storage(str(tmp_path / "checkpoints")), "cpu", 60))
    assert sum(len(report.results) for report in reports) == 4
    notes = [note for report in reports for note in report.notes]
    assert any(note.startswith("Net: a trial alone and in a stack differ") for note in notes)


# ------------------------------------------------------------------ bad input, one line each

BAD = {
    "wrong logits": ("task.classes)", "task.classes + 1)", r"space_file.py line \d+: Net must return logits \[exam"),
    "no annotation": ("task: Task, width", "task: Task, other, width", r"parameter other of Net: must have an anno"),
    "stars": ('kind: Literal["a", "b"] = "a"', "**kind", r"parameter kind of Net: must be named"),
    "a list": (
        'kind: Literal["a", "b"] = "a"',
        "kind: list = []",
        r"parameter kind of Net: must be of type bool, int, ",
    ),
    "a field of ours": (
        'kind: Literal["a", "b"] = "a"',
        "steps: int = 3",
        r"parameter steps of Net needs a name of its",
    ),
    "a field of the built-in optimizer": (
        'kind: Literal["a", "b"] = "a"',
        "epsilon: float = 1e-5",
        r"parameter epsilon of Net needs a name of its own, got one that is of adamw; rename it",
    ),
    "NaN": ("inputs=np.stack([a, b], 1)", "inputs=np.stack([a, b * np.nan], 1)", r"inputs must be finite, got NaN"),
    "labels": ("% size)", "% size - 1)", r"labels must lie from 0 to classes - 1, got -1"),
    "no task": (
        "    return Task(inputs=np",
        "    Task(inputs=np",
        r"shifted_sum must return a phasemap.Task, got NoneType",
    ),
    "a task that raises": (
        "    a, b = (grid",
        "    1 / 0\n    a, b = (grid",
        r"line \d+: shifted_sum\(size=11\) raised Zero",
    ),
    "a module that raises": (
        "        super().__init__()",
        "        1 / 0",
        r"line \d+: Net\(width=8, kind='a'\) raised Zero",
    ),
    "a forward that raises": (
        "self.head(self.body(",
        "self.head(self.nobody(",
        r"line \d+: Net must run on inputs \[3, 2\], got AttributeError: .* 'nobody'; correct its forward",
    ),
    "a layer of another width": (
        "Hidden(width * task.tokens, width)",
        "Hidden(width, width)",
        r"got RuntimeError: mat1 and mat2 shapes cannot be multiplied \(3x16 and 8x8\); correct its forward",
    ),
    "an assertion without words": (
        "        return self.head(",
        "        assert inputs.sum() < 0\n        return self.head(",
        r"Net must run on inputs \[3, 2\], got AssertionError; correct its forward",
    ),
    "dropout": ("return self.head(", "return torch.nn.functional.dropout(", r"draw nothing in forward"),
    "batch norm": (
        "Hidden(width * task.tokens, width)",
        "torch.nn.Sequential(Hidden(width * task.tokens, width), torch.nn.BatchNorm1d(width))",
        r"keep no running statistics",
    ),
    "control flow": (
        "return self.head(",
        "inputs = inputs if inputs.sum() > 0 else -inputs\n        return self.head(",
        r"write it with tensor operations that torch.vmap knows",
    ),
    "no module": ("class Net(torch.nn.Module)", "class Net(list)", r"Net must be a torch.nn.Module"),
    "unpicklable": ("SHIFT = 2", "import threading\n\nSHIFT = 2\nLOCK = threading.Lock()", None),
    "rule without names": (
        ' -> Literal["fast", "slow", "never"]',
        "",
        r"phases: space_file.py line \d+: speed must say",
    ),
    "a phase that MLflow takes no view of": (
        '"never"]',
        '"it\'s"]',
        r"""phases: space_file.py line \d+: speed must return names of .*, got "it's"; rename it""",
    ),
    "precision": (
        "    width=[8, 12],",
        '    width=[8, 12],\n    precision="bf16",',
        r"precision: must be fp32 for a network",
    ),
    "a probe that raises": (
        "view.flat.abs().amax(1)",
        "view.flat.missing()",
        r"probe sharpest: raised AttributeError: .* \(space_file.py:\d+\); correct it",
    ),
    "a probe of one number for all": (
        "view.flat.abs().amax(1)",
        "view.flat.abs().amax()",
        r"probe sharpest: largest_weight must have one number for each of the 2 trials \[2\], got shape \[\]",
    ),
    "a name of ours": ("def shifted_sum", "def modular_addition", None),
}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [case for case in BAD.values() if case[2]],
    ids=[name for name, case in BAD.items() if case[2]],
)
def test_bad_input_is_one_line_before_anything_starts(folder, capsys, old, new, message):
    text = (folder / "space_file.py").read_text()
    assert old in text
    (folder / "space_file.py").write_text(text.replace(old, new))
    again_faults = sweep.main(["space_file.py", "--local", "--no-figures"])
    error = capsys.readouterr().err
    assert again_faults == 2
    assert re.search(message, error), error
    assert all(line.startswith("space_file.py: ") for line in error.splitlines()), error
    assert not (folder / "mlflow.db").exists()


def test_a_probe_that_fails_later_is_named_at_the_end_and_in_the_table(folder, schema, capsys):
    shutil.copy(schema, folder / "mlflow.db")
    trained = "assert view.flat.equal(view.start()), 'these are trained'"
    edited(folder, "space_file.py", '    return {"largest', f'    {trained}\n    return {{"largest')
    narrow = ["--set", "width=8", "--set", "weight_decay=1"]
    assert sweep.main(["space_file.py", "--local", "--no-figures", "--name", "late", *narrow]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "without all numbers" in line)
    assert re.fullmatch(r"  without all numbers: 2 trials: probe sharpest: raised .*these are trained.*", line)
    table = phasemap.load("late")
    assert table.fault.str.contains("these are trained").tolist() == [True, True]


def test_what_cannot_travel_is_refused(folder):
    text = (folder / "space_file.py").read_text()
    text = text.replace("SHIFT = 2", "import threading\n\nSHIFT = 2\nLOCK = threading.Lock()")
    text = text.replace("    a, b = (grid", "    assert LOCK\n    a, b = (grid")
    (folder / "space_file.py").write_text(text)
    with pytest.raises(
        Fault, match=r"shifted_sum must be picklable, to be sent to other processes, got TypeError: cannot pickle"
    ):
        again(folder).trials()


def test_a_name_of_ours_is_refused(folder):
    text = (folder / "space_file.py").read_text().replace("shifted_sum", "modular_addition")
    (folder / "space_file.py").write_text(text)
    with pytest.raises(Fault, match=r"modular_addition is the name of a built-in one; rename yours"):
        again(folder).trials()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "view.flat.abs().amax(1)",
            "view.flat.missing()",
            r"probe sharpest: raised AttributeError: .*space_file.py:\d+",
        ),
        ("view.flat.abs().amax(1)", "view.flat.abs().amax(0)", r"probe sharpest: largest_weight must have one number"),
        (
            "    if outcomes",
            '    return "quick"\n    if outcomes',
            r"phases speed: must return one of fast, slow, never, diverged, got",
        ),
        ('return "never"', "return 1 / 0", r"phases speed: space_file.py line \d+: raised ZeroDivisionError"),
    ],
    ids=["a probe that raises", "a probe of the wrong length", "a phase of no name", "a rule that raises"],
)
def test_a_failing_probe_or_rule_costs_its_word_and_never_the_trial(folder, old, new, fault):
    trials = edited(folder, "space_file.py", old, new).override(["grok_threshold=0.01", "width=12"]).trials()
    if "never" in old:
        trials = [trial.replace(grok_threshold=1.0, steps=10) for trial in trials]
    for result in trained(trials).values():
        assert re.search(fault, result.notes["fault"]), result.notes
        assert result.outcome.final_test_accuracy is not None


# ------------------------------------------------------------------ identity


def test_comments_layout_and_other_code_do_not_change_an_identity(folder):
    before = [trial.id for trial in again(folder).trials()]
    (folder / "space_file.py").write_text(
        (folder / "space_file.py")
        .read_text()
        .replace("SHIFT = 2", "SHIFT = 2  # a comment\n\nUNUSED = 3")
        .replace('    """The largest logit weight."""', '    """Another docstring."""')
    )
    assert [trial.id for trial in again(folder).trials()] == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("space_file.py", "self.body(self.table(inputs)", "self.body(2 * self.table(inputs)"),
        ("space_file.py", "(a + b + SHIFT)", "(a - b + SHIFT)"),
        ("space_file.py", "SHIFT = 2", "SHIFT = 3"),
        ("space_file.py", "flat.abs()", "flat"),
        ("space_file.py", "<= 20", "<= 30"),
        ("layers_of_mine.py", "torch.relu", "torch.tanh"),
    ],
    ids=["network", "task", "a constant", "probe", "rule", "a module beside"],
)
def test_changed_code_is_another_trial(folder, file, old, new):
    before = {trial.id for trial in again(folder).trials()}
    after = {trial.id for trial in edited(folder, file, old, new).trials()}
    assert len(before) == len(after) == 8
    assert not before & after


def test_trials_of_our_own_components_know_no_code():
    assert Trial().code == {}
    assert Trial().id == "44136fa355b3678a"


# ------------------------------------------------------------------ record, kill, resume, travel


def metrics(folder: Path, name: str) -> dict[str, dict]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    wanted = "tags.`phasemap.kind` = 'trial' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment.experiment_id], wanted)
    ids = [run.data.tags["phasemap.trial"] for run in runs]
    assert len(set(ids)) == len(ids)
    return {one: {**run.data.metrics, "train_seconds": 0} | run.data.tags for one, run in zip(ids, runs, strict=True)}


def test_a_sweep_of_a_users_own_records_phases_outcomes_and_code(folder, schema, capsys):
    shutil.copy(schema, folder / "mlflow.db")
    assert sweep.main(["space_file.py", "--local"]) == 0
    found = metrics(folder, "space_file")
    assert len(found) == 8
    for run in found.values():
        assert run["phase"] in ("fast", "slow", "never")
        assert run["largest_weight"] > 0
        assert "model Net" in run["phasemap.code"]
    assert (folder / "figures" / "space_file" / "phase_diagram.png").stat().st_size > 10_000
    numbers = (folder / "figures" / "space_file" / "phase_diagram.csv").read_text()
    assert numbers.splitlines()[0].endswith("n,fast,slow,never,diverged")
    page = (folder / "figures" / "space_file" / "interactive_map.html").read_text()
    assert (
        '"phases": ["fast", "slow", "never", "diverged"]' in page
        or '"phases":["fast","slow","never","diverged"]' in page
    )
    table = phasemap.load("space_file")
    assert {"width", "size", "kind", "largest_weight"} <= set(table.columns)
    assert table.width.dtype == "int64"
    capsys.readouterr()
    assert sweep.main(["space_file.py", "--local", "--no-figures"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_trials_of_changed_code_are_counted_and_left_out(folder, schema, capsys):
    shutil.copy(schema, folder / "mlflow.db")
    assert sweep.main(["space_file.py", "--local", "--no-figures"]) == 0
    edited(folder, "space_file.py", "SHIFT = 2", "SHIFT = 3")
    capsys.readouterr()
    assert sweep.main(["space_file.py", "--local", "--no-figures"]) == 0
    assert "8 trials recorded under other code of shifted_sum and left out" in capsys.readouterr().out
    assert len(metrics(folder, "space_file")) == 16
    assert len(phasemap.load("space_file")) == 8


@pytest.mark.long
def test_under_ray_in_any_stack_the_record_is_the_same(folder, schema):
    shutil.copy(schema, folder / "mlflow.db")
    records = []
    for name, options in (("local", ["--local"]), ("ray", []), ("ones", ["--stack-size", "1"])):
        assert sweep.main(["space_file.py", "--no-figures", "--name", name, *options]) == 0
        recorded = metrics(folder, name)
        records.append(
            {one: {k: v for k, v in run.items() if not k.startswith("mlflow.")} for one, run in recorded.items()}
        )
    assert records[0] == records[1] == records[2]


def test_a_component_that_comes_back_is_the_one_that_left(folder):
    """Ray's results bring the trials back to the driver, where a notebook runs the next sweep."""
    trial = again(folder).trials()[0]
    back = pickle.loads(cloudpickle.dumps(trial))
    for left, returned in zip(trial.parts, back.parts, strict=True):
        assert returned.target is left.target
        assert not left.code or fingerprint(returned.target) == left.code


def test_a_component_travels_without_its_files(folder, tmp_path):
    """As to another machine: unpickled by a process that cannot import what stood beside it."""
    import subprocess

    trials = [trial for trial in again(folder).trials() if trial.width == 12][:2]
    (tmp_path / "trials.pkl").write_bytes(cloudpickle.dumps(tuple(trials)))
    code = textwrap.dedent(
        f"""
        import pickle, sys, os
        os.chdir("/")
        from pathlib import Path
        trials = pickle.loads(Path({str(tmp_path / "trials.pkl")!r}).read_bytes())
        from phasemap.training.train import begin, train
        results = [r for ended in train(begin(trials)) for r in ended]
        print(*(f"{{r.trial.id}} {{r.outcome.final_train_loss!r}}" for r in results))
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(phasemap.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    here = trained(trials)
    assert done.stdout.split() == [
        word for trial in trials for word in (trial.id, repr(here[trial.id].outcome.final_train_loss))
    ]


# ------------------------------------------------------------------ ours use it


def test_a_file_dropped_into_a_folder_is_a_component(tmp_path, monkeypatch):
    import phasemap.networks
    import phasemap.optimizers
    import phasemap.tasks
    from phasemap.plan import component

    kinds = {"task": phasemap.tasks, "model": phasemap.networks, "optimizer": phasemap.optimizers}
    files = {
        "task": '__all__ = ("squares",)\nimport numpy as np\nfrom phasemap.tasks.task import Task\n\n\n'
        "def squares(side: int = 6) -> Task:\n    n = np.arange(side * side)\n"
        "    return Task(np.stack([n // side, n % side], 1), (n // side) ** 2 % side)\n",
        "model": '__all__ = ("Linear",)\nfrom phasemap import networks\nfrom phasemap.networks.mlp import MLP\n\n\n'
        "class Linear(MLP):\n    def __init__(self, task, slim: int = 8):\n"
        "        super().__init__(task, slim, 1)\n",
        "optimizer": '__all__ = ("Signs",)\nfrom phasemap.optimizers.optimizer import Optimizer\n\n\n'
        "class Signs(Optimizer):\n"
        "    def __init__(self, floor: float = 0.0):\n        self.floor = floor\n\n"
        "    def update(self, flat, gradient, rate):\n"
        "        flat.sub_(gradient.sign() * rate.step_size)\n",
    }
    for kind, package in kinds.items():
        place = tmp_path / kind
        place.mkdir()
        (place / f"dropped_{kind}.py").write_text("\n" + files[kind])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(place)])
    component._ours.cache_clear()
    try:
        assert "squares" in names("task")
        assert "dropped_model" in names("model")
        trial = Trial(
            task="squares",
            side=5,
            model="dropped_model",
            optimizer="dropped_optimizer",
            steps=4,
            evaluate_every=2,
            batch_size=4,
            data_fraction=0.5,
            probes="",
        )
        assert trained([trial])[trial.id].outcome.steps_run == 4
        assert (trial.side, trial.slim, trial.floor, trial.code) == (5, 8, 0.0, {})
    finally:
        monkeypatch.undo()
        component._ours.cache_clear()
