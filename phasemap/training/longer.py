"""A longer budget goes on from a shorter one, to the same bits as in one go; what cannot is named.

Two trials that differ in ``steps`` alone take the same steps as far as both go, unless something follows from the
budget: rates that fall towards its end, the distance of the probes (``probe_every`` 0), or compiled steps, which only
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


def misfit(trial: Trial, step: int, seen: Points) -> str:
    """Why a trial cannot go on from the state that one of ``step`` steps ended with; empty if it can."""
    short = trial.replace(steps=step)
    ours, theirs = (rates((one,), 0, step, torch.device("cpu")) for one in (trial, short))
    if any(not torch.equal(getattr(ours, name), getattr(theirs, name)) for name in vars(ours)):
        return "rates that follow from the budget"
    looked = {at for at in evaluations(short, step) if probing(short, at)} | {step}
    if not _looks(trial, step) <= looked:
        return f"probes every {short.probe_interval} and {trial.probe_interval} steps; set probe_every for both"
    accuracies = [value for _, value in curves(trial, step, seen).get("test_accuracy", [])]
    if trial.stop_when_settled and events.is_settled(accuracies, trial.grok_threshold, trial.settle_evaluations):
        return "a trial that had settled there"
    return ""


def curves(trial: Trial, step: int, seen: Points) -> Points:
    """The points that the trial itself would have: a shorter one is also evaluated and probed at its last step."""
    evaluated, looked = set(evaluations(trial, step)), _looks(trial, step)
    kept = {
        name: [point for point in points if point[0] in (evaluated if name in events.FINALS else looked)]
        for name, points in seen.items()
    }
    return {name: points for name, points in kept.items() if points}


def _looks(trial: Trial, until: int) -> set[int]:
    return {at for at in evaluations(trial, until) if probing(trial, at)}
