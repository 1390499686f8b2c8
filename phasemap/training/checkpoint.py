"""Progress that survives: one file per unfinished trial, in a folder or an object store.

A trial's file does not depend on the stack it trained in, so after a crash the trials may be
stacked otherwise. Files are written beside and moved, bear their own digest, and are read as data,
never as code. What is damaged or foreign, or was made by another engine, product, device or torch, whose last bits
differ, is refused, and the trial starts again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phasemap.plan.trial import Trial
from phasemap.training import longer
from phasemap.training.train import Sources, Training, begin, measured, origin, prepare

MAGIC = b"phasemap checkpoint 2\n"
ANSWER = 30.0  # seconds a store may take to answer at the start
CONTENT = ("trial", "origin", "compiled", "step", "curves", "seconds", "flat", "state")


@dataclass(frozen=True)
class Storage:
    """Where checkpoints lie: a path, or a URI such as s3://bucket/folder (read through pyarrow)."""

    place: str

    def check(self) -> None:
        """Raises ValueError unless this machine writes here, and the place answers in time."""
        faults: list[str] = []

        def write() -> None:
            try:
                self.write(f"driver-{os.getpid()}.mark", b"")
                self.remove(f"driver-{os.getpid()}.mark", "")
            except Exception as error:  # pyarrow's own have no common base
                faults.append(str(error))

        look = threading.Thread(target=write, daemon=True)
        look.start()
        look.join(ANSWER)
        if look.is_alive():
            raise ValueError(
                f"--storage {self.place}: must answer within {ANSWER:.0f} s, got nothing; check its address and access"
            )
        if faults:
            raise ValueError(f"--storage {self.place}: must be writable, got {faults[0]}; choose another folder")

    def save(self, training: Training, compiled: bool | None = None) -> None:
        """Writes every trial of a stack as it stands. ``compiled``: how the stack was to train, if it fell back.

        Raises:
            OSError: the disk is full or the store is away; older checkpoints are untouched.
        """
        for k, trial in enumerate(training.trials):
            self.write(f"{trial.id}.pt", _packed(training, k, compiled))

    def keep_state(self, training: Training, k: int, compiled: bool | None = None) -> str:
        """Writes a trial as it stands at the end of its budget, for one with a longer one; returns where.

        Raises:
            OSError: as ``save``.
        """
        kept = self.states(training.trials[k])
        kept.write(f"{training.step}.pt", _packed(training, k, compiled))
        return kept.place

    def states(self, trial: Trial) -> Storage:
        """Where the states of trials lie that differ from this one in their budget alone: STEP.pt."""
        return Storage(f"{self.place}/states/{trial.lineage}")

    def resume(
        self,
        trials: tuple[Trial, ...],
        device: torch.device | str = "cpu",
        compiled: bool = False,
        say: Callable[[str], None] = print,
        sources: Sources | None = None,
    ) -> list[Training]:
        """The trials as stacks in progress: those with a checkpoint, or with the state of a smaller budget, grouped by
        its step, the most advanced first, then those that start from nothing."""
        where = torch.device(device)
        here = origin(where, compiled)
        at: dict[tuple[int, bool, int], list[tuple[Trial, dict[str, Any]]]] = {}
        fresh, stacks = [], []

        def refuse(made: str) -> None:
            say(f"checkpoints in {self.place} were made with {made}: refused, their trials start again")

        for trial in trials:
            content = self.unpacked(f"{trial.id}.pt", trial, say)
            if content is not None and (other := _foreign(content, here)):
                refuse(other)
                content = None
            content = content or self._state(trial, here, say)
            if content is None:
                fresh.append(trial)
            else:
                seen = measured(content["curves"])  # trials that are still to be measured here go by themselves
                how = content["step"], content["origin"]["engine"] == "compiled", seen
                at.setdefault(how, []).append((trial, content))
        for how in sorted(at, reverse=True):
            training = _stack(at[how], how[0], where, how[1], sources or {})
            if how[1] and not training.compiles():  # the compiler that made it is gone, and eager steps differ
                refuse("engine compiled (here eager)")
                fresh += training.trials
            else:
                stacks.append(training)
        return stacks + ([begin(tuple(fresh), device, compiled, sources)] if fresh else [])

    def _state(self, trial: Trial, here: dict[str, str], say: Callable[[str], None]) -> dict[str, Any] | None:
        """What the longest shorter trial left that this one can go on from."""
        kept, why = self.states(trial), ""
        for step in sorted((step for step in kept.steps(".pt") if step < trial.steps), reverse=True):
            content = kept.unpacked(f"{step}.pt", trial.replace(steps=step), say)
            if content is None:
                continue
            other = _foreign(content, here)
            misfit = f"one made with {other}" if other else longer.misfit(trial, step)
            if not misfit:
                say(f"trials go on from the states that were kept of them at step {step}")
                return content | {"curves": longer.curves(trial, step, content["curves"])}
            why = why or f"the state kept at step {step} must fit a budget of {trial.steps} steps, got {misfit}"
        if why:
            say(f"{why}; its trials start from step 0")
        return None

    def steps(self, ending: str) -> list[int]:
        """The steps whose files, STEP followed by ``ending``, lie here."""
        stems = (name.removesuffix(ending) for name in self.names() if name.endswith(ending))
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def remove(self, name: str, ending: str = ".pt") -> None:
        """Deletes a trial's checkpoint, if there is one, and what a killed writer left beside it."""
        if "://" not in self.place:
            for file in Path(self.place).glob(f"{name}{ending}*"):
                file.unlink(missing_ok=True)
            return
        filesystem, folder = _remote(self.place)
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(f"{folder}/{name}{ending}")

    def forget(self, recorded: Container[str]) -> None:
        """Deletes the checkpoints of recorded trials that are still there: the driver was killed
        between the two, or a worker that was given up wrote once more.

        Raises:
            OSError: the store is away.
        """
        for name in self.names():
            if name.partition(".")[0] in recorded:
                self.remove(name.partition(".")[0])
        if "://" not in self.place:
            with contextlib.suppress(OSError):  # there are others' left, or there is none
                os.rmdir(self.place)

    def names(self) -> list[str]:
        if "://" not in self.place:
            return os.listdir(self.place) if os.path.isdir(self.place) else []
        from pyarrow.fs import FileSelector

        filesystem, folder = _remote(self.place)
        return [file.base_name for file in filesystem.get_file_info(FileSelector(folder, allow_not_found=True))]

    def unpacked(self, name: str, trial: Trial, say: Callable[[str], None]) -> dict[str, Any] | None:
        """What a file holds of this trial; None, and why, if it holds nothing of it."""
        raw = self.read(name)
        if raw is None:
            return None
        head = len(MAGIC) + 32
        if not raw.startswith(MAGIC) or hashlib.sha256(raw[head:]).digest() != raw[len(MAGIC) : head]:
            say(f"checkpoint {self.place}/{name} is damaged or not phasemap's: refused, the trial starts again")
            return None
        try:
            content: dict[str, Any] = torch.load(io.BytesIO(raw[head:]), weights_only=True)
            if "mean" in content:  # written when every optimizer kept the same two
                content["state"] = {name: content[name] for name in ("mean", "square")}
            known = content["trial"] == trial.id and all(part in content for part in CONTENT)
            if known and set(trial.shape.rule.state) <= content["state"].keys():
                return content
        except Exception:
            content = {}
        say(f"checkpoint {self.place}/{name} is not of this trial: refused, the trial starts again")
        return None

    def write(self, name: str, content: bytes) -> None:
        if "://" in self.place:
            filesystem, folder = _remote(self.place)
            filesystem.create_dir(folder, recursive=True)
            with filesystem.open_output_stream(f"{folder}/{name}") as stream:
                stream.write(content)
            return
        place = Path(self.place)
        place.mkdir(parents=True, exist_ok=True)
        beside = place / f"{name}.{os.getpid()}.part"
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(place / name)
        finally:
            beside.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        try:
            if "://" not in self.place:
                return (Path(self.place) / name).read_bytes()
            filesystem, folder = _remote(self.place)
            with filesystem.open_input_stream(f"{folder}/{name}") as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None


def _packed(training: Training, k: int, compiled: bool | None) -> bytes:
    trial, names = training.trials[k], training.trials[0].shape.rule.state
    content = {
        "trial": trial.id,
        "origin": training.notes(),
        "compiled": training.compiled if compiled is None else compiled,
        "step": training.step,
        "curves": training.curves.get(trial.id, {}),
        "seconds": training.seconds.get(trial.id, 0.0),
        "faults": training.faults.get(trial.id, {}),
        "flat": training.flat[k].cpu().clone(),
        "state": {name: part[k].cpu().clone() for name, part in zip(names, training.state, strict=True)},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    return MAGIC + hashlib.sha256(payload).digest() + payload


def _foreign(content: dict[str, Any], here: dict[str, str]) -> str:
    """In what a file was made otherwise than would be done here. A stack that was to be compiled and fell back to eager
    steps, for want of a compiler, goes on by eager steps."""
    made = dict(content["origin"])
    if content["compiled"] and here["engine"] == "compiled":
        made["engine"] = "compiled"
    return ", ".join(f"{name} {made.get(name)} (here {here[name]})" for name in here if made.get(name) != here[name])


def _remote(place: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    filesystem, folder = FileSystem.from_uri(place)
    return filesystem, folder


def _stack(
    rows: list[tuple[Trial, dict[str, Any]]], step: int, device: torch.device, compiled: bool, sources: Sources
) -> Training:
    prepare(device)
    flat = torch.stack([content["flat"] for _, content in rows]).to(device)
    names = rows[0][0].shape.rule.state
    state = tuple(torch.stack([content["state"][name] for _, content in rows]).to(device) for name in names)
    curves = {trial.id: content["curves"] for trial, content in rows}
    seconds = {trial.id: content["seconds"] for trial, content in rows}
    faults = {trial.id: content.get("faults", {}) for trial, content in rows}
    trials = tuple(trial for trial, _ in rows)
    return Training(trials, device, flat, state, compiled, step, curves, seconds, faults, sources)
