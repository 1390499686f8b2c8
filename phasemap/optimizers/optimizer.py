"""What every optimizer is: the rule that changes the weights of K trials in one step.

The parameters of a subclass's ``__init__`` are fields of a trial. Two optimizers share the name of a field only where
its meaning and its default are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.networks.network import Layout


class Optimizer:
    """Names the tensors that it keeps from step to step; each is [K, P] and starts at 0.

    ``update(flat, *state, gradient, rate)`` takes one step in place on the weights ``flat`` [K, P] and on the tensors
    of ``state``, in their order, given the gradient [K, P] and the step's ``Rates``.
    """

    state: tuple[str, ...] = ()
    decoupled: ClassVar[bool] = False  # whether the rate of decay is learning rate x weight decay
    update: Callable[..., None]

    def on(self, layout: Layout) -> Self:
        """The optimizer for a network's pieces; most treat all weights alike.

        Raises:
            Fault: it has nothing to do there.
        """
        return self

    def corrections(self, count: Tensor) -> tuple[Tensor, Tensor]:
        """What the learning rate is divided by, and ``Rates.root``, at the ``count``-th step (float64)."""
        return count**0, count**0

    def numbers(self, count: Tensor) -> dict[str, Tensor]:
        """Further numbers of the ``count``-th step, found by their names in ``Rates.more``."""
        return {}
