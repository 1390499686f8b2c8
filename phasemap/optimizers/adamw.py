"""AdamW: weight decay beside the gradient (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from phasemap.fields import POSITIVE, SHARE_BELOW_ONE
from phasemap.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.training.update import Rates

__all__ = ("AdamW",)

Beta1 = Annotated[float, "decay of the mean gradient", SHARE_BELOW_ONE]
Beta2 = Annotated[float, "decay of the mean squared gradient", SHARE_BELOW_ONE]
Epsilon = Annotated[float, "added to the root of the mean squared gradient", POSITIVE]


class AdamW(Optimizer):
    """In torch.optim.AdamW's order of operations, decay on all weights."""

    state: tuple[str, ...] = ("mean", "square")
    decoupled = True

    def __init__(self, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999, epsilon: Epsilon = 1e-8):
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def corrections(self, count: Tensor) -> tuple[Tensor, Tensor]:
        """Of the mean, and the root of that of the squares."""
        return 1 - self.beta1**count, (1 - self.beta2**count).sqrt()

    def update(self, flat: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, rate: Rates) -> None:
        flat.mul_(1 - rate.decay)
        self.move(flat, mean, square, gradient, rate)

    def move(self, flat: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, rate: Rates) -> None:
        """Adam's step without any decay."""
        mean.lerp_(gradient, 1 - self.beta1)
        square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        scale = square.sqrt().div_(rate.root).add_(self.epsilon)
        flat.sub_((mean / scale).mul_(rate.step_size))
