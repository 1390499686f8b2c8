"""Lion: every weight moves by the learning rate, along a sign (Chen et al. 2023, arXiv 2302.06675)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from phasemap.fields import SHARE_BELOW_ONE
from phasemap.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.training.update import Rates

__all__ = ("Lion",)


class Lion(Optimizer):
    """Its authors' algorithm 2: the sign of beta1 x mean + (1 - beta1) x gradient, decay beside it; then the mean
    follows the gradient by beta2."""

    state = ("mean",)
    decoupled = True

    def __init__(
        self,
        lion_beta1: Annotated[float, "weight of the mean gradient in the step's direction", SHARE_BELOW_ONE] = 0.9,
        lion_beta2: Annotated[float, "decay of the mean gradient of lion", SHARE_BELOW_ONE] = 0.99,
    ):
        self.beta1, self.beta2 = lion_beta1, lion_beta2

    def update(self, flat: Tensor, mean: Tensor, gradient: Tensor, rate: Rates) -> None:
        flat.mul_(1 - rate.decay)
        followed = mean.lerp(gradient, 1 - self.beta1)
        flat.addcmul_(followed.sign() + 0 * followed, rate.step_size, value=-1)  # the sign of NaN is 0
        mean.lerp_(gradient, 1 - self.beta2)
