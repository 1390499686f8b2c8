"""Muon: hidden matrices move along an orthogonal matrix (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/;
for grokking Tveit et al. 2025, arXiv 2504.16041)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from phasemap.fields import SHARE_BELOW_ONE, Fault
from phasemap.optimizers.adamw import AdamW, Beta1, Beta2, Epsilon

if TYPE_CHECKING:
    from torch import Tensor

    from phasemap.networks.network import Layout
    from phasemap.training.update import Rates

__all__ = ("Muon",)


class Muon(AdamW):
    """As torch.optim.Muon with Nesterov's momentum, but in fp32, for the weights of the body with two axes: one matrix
    each, queries, keys and values together. AdamW moves all others: embeddings, readout, biases, norms.

    Both take the trial's learning rate and weight decay. ``mean`` is a matrix's momentum, its ``square`` stays 0.
    """

    layout: Layout
    factors: dict[str, float]  # matrix -> what its learning rate is multiplied by
    others: list[slice]  # where AdamW's weights lie
    orthogonalized: Callable[[Sequence[Tensor]], list[Tensor]]

    def __init__(
        self,
        muon_momentum: Annotated[float, "decay of the mean gradient of a matrix", SHARE_BELOW_ONE] = 0.95,
        muon_rate: Annotated[
            Literal["original", "match_rms_adamw"],
            "a matrix's learning rate is multiplied by sqrt(max(1, out / in)), or by 0.2 sqrt(max(out, in))",
        ] = "original",
        beta1: Beta1 = 0.9,
        beta2: Beta2 = 0.999,
        epsilon: Epsilon = 1e-8,
    ):
        super().__init__(beta1, beta2, epsilon)
        self.momentum, self.kind = muon_momentum, muon_rate

    def on(self, layout: Layout) -> Self:
        """Raises Fault if no weight of the body has two axes."""
        from phasemap.numerics.newton_schulz import orthogonalized

        bound = copy.copy(self)
        bound.orthogonalized, bound.layout = orthogonalized, layout
        matrices = [piece for piece in layout.pieces if piece.group == "body" and len(piece.shape) == 2]
        if not matrices:
            raise Fault(["optimizer: muon needs a hidden matrix, got a network without one; use adamw"])
        bound.factors = {piece.name: self._factor(*layout.sides(piece)) for piece in matrices}
        bound.others = layout.runs(piece for piece in layout.pieces if piece.name not in bound.factors)
        return bound

    def _factor(self, inputs: int, outputs: int) -> float:
        if self.kind == "original":
            return math.sqrt(max(1, outputs / inputs))
        return 0.2 * math.sqrt(max(outputs, inputs))

    def numbers(self, count: Tensor) -> dict[str, Tensor]:
        """AdamW's, which a matrix's learning rate is without."""
        return {"correction": self.corrections(count)[0]}

    def update(self, flat: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, rate: Rates) -> None:
        for places in self.others:
            own = [part[:, places] for part in (flat, mean, square, gradient)]
            super().update(own[0], own[1], own[2], own[3], rate.at(places))
        weights, means, slopes = (self.layout.split(part) for part in (flat, mean, gradient))
        for name in self.factors:
            means[name].lerp_(slopes[name], 1 - self.momentum)
        ahead = [slopes[name].lerp(means[name], self.momentum) for name in self.factors]
        for (name, factor), step in zip(self.factors.items(), self.orthogonalized(ahead), strict=True):
            here = rate.at(self.layout.places[name])
            learning_rate = here.step_size[:, :1, None] * rate.more["correction"][..., None]
            weights[name].mul_(1 - here.decay[:, :1, None]).sub_(step * (learning_rate * factor))
