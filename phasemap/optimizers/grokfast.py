"""Grokfast: the slow part of the gradient is amplified before AdamW sees it (Lee et al. 2024, arXiv 2405.20233)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from phasemap.fields import NOT_NEGATIVE, SHARE_BELOW_ONE
from phasemap.optimizers.adamw import AdamW, Beta1, Beta2, Epsilon

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.training.update import Rates

__all__ = ("Grokfast",)


class Grokfast(AdamW):
    """Its authors' moving-average filter, Grokfast-EMA: slow = alpha x slow + (1 - alpha) x gradient, which begins as
    the first gradient; AdamW takes gradient + lambda x slow."""

    state = ("slow", "mean", "square")

    def __init__(
        self,
        grokfast_alpha: Annotated[float, "decay of the slow gradient", SHARE_BELOW_ONE] = 0.98,
        grokfast_lambda: Annotated[float, "factor of the slow gradient before it is added", NOT_NEGATIVE] = 2.0,
        beta1: Beta1 = 0.9,
        beta2: Beta2 = 0.999,
        epsilon: Epsilon = 1e-8,
    ):
        super().__init__(beta1, beta2, epsilon)
        self.alpha, self.strength = grokfast_alpha, grokfast_lambda

    def numbers(self, count: Tensor) -> dict[str, Tensor]:
        """The new gradient's share of the slow one: all of it at the first step."""
        return {"share": (count == 1) * self.alpha + (1 - self.alpha)}

    def update(  # type: ignore[override]
        self, flat: Tensor, slow: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, rate: Rates
    ) -> None:
        slow.lerp_(gradient, rate.more["share"])
        super().update(flat, mean, square, gradient.add(slow, alpha=self.strength), rate)
