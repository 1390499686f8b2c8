"""Adam: weight decay as L2 in the gradient (Kingma & Ba 2015, arXiv 1412.6980)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasemap.optimizers.adamw import AdamW, Beta1, Beta2

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.training.update import Rates

__all__ = ("Adam",)


class Adam(AdamW):
    """In torch.optim.Adam's order of operations."""

    decoupled = False

    def __init__(self, beta1: Beta1 = 0.9, beta2: Beta2 = 0.999):
        super().__init__(beta1, beta2)

    def update(self, flat: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, rate: Rates) -> None:
        self.move(flat, mean, square, gradient.addcmul(flat, rate.decay), rate)
