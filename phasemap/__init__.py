"""phasemap: maps of when small networks grok, from hundreds of trials trained in stacks.

Axis letters, used in every shape below: K trials in a stack (always first), B examples in a
batch, N examples of the task, T tokens, D width, C classes, P weights of one trial.

Words: a *trial* is one training run of one configuration = one MLflow run. A *stack* is
same-shaped trials trained as one batched model = one Ray Tune trial. A *cell* is a point of the
axes without the seed. A *sweep* is a search space being run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasemap.plan.outcome import Outcome as Outcome
from phasemap.plan.space import Space as Space
from phasemap.plan.trial import Trial as Trial

if TYPE_CHECKING:
    import pandas as pd

__all__ = ("Outcome", "Space", "Trial", "load")


def load(name: str, tracking_uri: str | None = None) -> pd.DataFrame:
    """The finished trials of a sweep: a row per trial, a column per field and outcome (``docs/definitions.md``).

    Outcomes that did not happen are NaN. ``tracking_uri`` as for the command; every figure of ``analysis`` is made
    from this frame: ``phase_diagram.figure(phase_diagram.summarise(load(name), "weight_decay", "width"))``.

    Raises:
        ValueError: no such sweep or store.
    """
    from phasemap.record.reader import read  # pandas and MLflow come with the first call, not with ``import phasemap``

    sweep = read(name, tracking_uri)
    return sweep.finished.sort_values(list(sweep.axes), ignore_index=True)
