"""Gradient descent on batches, weight decay as L2 in the gradient, with or without momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from phasemap.fields import SHARE_BELOW_ONE
from phasemap.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ("SGD",)


class SGD(Optimizer):
    """In torch.optim.SGD's order of operations, without dampening."""

    def __init__(
        self,
        momentum: Annotated[float, "decay of the summed gradients; 0: none", SHARE_BELOW_ONE] = 0.0,
        nesterov: Annotated[bool, "Nesterov momentum"] = False,
    ):
        self.momentum, self.nesterov = momentum, nesterov
        self.state = ("momentum",) if momentum else ()

    def update(self, flat: Tensor, *rest: Any) -> None:
        *state, gradient, rate = rest
        downhill = gradient.addcmul(flat, rate.decay)
        for mean in state:
            mean.mul_(self.momentum).add_(downhill)
            downhill = downhill.add_(mean, alpha=self.momentum) if self.nesterov else mean
        flat.addcmul_(downhill, rate.step_size, value=-1)
