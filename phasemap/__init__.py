"""phasemap: maps of when small networks grok, from hundreds of trials trained in stacks.

Axis letters, used in every shape below: K trials in a stack (always first), B examples in a
batch, N examples of the task, T tokens, D width, C classes, P weights of one trial.

Words: a *trial* is one training run of one configuration = one MLflow run. A *stack* is
same-shaped trials trained as one batched model = one Ray Tune trial. A *cell* is a point of the
axes without the seed. A *sweep* is a search space being run.
"""

from __future__ import annotations

from pathlib import Path

from phasemap.api import load as load
from phasemap.api import network as network
from phasemap.api import run as run
from phasemap.api import weights as weights
from phasemap.plan.outcome import Outcome as Outcome
from phasemap.plan.space import Space as Space
from phasemap.plan.trial import Trial as Trial
from phasemap.tasks.task import Task as Task

_ROOT = Path(__file__).parents[1]
if (_ROOT / "pyproject.toml").exists():
    __path__.append(str(_ROOT))  # a checkout: a wheel's phasemap.analysis and phasemap.search_spaces stand there

__all__ = ("Outcome", "Space", "Task", "Trial", "load", "network", "run", "weights")


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: a checkout that was never installed has none, and imports
        from importlib.metadata import version

        return version("phasemap-grokking")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
