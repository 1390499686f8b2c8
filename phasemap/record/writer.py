"""The only writer: one result -> one MLflow run, whole or not at all.

A run is created, filled and only then set FINISHED; a trial counts as done only when a FINISHED run
bears its id. Runs without a result, of a dead driver or of trials that had not ended, are deleted at the next
start. One process writes in one thread, with few large calls (one costs a server as much as fifty metrics).
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from phasemap.record import client as store  # first: it sets what MLflow reads when imported  # isort: skip
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from phasemap.fields import Fault
from phasemap.plan.asked import Asked, strays
from phasemap.plan.asked import asked as asked_of
from phasemap.plan.keep import Keep
from phasemap.plan.outcome import DEFINITION_VERSIONS, PICTURE_FILE, Curve, Outcome, Result
from phasemap.plan.phases import PHASES
from phasemap.plan.space import Space
from phasemap.plan.trial import Trial
from phasemap.record import background, mlflow_views
from phasemap.record.background import Answer, Away, Background, Job
from phasemap.record.claim import Claim, Held, Lost
from phasemap.record.environment import environment, origin
from phasemap.record.live import Live, batches, finite

__all__ = ("Away", "Held", "Lost", "Recorder")

ASKED = "asked.json"  # artifact of the parent run: the sampler's trials
ASKED_OF = "phasemap.space"  # tag of the parent run: what each of its space files asks for, as ``plan/asked.py``
LONGEST_TAG = 8_000  # characters that MLflow takes
KEPT = ("weights", "kept", "state")  # notes of a result, and tags of its run: what is kept of the trial
SAME = ("steps_run", "final_train_accuracy", "final_test_accuracy", "final_train_loss", "final_test_loss")
VALUES = ("axis.", "fixed.")  # begin its tags of what the sweep varies and fixes


@dataclasses.dataclass(frozen=True)
class Done:
    """A trial that is already recorded."""

    id: str
    phase: str
    outcomes: dict[str, float]
    code: dict[str, str] = dataclasses.field(default_factory=dict)  # of the user's components, as ``Trial.code``
    run: str = ""
    kept: tuple[int, ...] = ()  # steps of its weights
    state: bool = False  # a longer budget can go on from it
    fault: str = ""  # what went wrong in its probes, or in the rule of its phase

    @classmethod
    def of(cls, run: Run) -> Done:
        """A finished run of a trial."""
        tags = run.data.tags
        kept = tuple(int(step) for step in tags.get("phasemap.kept", "").split("+") if step.isdigit())
        own = _listed(tags.get("phasemap.code", ""), dict), run.info.run_id, kept, "phasemap.state" in tags
        fault = tags.get("phasemap.fault", "")
        return cls(tags["phasemap.trial"], tags.get("phase", ""), dict(run.data.metrics), *own, fault)

    def has_kept(self, keep: Keep, budget: int) -> bool:
        """Whether nothing of what is to be kept of the trial is missing."""
        last = int(self.outcomes.get("steps_run", budget))
        has_state = self.state or not keep.state or last < budget  # one that ended early has nothing to go on from
        return has_state and set(keep.steps(last)) <= set(self.kept)


class Recorder:
    """The record of one sweep: an experiment, a parent run, and one child run per trial.

    A context: however its block ends, the parent run is closed and the sweep let go.

    Raises:
        ValueError: the store cannot be used.
        Held: another driver is running this sweep.
    """

    def __init__(
        self,
        name: str,
        uri: str,
        axes: tuple[str, ...],
        source: str,
        say: Callable[[str], None] = print,
        tags: Mapping[str, str] | None = None,
        asks: Mapping[str, Asked] | None = None,
        file: str = "",
    ):
        self.uri, self.name, self.axes, self.say = uri, name, axes, say
        self.tags = dict(tags or {})  # more of the parent run
        self.asks = asks or {}  # what the space file, by name, asks for
        self.origin = origin(file) if file else {}  # tags of every run
        self.client = self._answered(lambda: store.connect(uri))
        self.failed: dict[str, str] = {}
        self._others: list[dict[str, Any]] = []  # what samplers asked for in other settings of the sweep
        self._creating = ""  # id of the trial whose run was created last
        try:
            self.experiment = self._answered(self._experiment)
            self.parent, earlier = self._answered(self._parent)
            self._existed = earlier is not None
            self.tags[ASKED_OF] = self._asked_of(earlier or {})
            self.claim = Claim(self.client, name, self.parent)
            self._begin(source)
        except (MlflowException, OSError) as error:
            raise ValueError(
                f"tracking store {store.redacted(uri)}: must take what is written, got {store.short(error)}; correct "
                "it, and the same command continues"
            ) from error
        self._jobs = Background(self.claim, uri, lambda text: self.say(text))
        self._live = Live(self.client, lambda trial, began: self._create(trial, {}, _milliseconds(began)))

    def _begin(self, source: str) -> None:
        try:
            self.done = {done.id: done for done in self._answered(lambda: list(self._read_done()))}
            self._answered(lambda: self._describe(source))
        except BaseException:
            with suppress(Exception):
                self.claim.release("FAILED")
            raise

    def _answered(self, ask: Callable[[], Answer]) -> Answer:
        patience = 0.0 if store.database(self.uri) else background.START  # a file does not come back by itself
        return background.patiently(ask, self.uri, self.say, patience)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.close("FINISHED")
        else:
            interrupted = issubclass(kind, (KeyboardInterrupt, SystemExit))
            self._jobs.abandon("KILLED" if interrupted else "FAILED", error, self._live.close)

    def result(self, result: Result, then: Callable[[], None] = lambda: None) -> None:
        """Queues a finished trial; ``then`` runs once it is recorded."""

        def failed(reason: str) -> None:
            self.failed[result.trial.id] = reason
            self._write_failure(result.trial, reason)

        self._jobs.put(Job(lambda: self._write(result), f"trial {result.trial.id}", then, failed))

    def live(self, trial: Trial, curves: Mapping[str, Curve], began: float) -> None:
        """Takes further points of the curves of a trial that still trains; they are written when there is time."""
        if trial.id in self.done:
            return  # trained again
        self._live.add(trial, curves, began)
        if not self._jobs.waiting and self._live.due():
            self._jobs.put(Job(self._write_live, "the curves of trials at work"))

    def _write_live(self) -> None:
        self._live.write(lambda: not self._jobs.waiting)

    def failure(self, trial: Trial, reason: str) -> None:
        """Queues a trial that could not be run; it is not done, and runs again next time."""
        self.failed[trial.id] = reason
        self._jobs.put(Job(lambda: self._write_failure(trial, reason), f"failed trial {trial.id}"))

    def asked(self, space: Space) -> list[Trial]:
        """Trials a sampler has asked for in earlier runs of the sweep, in its order, of those that the space asks for;
        the others stay in the list. Where it is out of reach (a moved folder, a deleted parent run), the trials that
        are recorded."""
        mine, wanted = [], asked_of(space)
        for values in self._listed():
            with suppress(Fault):  # a field that the user's code has lost since
                trial = space.trial(values)
                if not strays(wanted, trial.texts):
                    mine.append(trial)
                    continue
            self._others.append(values)
        return mine

    def _listed(self) -> list[dict[str, Any]]:
        """The values of all trials that samplers have asked for."""
        listed = "phasemap.asked" in self.client.get_run(self.parent).data.tags
        try:
            if any(file.path == ASKED for file in self.client.list_artifacts(self.parent)):
                with tempfile.TemporaryDirectory() as folder:
                    values: list[dict[str, Any]] = json.loads(Path(self._download(ASKED, folder)).read_text())
                    return [dict(one) for one in values]
            why = "it is gone"
        except (OSError, ValueError, TypeError, AttributeError, MlflowException) as error:
            listed, why = True, store.short(error)
        if not self.done or (self._existed and not listed):
            return []
        self.say(f"{self.name}: the sampler's list of trials cannot be read ({why}); it goes on from those recorded")
        runs = self._search("tags.`phasemap.kind` = 'trial' and attributes.status = 'FINISHED'")
        return [dict(run.data.params) for run in runs if run.data.tags.get("phasemap.trial") in self.done]

    def write_down(self, asked: list[Trial]) -> None:
        """Queues the list of all trials a sampler has asked for, behind those of other settings of the sweep."""
        text = json.dumps([*self._others, *(dict(trial.values) for trial in asked)])

        def write() -> None:
            self.client.log_text(self.parent, text, ASKED)
            self.client.set_tag(self.parent, "phasemap.asked", str(len(asked)))

        self._jobs.put(Job(write, "the sampler's list"))

    def _download(self, name: str, folder: str) -> str:
        return self.client.download_artifacts(self.parent, name, folder)

    def planned(self, trials: int) -> None:
        """Queues how many trials the sweep will hold."""
        tag = "phasemap.trials"
        self._jobs.put(Job(lambda: self.client.set_tag(self.parent, tag, str(trials)), "the number of trials"))

    def artifacts(self, folder: Path) -> None:
        """Queues a folder of figures for the parent run."""
        self._jobs.put(Job(lambda: self.client.log_artifacts(self.parent, str(folder), "figures"), "the figures"))

    def totals(self) -> None:
        """Queues the phase counts and costs of the parent run, as they are when their turn comes."""
        self._jobs.put(Job(self._write_totals, "the sweep's totals"))

    @property
    def waiting(self) -> int:
        """How many results and other things are queued."""
        return self._jobs.waiting

    def check(self) -> None:
        """Raises what has ended the writing: Away if the store stayed away, Lost if the sweep is another's."""
        self._jobs.check()

    def flush(self) -> None:
        """Waits until everything queued is recorded; raises as ``check`` does."""
        self._jobs.flush()

    def close(self, status: str) -> None:
        """Records what is queued, then ends the parent run and lets go of the sweep; raises as ``check`` does."""
        if not self._jobs.closed:
            self.totals()
            self._jobs.put(Job(self._live.close, "the trials at work"))
        self._jobs.close(status)

    # ------------------------------------------------------------------ the store

    def _experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(self.name)
        file, ours = store.database(self.uri), f"mlruns/{self.name}"
        place = (file.parent / ours).as_uri() if file else None
        if experiment is None:
            try:
                return self.client.create_experiment(self.name, artifact_location=place)
            except MlflowException:  # another driver was quicker
                experiment = self.client.get_experiment_by_name(self.name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            raise ValueError(
                f"experiment {self.name}: was deleted in MLflow; "
                f"restore it with `mlflow experiments restore -x {experiment.experiment_id}` or choose another --name"
            )
        if (
            place
            and experiment.artifact_location != place
            and unquote(experiment.artifact_location).endswith(f"/{ours}")
        ):
            where = unquote(experiment.artifact_location).removeprefix("file://")
            self.say(f"{self.name} keeps its files in {where}, where its database lay when it began")
        return experiment.experiment_id

    def _parent(self) -> tuple[str, dict[str, str] | None]:
        """The parent run, and its tags if it was there already."""
        if parent := store.parent_of(self.client, self.experiment):
            return parent.info.run_id, parent.data.tags
        tags = {"phasemap.kind": "sweep", "mlflow.runName": self.name}
        own = self.client.create_run(self.experiment, tags=tags).info.run_id
        first = store.parent_of(self.client, self.experiment)
        if first is None or first.info.run_id == own:
            return own, None
        self.client.delete_run(own)  # another driver began the sweep between the search and this
        return first.info.run_id, first.data.tags

    def _asked_of(self, earlier: Mapping[str, str]) -> str:
        """What each space file of the sweep asks for. Of more files than a tag holds nothing is kept, so that no trial
        is left out."""
        text = json.dumps(_listed(earlier.get(ASKED_OF, "{}"), dict) | dict(self.asks))
        return text if len(text) <= LONGEST_TAG else "{}"

    def _describe(self, source: str) -> None:
        tags = {"phasemap.axes": ",".join(self.axes), **self.tags, **self.origin}
        for key in self.client.get_run(self.parent).data.tags:
            if key.startswith(VALUES) and key not in tags:  # an axis of before
                self.client.delete_tag(self.parent, key)
        for key, value in tags.items():
            self.client.set_tag(self.parent, key, value)
        tags = mlflow_views.views(self.axes, int(time.time() * 1_000), self._phases(), self._probes())
        tags |= {"mlflow.experimentKind": "custom_model_development"}
        for key, value in tags.items():
            self.client.set_experiment_tag(self.experiment, key, value)
        self._write_description()
        self.client.log_text(self.parent, source, "search_space.py")
        self.client.log_dict(self.parent, environment(), "environment.json")

    def _phases(self) -> tuple[str, ...]:
        return tuple(_listed(self.tags.get("phasemap.phases", ""), list)) or PHASES

    def _probes(self) -> tuple[str, ...]:
        asked = (self.tags[name] for name in (f"{kind}probes" for kind in VALUES) if name in self.tags)
        return next((tuple(re.findall(r"\w+", text)) for text in asked), mlflow_views.USUAL)

    def _write_description(self) -> None:
        """For the experiment and the parent run; it links to the phases that trials have."""
        met = {done.phase for done in self.done.values()}
        named = [phase for phase in self._phases() if phase in met]
        description = mlflow_views.description(self.name, self.experiment, self.parent, named)
        self.client.set_tag(self.parent, "mlflow.note.content", description)
        self.client.set_experiment_tag(self.experiment, "mlflow.note.content", description)

    def _read_done(self) -> Iterator[Done]:
        phases = self._phases()
        for run in self._search("tags.`phasemap.kind` = 'trial'"):
            trial = run.data.tags.get("phasemap.trial")
            if run.info.status in ("RUNNING", "KILLED"):  # without its result; a driver that only slept is refused so
                self.client.set_terminated(run.info.run_id, "KILLED")
                self.client.delete_run(run.info.run_id)
            elif run.info.status == "FINISHED" and trial:
                phase = run.data.tags.get("phase", "")
                if phase not in phases:
                    self.say(
                        f"run {run.info.run_id}: phase must be one of {', '.join(phases)}, got {phase!r}; correct the "
                        "tag in MLflow"
                    )
                yield Done.of(run)
            elif not trial:
                self.say(f"run {run.info.run_id} has lost its tag phasemap.trial in MLflow: not counted")

    def _search(self, condition: str) -> list[Run]:
        return store.search(self.client, self.experiment, condition)

    def _write(self, result: Result) -> None:
        if result.trial.id in self.done:
            return self._link(result)  # trained again; or a sampler that lost its list asked for it
        outcome = result.outcome.values
        tags = {name: value for name, value in outcome.items() if isinstance(value, str)}
        tags |= {f"phasemap.{name}": value for name, value in result.notes.items()}
        tags["phasemap.definitions"] = json.dumps(DEFINITION_VERSIONS)
        run, last = self._live.run(result.trial)
        late = [RunTag(name, value) for name, value in tags.items()] if run else []
        run = run or self._create(result.trial, tags, _milliseconds(result.began)) or ""
        if run:
            self._fill(run, result, last, late)
        self._live.ended(result.trial)
        numbers = {name: float(value) for name, value in outcome.items() if isinstance(value, (int, float))}
        fault = result.notes.get("fault", "")
        self.done[result.trial.id] = Done(result.trial.id, str(result.outcome.phase), numbers, fault=fault)

    def _link(self, result: Result) -> None:
        """Tells the run of a trial that was trained again what is kept now, if its numbers are the recorded ones."""
        done = self.done[result.trial.id]
        now = {name: float(result.outcome.values.get(name, math.nan)) for name in SAME}
        differing = [name for name in SAME if now[name] == now[name] and done.outcomes.get(name) != now[name]]
        if differing and done.run:
            name = differing[0]
            self.say(
                f"trial {done.id}: must give the recorded numbers again, got {name} {now[name]!r} (recorded "
                f"{done.outcomes.get(name)!r}), as another processor or torch gives; what is kept now is not linked"
            )
            return
        for name in KEPT if done.run else ():
            if name in result.notes:
                self.client.set_tag(done.run, f"phasemap.{name}", result.notes[name])

    def _fill(self, run: str, result: Result, last: Mapping[str, int], late: list[RunTag]) -> None:
        """``last``: the step up to which each curve stands there already. ``late``: tags it was not created with."""
        first, *rest = batches([one for one in _metrics(result.outcome, result) if one.step > last.get(one.key, -1)])
        self.client.log_batch(run, first, _params(result.trial), late)
        for batch in rest:
            self.client.log_batch(run, batch)
        if result.picture:
            lines = ["x,y,class", *(f"{x:.4f},{y:.4f},{c}" for x, y, c in result.picture)]
            self.client.log_text(run, "\n".join(lines), PICTURE_FILE)
        self.claim.check()
        self.client.set_terminated(run, "FINISHED", _milliseconds(result.ended))

    def _write_totals(self) -> None:
        """Metrics of the parent run by which sweeps are compared: trials by phase, and what they cost."""
        done, now = list(self.done.values()), int(time.time() * 1_000)
        phases = Counter(re.sub(r"[^\w.-]", "_", one.phase) for one in done)  # a name that MLflow takes
        totals = {f"trials/{phase}": float(n) for phase, n in phases.items()}
        totals |= {f"share/{phase}": n / len(done) for phase, n in phases.items()}
        for key, cost in (("trial_steps", "steps_run"), ("train_seconds", "train_seconds")):
            totals[f"cost/{key}"] = sum(one.outcomes.get(cost, 0.0) for one in done)
        totals["trials/recorded"], totals["trials/failed"] = float(len(done)), float(len(self.failed))
        self.client.log_batch(self.parent, [Metric(key, value, now, 0) for key, value in totals.items()])
        self._write_description()

    def _write_failure(self, trial: Trial, reason: str) -> None:
        run = self._live.run(trial)[0] or self._create(trial, {}) or ""
        if run:
            self.client.log_batch(run, params=_params(trial), tags=[RunTag("failure", reason[:5_000])])
            self.client.set_terminated(run, "FAILED")
        self._live.ended(trial)

    def _create(self, trial: Trial, tags: dict[str, str], began: int | None = None) -> str | None:
        """A new child run; None if the trial turns out to be recorded. A job that is tried again,
        because an answer was lost, closes what its first try left behind."""
        if self._creating == trial.id:
            for run in self._search(f"tags.`phasemap.trial` = '{trial.id}'"):
                if run.info.status == "FINISHED":
                    return None
                if run.info.status == "RUNNING":
                    self.client.set_terminated(run.info.run_id, "KILLED")
        self._creating = trial.id
        tags = {
            **tags,
            **self.origin,
            "phasemap.kind": "trial",
            "phasemap.trial": trial.id,
            mlflow_views.ORDER: f"{trial.seed:016d} {trial.id}",
            **({"phasemap.code": json.dumps(trial.code)} if trial.code else {}),
            "mlflow.parentRunId": self.parent,
            "mlflow.runName": trial.label(self.axes),
        }
        made: str = self.client.create_run(self.experiment, began, tags).info.run_id
        return made


def _milliseconds(seconds: float) -> int | None:
    """As MLflow counts; None for now, where no time is known."""
    return int(seconds * 1_000) or None


def _params(trial: Trial) -> list[Param]:
    return [Param(name, text) for name, text in trial.texts.items()]


def _metrics(outcome: Outcome, result: Result) -> Iterator[Metric]:
    """Outcomes at the last step, the main ones first, then curves at their steps. MLflow's tables of metrics have
    this order, and its page that compares runs draws the first one that all of them have."""
    now, last = _milliseconds(result.ended) or int(time.time() * 1_000), outcome.steps_run or 0
    main = {name: outcome.values[name] for name in mlflow_views.SHOWN if name in outcome.values}
    for name, value in {**main, **outcome.values}.items():
        if isinstance(value, (int, float)) and name not in result.curves:
            yield Metric(name, float(value), now, last)
    for key, (steps, values) in result.curves.items():
        for step, value in finite(zip(steps, values, strict=True)):
            yield Metric(key, value, now, step)


def _listed(text: str, kind: type) -> Any:
    """A list or dict that a tag holds; an empty one if somebody else wrote there."""
    try:
        content = json.loads(text)
    except ValueError:
        return kind()
    return content if isinstance(content, kind) else kind()
