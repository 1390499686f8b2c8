"""Trains one stack: K same-shaped trials as one batched model, from first step to their results.

Knows torch and numpy alone: neither Ray nor MLflow nor files of the sweep. A trial's result is the
same alone and in any stack, bit for bit on a CPU in fp32: nothing here sums, sorts or draws across
the trial axis.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from phasemap.networks.arithmetic import rounds_by_place
from phasemap.networks.network import Layout
from phasemap.numerics import matmul, processor, random_streams
from phasemap.plan.evaluations import next_evaluation
from phasemap.plan.keep import NEVER
from phasemap.plan.outcome import Curve, Outcome, Result, is_curve
from phasemap.plan.phases import phase_names
from phasemap.plan.source import place_of
from phasemap.plan.trial import CORE, STACKED, SWITCHED, Trial
from phasemap.probes.view import Look
from phasemap.training import events
from phasemap.training.evaluate import CHUNK, Seen, Split, Stacked, measure, probes
from phasemap.training.graph import Graphs
from phasemap.training.sets import given_labels, training_sets
from phasemap.training.step import Step, compiler_is_known, refusals, training_step
from phasemap.training.update import rates, switched

AHEAD = 64  # steps whose batches are drawn at once
TRIED_STEPS, TRIED_SIZES = 2, (2, 3, 5)  # of a user's network, before it is trained in stacks
TRIED_SCALES = (1.0, 0.25, 4.0, 1.0, 16.0)  # of the trials' initial weights


Sources = Mapping[str, Tensor]  # ``start_from`` -> the weights [P] that it names


def _nothing(endings: dict[int, str]) -> None:
    pass


@dataclass
class Training:
    """A stack in progress. The weights, and each of the tensors that its optimizer keeps, are [K, P]."""

    trials: tuple[Trial, ...]
    device: torch.device
    flat: Tensor
    state: tuple[Tensor, ...]  # named by the optimizer's ``state``
    compiled: bool = False
    step: int = 0
    curves: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)  # trial id -> key -> points
    seconds: dict[str, float] = field(default_factory=dict)  # trial id -> its share of the time so far
    faults: dict[str, dict[str, str]] = field(default_factory=dict)  # trial id -> probe -> the first that went wrong
    sources: Sources = field(default_factory=dict)
    leaving: Callable[[dict[int, str]], None] = _nothing  # is given the rows that end, and why, while they stand

    def __post_init__(self) -> None:
        shape = self.trials[0].shape
        self.network, self.task = shape.network, shape.examples
        self.inputs = torch.from_numpy(self.task.inputs).to(self.device)
        self.labels = torch.from_numpy(self.task.labels).to(self.device)
        self.compiled = self.compiled and compiler_is_known()
        self._step = self._engine()
        self.graphs: Graphs | None = None
        self._start: Tensor | None = None
        self._draw_splits()

    def _engine(self) -> Step:
        names = tuple(rates(self.trials, 0, 1, self.device).more)
        return training_step(self.trials[0].shape, names, self.device, self.compiled)

    def start(self) -> Tensor:
        """The weights that the trials started from, [K, P]: drawn again from their seeds when first asked for, so that
        no checkpoint keeps them."""
        if self._start is None:
            self._start = started(self.trials, self.device, self.sources)
        return self._start

    def _draw_splits(self) -> None:
        shape = self.trials[0]
        chosen, train, counts = training_sets(self.trials, self.task, self.device)
        full = counts[0] if shape.split == "examples" else self.task.pool  # the same in any stack
        seeds = tuple(trial.seed for trial in self.trials)
        self.batches = random_streams.Batches(seeds, train, counts, shape.batch_size or full)
        self.split = Split.of(chosen, self.task)
        self.targets = given_labels(self.trials, self.task, self.labels, chosen)

    def keep(self, chosen: list[int]) -> None:
        """Leaves only these rows in the stack; theirs are unchanged to the last bit."""
        rows = torch.tensor(chosen, device=self.device, dtype=torch.int64)
        self.trials = tuple(self.trials[k] for k in chosen)
        self.flat, *state = (part[rows].contiguous() for part in (self.flat, *self.state))
        self.state = tuple(state)
        self._start = None if self._start is None else self._start[rows]
        self.graphs = None  # they know the old tensors
        if chosen:
            self._draw_splits()

    def advance(self, until: int) -> None:
        """Trains up to step ``until``; no host synchronization in between."""
        start = time.perf_counter()
        with flushing(self.trials[0].subnormals == "flushed"):
            self._advance(until)
        self._add_seconds(start)

    def _advance(self, until: int) -> None:
        while self.step < until:
            steps = min(AHEAD, until - self.step)
            self._block(self._drawn(steps))
            self.step += steps

    def _drawn(self, steps: int) -> tuple[Tensor, ...]:
        """What the next steps take besides weights and state."""
        examples, weights = self.batches.draw(self.step, steps)
        # as self.inputs[examples], several times faster
        inputs = F.embedding(examples, self.inputs.flatten(1)).view(*examples.shape, *self.inputs.shape[1:])
        labels = self.targets.expand(len(examples), -1, -1).gather(2, examples)
        return inputs, labels, weights, *rates(self.trials, self.step, steps, self.device).tensors

    def compiles(self) -> bool:
        """Whether a compiled step can be taken here; one is tried on copies. torch keeps what it compiled."""
        if not self.compiled:
            return False
        try:
            copies = (part.clone() for part in (self.flat, *self.state))
            self._step(*copies, *(part[0] for part in self._drawn(1)))
        except refusals():
            return False
        return True

    def _block(self, batches: tuple[Tensor, ...]) -> None:
        """Some steps, each of ``batches`` being [S, ...]; on a GPU as one graph."""
        if self.device.type == "cuda":
            self.graphs = self.graphs or Graphs(self._one_step, (self.flat, *self.state))
            self.graphs.run(batches)
            return
        for batch in zip(*batches, strict=True):
            self._one_step(*batch)

    def _one_step(self, *batch: Tensor) -> None:
        try:
            self._step(self.flat, *self.state, *batch)
        except Exception as error:
            if not self.compiled or not isinstance(error, refusals()):
                raise
            self.compiled = False  # no C++ compiler here, or no headers: slower, and noted on the results
            self._step = self._engine()
            self._step(self.flat, *self.state, *batch)

    @property
    def due(self) -> bool:
        """Whether this step is an evaluation that was not taken yet, as where a longer budget goes on."""
        trial = self.trials[0]
        return measured(self.curves.get(trial.id, {})) < self.step == next_evaluation(trial, self.step - 1)

    def evaluate(self) -> list[Result]:
        """Measures all trials at this step; those that ended leave the stack as results."""
        start = time.perf_counter()
        shape, everyone = self.trials[0], list(range(len(self.trials)))
        look = probing(shape, self.step) or self.step >= shape.steps
        seen = measure(self.stacked(), keep=look)
        self._add_points(everyone, seen.curves)
        sound = self.flat.isfinite().all(1) & torch.tensor(seen.curves["train_loss"], device=self.device).isfinite()
        endings = [self._ending(k, fine) for k, fine in enumerate(sound.tolist())]
        ended = [k for k in everyone if endings[k]]
        going = [k for k in everyone if not endings[k]]
        if ended:
            self.leaving({k: str(endings[k]) for k in ended})
        if going and look:
            self._add_looks(going, self._probed(seen, going, last=False))
        looks = self._probed(seen, ended, last=True) if ended else []
        self._add_looks(ended, looks)
        self._add_seconds(start)
        shared = self.split.overlap(ended, self.task, self.device) if ended else []
        results = [
            self._result(k, str(endings[k]), look, share) for k, look, share in zip(ended, looks, shared, strict=True)
        ]
        if ended:
            self.keep(going)
        return results

    def stacked(self) -> Stacked:
        """The trials as they stand, for what is measured on them."""
        sides = self.labels, self.targets, self.split
        temperature = switched(self.trials, self.device).get("temperature")
        return Stacked(self.trials[0].shape, self.flat, self.inputs, *sides, self.start, temperature)

    def _probed(self, seen: Seen, rows: list[int], last: bool) -> list[Look]:
        return probes(self.stacked(), seen, rows, last)

    def _add_points(self, rows: list[int], numbers: dict[str, list[float]]) -> None:
        for name, column in numbers.items():
            for k, value in zip(rows, column, strict=True):
                self.curves.setdefault(self.trials[k].id, {}).setdefault(name, []).append((self.step, value))

    def _add_looks(self, rows: list[int], looks: list[Look]) -> None:
        for k, look in zip(rows, looks, strict=True):
            self._add_points([k], {name: [value] for name, value in look.numbers.items() if is_curve(name)})
            if look.faults:
                self.faults[self.trials[k].id] = look.faults | self.faults.get(self.trials[k].id, {})

    def _ending(self, k: int, sound: bool) -> str | None:
        trial = self.trials[k]
        if not sound:
            return "diverged"
        if self.step >= trial.steps:
            return "budget"
        if trial.stop_when_settled:
            accuracies = [value for _, value in self.curves[trial.id]["test_accuracy"]]
            if events.is_settled(accuracies, trial.grok_threshold, trial.settle_evaluations):
                return "settled"
        return None

    def _result(self, k: int, ending: str, look: Look, overlap: float) -> Result:
        trial = self.trials[k]
        curves: dict[str, Curve] = {
            key: (tuple(step for step, _ in points), tuple(value for _, value in points))
            for key, points in self.curves.pop(trial.id).items()
        }
        values: dict[str, Any] = {name: value for name, value in look.numbers.items() if not is_curve(name)}
        values |= events.events(trial, curves, ending == "diverged")
        values |= {"ending": ending, "steps_run": self.step, "parameters": self.network.parameters}
        values |= {"ceiling": self.task.ceiling, "overlap": overlap}
        values["train_seconds"] = self.seconds.pop(trial.id)
        values = {name: value for name, value in values.items() if value == value}  # NaN: does not exist
        faults = self.faults.pop(trial.id, {})
        values["phase"] = self._phase(trial, curves, values, faults)
        notes = self.notes() | ({"fault": "; ".join(faults.values())} if faults else {})
        return Result(trial, Outcome(**values), curves, notes, look.picture)

    @staticmethod
    def _phase(trial: Trial, curves: dict[str, Curve], values: dict[str, Any], faults: dict[str, str]) -> str | None:
        """Ours, or the word of the user's rule; one that fails leaves the trial without a phase."""
        rule = next((part for part in trial.parts if part.kind == "phases"), None)
        if rule is None or values["phase"] == "diverged":
            return str(values["phase"])
        names = phase_names([rule])
        try:
            word = rule.target(curves, values)
        except Exception as error:  # anything a user's rule may raise
            faults["phases"] = f"phases {rule.name}: {place_of(error)}raised {type(error).__name__}: {error}"
            return None
        if word not in names:
            faults["phases"] = f"phases {rule.name}: must return one of {', '.join(names)}, got {word!r}"
            return None
        return str(word)

    def notes(self) -> dict[str, str]:
        """What the numbers' last bits depend on besides the configuration."""
        return origin(self.device, self.compiled)

    def _add_seconds(self, start: float) -> None:
        share = (time.perf_counter() - start) / max(len(self.trials), 1)
        for trial in self.trials:
            self.seconds[trial.id] = self.seconds.get(trial.id, 0.0) + share


def measured(curves: Mapping[str, list[tuple[int, float]]]) -> int:
    """The step of a trial's last evaluation; 0 before the first."""
    return curves.get("train_loss", [(0, 0.0)])[-1][0]


def without_gpu() -> str:
    """Why torch can use no GPU on this machine; empty if it can."""
    if torch.cuda.is_available():
        return ""
    built = torch.backends.cuda.is_built()
    return "none on this machine" if built else f"torch {torch.__version__}, which is built without CUDA"


def origin(device: torch.device, compiled: bool) -> dict[str, str]:
    """What the last bits of a stack's numbers depend on besides the configurations."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else f"cpu {processor.name()}",
        "product": "bmm" if gpu else matmul.chosen(),
        "engine": "compiled" if compiled else "eager",
        "torch": str(torch.__version__),  # its own class of text is not read back from a checkpoint
    }


def begin(
    trials: tuple[Trial, ...],
    device: torch.device | str = "cpu",
    compiled: bool = False,
    sources: Sources | None = None,
) -> Training:
    """A fresh stack: row k's weights are drawn from trial k's seed alone, or are those of its source. Compiled and
    eager steps differ in the last bits; each is the same in every stack."""
    device, sources = torch.device(device), sources or {}
    prepare(device)
    flat = started(trials, device, sources)
    state = tuple(torch.zeros_like(flat) for _ in trials[0].shape.rule.state)
    return Training(trials, device, flat, state, compiled, sources=sources)


def started(trials: tuple[Trial, ...], device: torch.device, sources: Sources) -> Tensor:
    """Initial weights [K, P]."""
    network = trials[0].shape.network
    own = [
        sources[t.start_from] if t.start_from else network.initial(random_streams.weight_seed(t.seed)) for t in trials
    ]
    return torch.stack([_scaled(t, row, network.layout) for row, t in zip(own, trials, strict=True)]).to(device)


def _scaled(trial: Trial, row: Tensor, layout: Layout) -> Tensor:
    """Initial weights [P] times the trial's scales."""
    row = row * trial.initial_scale
    for group, scale in (("embedding", trial.embedding_scale), ("readout", trial.readout_scale)):
        for place in layout.runs(piece for piece in layout.pieces if piece.group == group and scale != 1):
            row[place] *= scale
    return row


def may_be_stacked(trial: Trial, device: torch.device | str, compiled: bool) -> bool:
    """Whether a trial's numbers are the same alone and in a stack; ours are proved by tests, a user's network is tried.

    Tried are some steps and an evaluation, alone and in stacks of several sizes, by the engine that will run, and on a
    CPU each of its operators.
    """
    return not trial.part("model").code or _tried_stacked(_typical(trial), str(device), compiled)


def _typical(trial: Trial) -> Trial:
    """A short trial of the same shapes and code, the same for all cells that have these."""
    free = {name: CORE[name].default for name in STACKED - SWITCHED - {"data_fraction"}}
    plain = {"probe_every": 0, "warmup": 0, "log_spaced": False, "probes": "", "phases": "liu"}
    return trial.replace(steps=TRIED_STEPS, evaluate_every=TRIED_STEPS, **plain, **free)


@lru_cache(maxsize=64)
def _tried_stacked(trial: Trial, device: str, compiled: bool) -> bool:
    trials = tuple(trial.replace(seed=seed, initial_scale=scale) for seed, scale in enumerate(TRIED_SCALES))
    if device == "cpu" and _rounds_by_place(begin(trials), compiled):
        return False
    alone = [_bits((one,), device, compiled)[0] for one in trials]
    return all(_bits(trials[:size], device, compiled) == alone[:size] for size in TRIED_SIZES)


def _rounds_by_place(training: Training, compiled: bool) -> bool:
    """Whether an operator of the network does, at a step or at an evaluation, which is never compiled."""
    network, point = training.network, training.flat.clone().requires_grad_()

    def step() -> None:
        logits = network.logits(network.layout.split(point), training._drawn(1)[0][0])
        torch.autograd.grad(logits, point, logits.detach())

    def look() -> None:
        for _ in _looks(training):
            pass

    trials = len(training.trials)
    return rounds_by_place(step, trials, compiled) or rounds_by_place(look, trials, compiled=False)


def _bits(trials: tuple[Trial, ...], device: str, compiled: bool) -> list[list[bytes]]:
    """For each trial what tells all numbers of its first steps and of an evaluation, whether or not it diverged."""
    training = begin(trials, device, compiled)
    seen: list[Tensor] = []
    for step in range(1, TRIED_STEPS + 1):
        training.advance(step)
        seen += [part.clone() for part in (training.flat, *training.state)]
    seen += _looks(training)
    return [[_digest(part[k]) for part in seen] for k in range(len(trials))]


@torch.no_grad()
def _looks(training: Training) -> Iterator[Tensor]:
    """Hidden vectors and logits of an evaluation's first and last examples: its other chunks are as long as the
    first."""
    weights, chunks = training.network.layout.split(training.flat), training.inputs[None].split(CHUNK, 1)
    for chunk in chunks[:1] + chunks[1:][-1:]:
        yield from training.network.look(weights, chunk)


def _digest(row: Tensor) -> bytes:
    """Equal for equal numbers; NaN is equal to NaN, and -0 to 0."""
    same = torch.where(row.isnan(), torch.nan, row) + 0.0
    return hashlib.sha256(same.cpu().numpy().tobytes()).digest()


def probe_faults(trial: Trial) -> list[str]:
    """What goes wrong where the user's probes of a trial look at fresh weights, and at two trials in a stack."""
    names = [part.name for part in trial.parts if part.kind == "probe"]
    plain = trial.replace(probes="+".join(names), start_from="")
    stack = begin(tuple(plain.replace(seed=seed) for seed in range(2))).stacked()
    seen = measure(stack, keep=True)
    looks = [look for last in (False, True) for look in probes(stack, seen, [0, 1], last)]
    return list(dict.fromkeys(look.faults[name] for look in looks for name in names if name in look.faults))


def train(
    training: Training, pause: float = 2.0, stop: Callable[[int], int] = lambda step: NEVER
) -> Iterator[list[Result]]:
    """Runs a stack to its end. Yields about every ``pause`` seconds, after every evaluation and wherever it stops:
    the trials that ended there, if any. ``stop``: the next such step after a step."""
    while training.trials:
        evaluation = training.step if training.due else next_evaluation(training.trials[0], training.step)
        goal = min(evaluation, stop(training.step))
        start = time.perf_counter()
        while training.step < goal and time.perf_counter() - start < pause:
            training.advance(min(training.step + AHEAD, goal))
        yield training.evaluate() if training.step == evaluation else []


def probing(trial: Trial, step: int) -> bool:
    """Whether the probes look at this evaluation. Log-spaced evaluations are probed until the even ones begin."""
    return step % trial.probe_interval == 0 or (trial.log_spaced and step < trial.probe_interval)


@contextlib.contextmanager
def flushing(small: bool) -> Iterator[None]:
    """With ``small`` numbers below 1.2e-38 count as 0 in this thread, and again as before after it. For training
    alone: LAPACK, which probes call, would round otherwise."""
    before = bool(torch.tensor(2e-38) / 4 == 0)
    torch.set_flush_denormal(small)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def prepare(device: torch.device) -> None:
    """Full fp32 on every device; on a CPU its threads, and its memory kept."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    if device.type == "cpu":
        processor.limit_threads()
        processor.keep_memory()
