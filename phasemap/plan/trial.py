"""``Trial``: what to run. Field name = MLflow key = table column, everywhere.

A trial has the fields that stand here, and those of its components: its task, its network, its optimizer. This file
knows the rules that a configuration must obey; it trains nothing and imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated, Any, Literal, get_type_hints

from phasemap import probes as probing
from phasemap.fields import (
    ACCURACY,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_COUNT,
    REQUIRED,
    Fault,
    Field,
    Rule,
    fields_from,
)
from phasemap.networks.network import Network
from phasemap.optimizers.optimizer import Optimizer
from phasemap.plan.component import (
    Component,
    build_network,
    build_optimizer,
    build_task,
    built_in,
    component,
    names,
)
from phasemap.tasks.task import Task
from phasemap.words import did_you_mean

CLOSEST = 300  # steps between two probes, unless given: nearer ones would cost small networks a tenth of their time
SLOTS = ("task", "model", "optimizer")  # the components of every trial
LOSSES = Literal["cross_entropy", "cross_entropy_float64", "mean_squared_error", "stablemax", "stablemax_float64"]
ANNEALING = Literal["none", "linear", "cosine"]
SPLITS = Literal["examples", "distinct", "values", "classes"]
NOISE = Rule(lambda share: 0 <= share <= 1, "must lie in [0, 1]", "use a share such as 0.1")
NEVER_OR_MORE = Rule(lambda x: x == -1 or x >= 0, "must be -1 (never changes) or at least 0", "use one of these")
SEED = Rule(lambda seed: 0 <= seed < 2**53, "must lie from 0 to 2^53 - 1", "use 0, 1, 2, …")
SHARE = Rule(lambda share: 0 < share <= 1, "must lie in (0, 1]", "use a share such as 0.3")

KEPT_TRIAL = Rule(
    lambda text: bool(re.fullmatch(r"([0-9a-f]{16}(@[1-9]\d*)?)?", text)),
    "must be a trial's id, or id@step",
    "copy the 16 characters of the table's column trial; add @1000 for its weights at step 1000",
)


@dataclass
class Core:
    """The fields that every trial has, with the defaults of the published protocol. Times are optimizer steps."""

    task: Annotated[str, "what is learned"] = "modular_addition"
    split: Annotated[
        SPLITS, "what is divided between training and test: examples, distinct inputs, values, classes"
    ] = "examples"
    label_noise: Annotated[float, "share of the training labels replaced by another class", NOISE] = 0.0
    data_fraction: Annotated[
        float, "share of the examples that a trial trains on; 1: all, where test examples are apart", SHARE
    ] = 0.3
    model: Annotated[str, "the network"] = "transformer"
    initial_scale: Annotated[float, "alpha of Omnigrok: multiplies all initial weights", POSITIVE] = 1.0
    start_from: Annotated[str, "trial whose kept weights it starts from; empty: drawn from the seed", KEPT_TRIAL] = ""
    embedding_scale: Annotated[float, "further factor of the initial embeddings", NOT_NEGATIVE] = 1.0
    readout_scale: Annotated[float, "further factor of the readout's initial weights", NOT_NEGATIVE] = 1.0
    optimizer: Annotated[str, "the update rule"] = "adamw"
    learning_rate: Annotated[float, "step size", POSITIVE] = 1e-3
    embedding_rate: Annotated[float, "the embeddings' learning rate / learning_rate", NOT_NEGATIVE] = 1.0
    readout_rate: Annotated[float, "the readout's learning rate / learning_rate", NOT_NEGATIVE] = 1.0
    weight_decay: Annotated[float, "decoupled, or L2 in the gradient (adam, sgd)", NOT_NEGATIVE] = 1.0
    warmup: Annotated[int, "steps of linear learning-rate warm-up", NOT_NEGATIVE] = 0
    annealing: Annotated[ANNEALING, "how the learning rate falls to 0 from warmup to steps"] = "none"
    late_weight_decay: Annotated[float, "weight decay from decay_switch on; -1: never changes", NEVER_OR_MORE] = -1.0
    decay_switch: Annotated[int, "step at which late_weight_decay begins", NOT_NEGATIVE] = 0
    loss: Annotated[LOSSES, "what is minimized"] = "cross_entropy"
    temperature: Annotated[float, "the logits are divided by it in the loss", POSITIVE] = 1.0
    orthogonal_gradient: Annotated[bool, "the gradient without its part along the weights"] = False
    gradient_clip: Annotated[float, "largest norm of a step's gradient; 0: no clipping", NOT_NEGATIVE] = 0.0
    norm_clamp: Annotated[float, "norm that the weights are rescaled to after each step; 0: none", NOT_NEGATIVE] = 0.0
    weight_noise: Annotated[float, "standard deviation of normal noise on the weights at each step", NOT_NEGATIVE] = 0.0
    batch_size: Annotated[int, "examples a step; 0: the full training set", NOT_NEGATIVE] = 512
    precision: Annotated[Literal["fp32", "tf32", "bf16"], "operands of matrix products; sums are fp32"] = "fp32"
    subnormals: Annotated[Literal["kept", "flushed"], "numbers below 1.2e-38: kept, or 0 while training"] = "kept"
    seed: Annotated[int, "draws split, batches and initial weights", SEED] = 0
    steps: Annotated[int, "the budget", POSITIVE_COUNT] = 15_000
    evaluate_every: Annotated[int, "steps between two evaluations", POSITIVE_COUNT] = 1_000
    probe_every: Annotated[int, "steps between two probes; 0: steps / 15, at least 300", NOT_NEGATIVE] = 0
    log_spaced: Annotated[bool, "evaluations at growing distances, up to evaluate_every"] = False
    probes: Annotated[str, "names joined by +; empty for none"] = "dimension+activation+stride+spectrum"
    phases: Annotated[str, "the rule that names a trial's phase"] = "liu"
    stop_when_settled: Annotated[bool, "end at settled_step; collapse is then not seen"] = False
    grok_threshold: Annotated[float, "test accuracy that counts as generalization", ACCURACY] = 0.9
    memorization_threshold: Annotated[float, "train accuracy that counts as memorization", ACCURACY] = 0.9
    delay_limit: Annotated[int, "least lag of test behind train that counts as grokking", NOT_NEGATIVE] = 1_000
    settle_evaluations: Annotated[
        int, "consecutive evaluations >= grok_threshold that settle a trial", POSITIVE_COUNT
    ] = 5


# Fields whose default adds nothing to a training step. Among trials that all have another value they may differ: each
# becomes a [K] tensor.
SWITCHED = frozenset({"temperature", "gradient_clip", "norm_clamp", "embedding_rate", "readout_rate", "weight_noise"})
# Fields that may differ between the trials of one stack: each becomes a [K] tensor or is only
# read when outcomes are computed. Every other field fixes a tensor shape or the schedule.
STACKED = SWITCHED | frozenset(
    {
        "weight_decay",
        "learning_rate",
        "data_fraction",
        "label_noise",
        "initial_scale",
        "start_from",
        "embedding_scale",
        "readout_scale",
        "seed",
        "grok_threshold",
        "memorization_threshold",
        "delay_limit",
        "settle_evaluations",
    }
)
CORE: dict[str, Field] = {
    field.name: field
    for field in fields_from(
        "a trial", inspect.signature(Core).parameters, get_type_hints(Core, include_extras=True), (), ""
    )
}


@cache
def _all_fields() -> dict[str, Field]:
    parts = [built_in(kind, name) for kind in SLOTS for name in names(kind)]
    theirs = {field.name: field for part in parts for field in part.fields}
    kinds = {kind: dataclasses.replace(CORE[kind], choices=names(kind)) for kind in SLOTS}
    return {**CORE, **kinds, **theirs}


FIELDS: Mapping[str, Field] = _all_fields()  # of all that is built in
KINDS: Mapping[str, type] = {name: field.kind for name, field in FIELDS.items()}


class Trial:
    """One training run of one configuration; equal fields and equal code are the same trial.

    Args:
        parts: components of the user's that ``task``, ``model``, ``optimizer``, ``probes`` or ``phases`` name.
        **values: fields; one that is left out has its default. Not checked: see ``make_trial``.

    Raises:
        Fault: a component or a field that does not exist.
    """

    values: Mapping[str, Any]  # every field of this trial
    parts: tuple[Component, ...]

    def __init__(self, parts: Iterable[Component] = (), /, **values: Any):
        given = {(part.kind, part.name): part for part in parts}
        chosen, faults = [], []
        for kind in SLOTS:
            value = values.get(kind, CORE[kind].default)
            try:
                chosen.append(given.get((kind, value)) or component(kind, value))
                values[kind] = chosen[-1].name if kind in values else value
            except Fault as fault:
                faults += fault.faults
        named = {*str(values.get("probes", "")).split("+"), values.get("phases")}
        chosen += [part for part in given.values() if part.kind in ("probe", "phases") and part.name in named]
        own = {field.name: field for part in chosen for field in part.fields}
        known = {**FIELDS, **own}
        faults += [unknown(name, value, known) for name, value in values.items() if name not in known]
        if faults:
            raise Fault(faults)
        used = {**CORE, **own}
        self.values = {name: values.get(name, field.default) for name, field in used.items()}
        extra = {name: value for name, value in values.items() if name not in used and value != FIELDS[name].default}
        self.values |= extra  # a field that has no effect here, fixed by the space
        self.parts = tuple(sorted(chosen, key=lambda part: (part.kind, part.name)))

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("values", ()):
            return self.values[name]
        if name in FIELDS:
            return FIELDS[name].default
        raise AttributeError(f"{name} is not a field of the trial")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trial) and self.values == other.values and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Trial({', '.join(f'{name}={value!r}' for name, value in self._not_default().items())})"

    def replace(self, **changes: Any) -> Trial:
        """A copy with other values."""
        gone = {field.name for part in self.parts if part.code and part.kind in changes for field in part.fields}
        kept = {name: value for name, value in self.values.items() if name not in changes and name not in gone}
        return Trial(self.parts, **kept, **changes)

    def with_seed(self, seed: int) -> Trial:
        """As ``replace(seed=seed)``, fast for sweeps of many seeds: what the seed does not change is shared."""
        other = Trial.__new__(Trial)
        other.__dict__.update(values={**self.values, "seed": seed}, parts=self.parts, shape=self.shape, cell=self.cell)
        return other

    def fields(self) -> dict[str, Field]:
        """The fields that have an effect on this trial."""
        return {**CORE, **{field.name: field for part in self.parts for field in part.fields}}

    @property
    def texts(self) -> dict[str, str]:
        """Its values as the record keeps them."""
        return {name: str(value) for name, value in self.values.items()}

    def _not_default(self) -> dict[str, Any]:
        own = {field.name for part in self.parts if part.code for field in part.fields}
        known = {**FIELDS, **self.fields()}
        canonical = {name: known[name].canonical(value) for name, value in self.values.items()}
        return {name: value for name, value in canonical.items() if name in own or value != known[name].default}

    @cached_property
    def id(self) -> str:
        """16 hex digits of the configuration and of the user's code. Defaults of ours are left out, so a field added
        later, with today's behavior as its default, keeps every identity."""
        content = self._not_default() | ({"code": self.code} if self.code else {})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def code(self) -> dict[str, str]:
        """Fingerprints of the user's components, by kind and name."""
        return {f"{part.kind} {part.name}": part.code for part in self.parts if part.code}

    def part(self, kind: str) -> Component:
        """The component of a kind that a trial has one of."""
        return next(part for part in self.parts if part.kind == kind)

    @cached_property
    def shape(self) -> Shape:
        """What two trials must share to train in one stack. A full batch has the size of the
        training set, so there the data fraction is part of the shape."""
        own = self.values.keys() - STACKED
        if self.batch_size == 0:
            own |= {"data_fraction"}
        switched = tuple(name for name in sorted(SWITCHED) if self.values[name] != CORE[name].default)
        return Shape(tuple((name, self.values[name]) for name in sorted(own)), self.parts, switched)

    @cached_property
    def cell(self) -> tuple[tuple[str, Any], ...]:
        """The configuration without the seed."""
        return tuple((name, value) for name, value in self.values.items() if name != "seed")

    @cached_property
    def lineage(self) -> str:
        """What trials share that differ in their budget alone."""
        return self.replace(steps=FIELDS["steps"].default).id

    @property
    def probe_interval(self) -> int:
        """Steps between two probes, a multiple of ``evaluate_every``."""
        wanted = self.probe_every or max(self.steps / 15, CLOSEST)
        return int(max(1, round(wanted / self.evaluate_every)) * self.evaluate_every)

    def label(self, axes: tuple[str, ...]) -> str:
        """A name a person can read, from the fields that vary in a sweep."""
        return " ".join(f"{name}={_short(getattr(self, name))}" for name in axes) or self.task


@dataclass(frozen=True)
class Shape:
    """What the trials of a stack share: the values that fix tensor shapes and the schedule, and the components."""

    values: tuple[tuple[str, Any], ...]
    parts: tuple[Component, ...]
    switched: tuple[str, ...] = ()  # fields of SWITCHED that are not at their default

    @cached_property
    def _known(self) -> dict[str, Any]:
        return dict(self.values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._known:
            return self._known[name]
        if name in FIELDS and name not in STACKED:
            return FIELDS[name].default
        raise AttributeError(f"{name} is not shared by the trials of a stack")

    def _own(self, kind: str) -> tuple[Component, tuple[tuple[str, Any], ...]]:
        part = next(part for part in self.parts if part.kind == kind)
        return part, tuple((field.name, self._known[field.name]) for field in part.fields)

    @cached_property
    def examples(self) -> Task:
        """The task's examples."""
        return build_task(*self._own("task"))

    @cached_property
    def network(self) -> Network:
        """The network, a stack of any number of trials."""
        part, own = self._own("model")
        return build_network(part, self.examples, own, self.precision)

    @cached_property
    def rule(self) -> Optimizer:
        """The optimizer."""
        return build_optimizer(*self._own("optimizer"))

    def __reduce__(self) -> tuple[Any, ...]:
        return Shape, (self.values, self.parts, self.switched)  # without what was built


def make_trial(values: Mapping[str, object], parts: Iterable[Component] = ()) -> Trial:
    """Builds a Trial from plain values (ints are accepted for floats).

    Raises:
        Fault: unknown fields, wrong types or broken rules, all at once.
    """
    parts = tuple(parts)
    known = known_fields(values, parts)
    clean, faults = {}, []
    for name, value in values.items():
        try:
            clean[name] = coerce(name, value, known)
        except Fault as fault:
            faults += fault.faults
    if not faults:
        trial = Trial(parts, **clean)
        faults = broken_rules(trial)
        if not faults:
            return trial
    raise Fault(faults)


def known_fields(values: Mapping[str, object], parts: Iterable[Component]) -> dict[str, Field]:
    """Ours, and those of the user's components that the values name."""
    chosen = {(part.kind, part.name): part for part in parts}
    users = [chosen[key] for kind in SLOTS if (key := (kind, str(values.get(kind)))) in chosen]
    own = {field.name: field for part in users for field in part.fields}
    users_names = {kind: [name for one, name in chosen if one == kind] for kind in SLOTS}
    slots = {
        kind: dataclasses.replace(FIELDS[kind], choices=(*users_names[kind], *FIELDS[kind].choices)) for kind in SLOTS
    }
    return {**FIELDS, **slots, **own}


def unknown(name: str, value: object, known: Iterable[str]) -> str:
    """The message about a field that does not exist."""
    return f"{name}: not a field of a trial, got {value!r}{did_you_mean(name, known)}; docs/search-spaces.md lists all"


def coerce(name: str, value: object, known: Mapping[str, Field] = FIELDS) -> Any:
    """The value in the field's own type; text is parsed, so that values can come from the command line.

    Raises:
        Fault: no such field, or not readable.
    """
    if name not in known:
        raise Fault([unknown(name, value, known)])
    return known[name].coerce(value)


def broken_rules(trial: Trial) -> list[str]:
    """Every rule the trial breaks, as "axis: rule, got value; what to do"."""
    known = {**FIELDS, **trial.fields()}
    faults = [fault for name, value in trial.values.items() if name not in SLOTS for fault in known[name].broken(value)]
    missing = [name for name, value in trial.values.items() if value is REQUIRED]
    faults += [f"{name}: needs a value, because it has no default, got none; write {name}=…" for name in missing]
    faults += probe_faults(trial.probes, trial.parts)
    rules = ["liu", *(part.name for part in trial.parts if part.kind == "phases")]
    if trial.phases not in rules:
        faults.append(
            f"phases: must be one of {', '.join(rules)}, got {trial.phases!r}; choose one of these, or pass a rule of "
            f"your own{did_you_mean(trial.phases, rules)}"
        )
    if trial.evaluate_every > trial.steps:
        faults.append(f"evaluate_every: must not exceed steps ({trial.steps}), got {trial.evaluate_every!r}; lower it")
    if trial.probe_every % max(trial.evaluate_every, 1):
        faults.append(
            f"probe_every: must be a multiple of evaluate_every ({trial.evaluate_every}), got {trial.probe_every!r}; "
            "use a multiple, or 0 for the default"
        )
    return faults + _component_faults(trial, {fault.partition(":")[0] for fault in faults})


def strange_probes(text: str, parts: Iterable[Component]) -> list[str]:
    """The names in the field ``probes`` that no probe has."""
    known = [*_own_probes(parts), *probing.names()]
    return [name for name in dict.fromkeys(text.split("+")) if name and name not in known]


def probe_faults(text: str, parts: Iterable[Component], also: Iterable[str] = ()) -> list[str]:
    """The message about those; ``also``: other names that may have been meant."""
    parts = tuple(parts)
    known = [*_own_probes(parts), *probing.names()]
    got = ", ".join(f"{one!r}{did_you_mean(one, [*known, *also])}" for one in strange_probes(text, parts))
    return [f"probes: must be names of {', '.join(known)}, got {got}; correct or remove it"] if got else []


def _own_probes(parts: Iterable[Component]) -> list[str]:
    return [part.name for part in parts if part.kind == "probe"]


def _component_faults(trial: Trial, faulty: set[str]) -> list[str]:
    """What the task and the network refuse; a component with a faulty field is not tried."""
    faults: list[str] = []
    names_of = {part.kind: {field.name for field in part.fields} for part in trial.parts}
    if names_of["task"] & faulty:
        return faults
    shape = trial.shape
    try:
        task = shape.examples
        if "data_fraction" not in faulty:
            faults += _split_faults(trial, task)
    except Fault as fault:
        faults += fault.faults
        if trial.part("model").code:
            return faults
        shape = trial.replace(task="modular_addition", modulus=97, operands=2).shape  # what else the network refuses
    layout = None
    if not (names_of["model"] | {"precision"}) & faulty:
        try:
            layout = shape.network.layout
        except Fault as fault:
            faults += fault.faults
    if not names_of["optimizer"] & faulty:
        try:
            _ = shape.rule if layout is None else shape.rule.on(layout)
        except Fault as fault:
            faults += fault.faults
    return faults


def _split_faults(trial: Trial, task: Task) -> list[str]:
    try:
        parts = task.divided(trial.split)
    except Fault as fault:
        return fault.faults
    faults = []
    if trial.label_noise and (task.labels == task.labels[0]).all():
        faults.append(f"label_noise: needs a task of several labels, got {trial.label_noise!r} and one; use 0")
    train = train_examples(parts, trial.data_fraction)
    if train > 0 and (train < parts or task.apart):
        return faults
    if trial.data_fraction == 1:
        law = f"data_fraction: must be below 1, because {trial.task} has no test examples of its own"
        return [*faults, f"{law}, got {trial.data_fraction!r}; {SHARE.cure}"]
    side = "training" if train == 0 else "test"
    what = trial.split if trial.split in ("values", "classes") else "examples"
    return [
        *faults,
        f"data_fraction: both sides of the split must hold an example, got {trial.data_fraction!r}, which leaves "
        f"the {side} side of {trial.task} ({parts} {what}) empty; move it away from {0 if train == 0 else 1}",
    ]


def train_examples(examples: int, data_fraction: float) -> int:
    """Number of training examples (the published code truncates)."""
    return int(examples * data_fraction + 1e-9)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
