"""Adam: weight decay as L2 in the gradient (Kingma & Ba 2015, arXiv 1412.6980)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasemap.optimizers.adamw import AdamW

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.training.update import Rates

__all__ = ("Adam",)


class Adam(AdamW):
    """In torch.optim.Adam's order of operations."""

    decoupled = False

    def update(self, flat: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, rate: Rates) -> None:
        self.move(flat, mean, square, gradient.addcmul(flat, rate.decay), rate)
