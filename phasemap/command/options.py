"""The options of a sweep: for the command, for ``phasemap.run`` and for the texts, each with its rule, once."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from phasemap.fields import NOT_NEGATIVE, POSITIVE, Fault, Field, Rule, fields_from
from phasemap.plan.keep import STEPS
from phasemap.words import did_you_mean

LONGEST = 200  # bytes of a name, which becomes a folder's
NAME = (
    Rule(
        lambda name: name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\:*?\"<>|%#'`"),
        "must be the name of one folder, without / \\ : * ? \" < > | % # ' `",
        "use letters, digits, - _ and .",
    ),
    Rule(lambda name: len(name.encode()) <= LONGEST, f"must have at most {LONGEST} bytes", "shorten it"),
)
PLACE = Rule(lambda place: "\0" not in place and place == place.strip(), "must be a folder or URI", "name one")


@dataclass(frozen=True)
class Options:
    """How a sweep runs. Nothing here changes what a trial is."""

    local: Annotated[bool, "run in this process, without Ray"] = False
    address: Annotated[str, "address of a Ray cluster that runs already (default: RAY_ADDRESS, or a local one)"] = ""
    tracking_uri: Annotated[str, "MLflow store (default: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db here)", PLACE] = ""
    storage: Annotated[str, "folder or URI for checkpoints and kept weights, shared by all nodes", PLACE] = ""
    out: Annotated[str, "folder for the figures (default: figures/NAME)"] = ""
    stack_size: Annotated[int, "trials per stack (default: by shape)", NOT_NEGATIVE] = 0
    compile: Annotated[Literal["auto", "always", "never"], "compile training steps (default: if it pays)"] = "auto"
    cpus_per_stack: Annotated[float, "CPU cores a stack takes (default: 1)", POSITIVE] = 1.0
    gpus_per_stack: Annotated[float, "GPUs or share of one a stack takes, if there are any", POSITIVE] = 1.0
    device: Annotated[Literal["auto", "cpu", "cuda"], "where stacks train"] = "auto"
    checkpoint_every: Annotated[float, "seconds between checkpoints of a stack", NOT_NEGATIVE] = 60.0
    keep_weights: Annotated[str, "weights kept of each trial: final, log, every:N or steps, joined by +", STEPS] = ""
    keep_state: Annotated[bool, "keep the final states, from which a longer budget continues"] = False
    retrain: Annotated[bool, "train recorded trials again for the weights or states asked for now"] = False
    figures: Annotated[bool, "draw figures while it runs and at the end"] = True


FIELDS: dict[str, Field] = {
    field.name: field
    for field in fields_from(
        "a sweep", inspect.signature(Options).parameters, get_type_hints(Options, include_extras=True), (), ""
    )
}


class Parser(argparse.ArgumentParser):
    """Says of a mistyped option which one it was meant to be."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        mixed = all(action.nargs not in (argparse.REMAINDER, argparse.PARSER) for action in self._actions)
        parsed, unknown = (self.parse_known_intermixed_args if mixed else self.parse_known_args)(args, namespace)
        flags = [flag for action in self._actions for flag in action.option_strings]
        if unknown:
            near = did_you_mean(unknown[0].partition("=")[0], flags)
            self.error(f"{' '.join(unknown)}: not an option or argument{near}; --help lists them")
        return parsed


def check_name(name: str) -> None:
    """Raises ValueError unless it can name an experiment and a folder."""
    broken = next((rule for rule in NAME if not rule.holds(name)), None)
    if broken:
        raise ValueError(f"--name: {broken.law}, got {name!r}; {broken.cure}")


def options(given: Mapping[str, Any], prefix: str = "") -> Options:
    """Options from plain values; None means the default.

    Raises:
        Fault: unknown options, wrong types or broken rules, all at once. ``prefix``: how a name is written, as in --.
    """
    clean, faults = {}, []
    for name, value in given.items():
        shown = prefix + (name.replace("_", "-") if prefix else name)
        if name not in FIELDS:
            faults.append(f"{shown}: not an option{did_you_mean(name, FIELDS)}; use one of {', '.join(FIELDS)}")
        elif value is not None:
            try:
                clean[name] = FIELDS[name].coerce(value)
                broken = FIELDS[name].broken(clean[name])
            except Fault as fault:
                broken = fault.faults
            faults += [shown + fault.removeprefix(name) for fault in broken]
    if faults:
        raise Fault(faults)
    return Options(**clean)
