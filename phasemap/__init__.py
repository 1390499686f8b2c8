"""phasemap: maps of when small networks grok, from hundreds of trials trained in stacks.

Axis letters, used in every shape below: K trials in a stack (always first), B examples in a
batch, N examples of the task, T tokens, D width, C classes, P weights of one trial.

Words: a *trial* is one training run of one configuration = one MLflow run. A *stack* is
same-shaped trials trained as one batched model = one Ray Tune trial. A *cell* is a point of the
axes without the seed. A *sweep* is a search space being run.
"""

from phasemap.space import Space as Space
from phasemap.trial import Outcome as Outcome
from phasemap.trial import Trial as Trial

__all__ = ("Outcome", "Space", "Trial")
