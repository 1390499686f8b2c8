"""A longer budget goes on from a shorter one, to the same bits as in one go; what cannot is named.

Two trials that differ in ``steps`` alone take the same steps as far as both go, unless something follows from the
budget: rates that fall toward its end, the distance of the probes (``probe_every`` 0), or compiled steps, which only
budgets above a length have (their origin tells).
"""

from __future__ import annotations

import torch

from phasemap.plan.evaluations import evaluations
from phasemap.plan.trial import Trial
from phasemap.training import events
from phasemap.training.train import probing
from phasemap.training.update import rates

Points = dict[str, list[tuple[int, float]]]  # curve -> points, as ``Training.curves`` has them of a trial


def misfit(trial: Trial, step: int) -> str:
    """Why a trial cannot go on from the state that one of ``step`` steps ended with; empty if it can."""
    short = trial.replace(steps=step)
    ours, theirs = (rates((one,), 0, step, torch.device("cpu")) for one in (trial, short))
    if any(not torch.equal(own, other) for own, other in zip(ours.tensors, theirs.tensors, strict=True)):
        return "rates that follow from the budget"
    if not _looks(trial, step) <= _looks(short, step):
        return f"probes every {short.probe_interval} and {trial.probe_interval} steps; set probe_every for both"
    return ""


def curves(trial: Trial, step: int, seen: Points) -> Points:
    """The points that the trial itself would have before ``step``. There the shorter one measured what is measured at
    an end alone, so that this step is measured again if it is an evaluation."""
    looked = _looks(trial, step)
    kept = {
        name: [(at, value) for at, value in points if at < step and (name in events.FINALS or at in looked)]
        for name, points in seen.items()
    }
    return {name: points for name, points in kept.items() if points}


def _looks(trial: Trial, before: int) -> set[int]:
    return {at for at in evaluations(trial, before - 1) if probing(trial, at)}
