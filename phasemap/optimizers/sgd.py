"""Plain gradient descent on batches, weight decay as L2 in the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.training.update import Rates

__all__ = ("SGD",)


class SGD:
    """Without momentum."""

    decoupled = False

    def corrections(self, count: Tensor) -> tuple[Tensor, Tensor]:
        """None: both are 1."""
        return count**0, count**0

    def update(self, flat: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, rate: Rates) -> None:
        """One step in place on flat [K, P]; mean and square stay 0."""
        flat.addcmul_(gradient.addcmul(flat, rate.decay), rate.step_size, value=-1)
