"""Which probes run on a stack, by name, and what each adds to the record.

A probe looks at the hidden vectors of all examples, or at the weights, and changes nothing. Each is
called at every probe step for its curves, and once more at a trial's end, where it may add what is
too dear to follow. The arithmetic is in ``probes/``, one file each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasemap.networks.transformer import Transformer
from phasemap.plan.trial import Shape
from phasemap.probes import (
    activation,
    attention,
    circles,
    coset_purity,
    dimension,
    homology,
    information,
    picture,
    stride,
)
from phasemap.probes.batch import blocks, mean_chosen, nan_unless, total
from phasemap.probes.spectrum import spectrum

Found = dict[str, Tensor]  # name -> [K]
INNER = "inner_"  # before the names of what is read inside the cosets
PICTURE = "picture"  # the probe whose word is no number


@dataclass(frozen=True)
class View:
    """What probes may look at: K trials, N examples, T tokens each."""

    shape: Shape  # what the trials share: fields, task, network
    flat: Tensor  # [K, P]
    inputs: Tensor  # [N, ...]
    labels: Tensor  # [N]
    hidden: Tensor  # [K, N, D]
    predictions: Tensor  # [K, N] classes
    test: Tensor  # [K, N] bool
    last: bool  # the trials end here

    @cached_property
    def vectors(self) -> Tensor:
        """Class vectors [K, C, D], over all examples: the stride needs every class, as well placed as can be."""
        everyone = torch.ones_like(self.predictions, dtype=torch.bool)
        return circles.class_vectors(self.hidden, self.labels, everyone, self.shape.examples.classes)


def probe(view: View) -> Found:
    """All probes the trials asked for, and the two nobody may leave out."""
    found = {"weight_norm": total(view.flat.square()).sqrt()}
    if view.last:
        sides = view.predictions, view.labels, view.test
        found["learned_bits"] = information.learned_bits(*sides, view.shape.examples.classes)
    for name in asked(view):
        found |= PROBES[name](view) if name != PICTURE else {}
    return found


def asked(view: View) -> list[str]:
    return [name for name in view.shape.probes.split("+") if name]


def pictures(view: View) -> list[picture.Picture]:
    """Of K trials, where they asked for one."""
    if PICTURE not in asked(view):
        return [()] * len(view.flat)
    return picture.picture(view.hidden, view.labels, view.test)


def _dimension(view: View) -> Found:
    variances = dimension.pca_spectrum(view.hidden, view.test)
    return {
        "intrinsic_dimension": dimension.pca_dimension(variances, 0.95),
        "pca99_dimension": dimension.pca_dimension(variances, 0.99),
        "participation_ratio": dimension.participation_ratio(variances),
    } | (_twonn(view) if view.last else {})


def _twonn(view: View) -> Found:
    return {"twonn_dimension": dimension.twonn_dimension(view.hidden, view.test)}


def _activation(view: View) -> Found:
    return {
        "activation_sparsity": activation.sparsity(view.hidden, view.test),
        "activation_norm": activation.norm(view.hidden, view.test),
        "activation_deviation": activation.deviation(view.hidden, view.test),
        "activation_largest": activation.largest(view.hidden, view.test),
    }


def _stride(view: View) -> Found:
    found = {}
    for prefix, circle in _circles(view):
        inner = prefix == INNER
        if view.last:
            winner = stride.winning_stride(circle, inner)
            best, score = winner.stride, winner.score
            found[f"{prefix}winning_stride_p_value"] = winner.p_value
        else:
            best, score = stride.best_stride(circle, inner)
        found |= {f"{prefix}winning_stride": best, f"{prefix}winning_stride_score": score}
    return found


def _spectrum(view: View) -> Found:
    found = {}
    for prefix, circle in _circles(view):
        waves = spectrum(circle)
        found[f"{prefix}spectrum_frequencies"] = waves.frequencies
        found[f"{prefix}dominant_frequency"] = waves.dominant
        found[f"{prefix}dominant_share"] = waves.dominant_share
        found[f"{prefix}predicted_stride"] = waves.predicted_stride
        if view.last:
            agrees = stride.best_stride(circle, prefix == INNER)[0] == waves.predicted_stride
            found[f"{prefix}stride_agrees"] = nan_unless(waves.dominant.isfinite(), agrees)
    return found


def _purity(view: View) -> Found:
    group = view.shape.examples.group
    found = coset_purity.coset_purity(view.vectors, group) if group else None
    return {} if found is None else {"coset_purity": found}


def _attention(view: View) -> Found:
    """Block by block. The outcome is the last block's, where only the readout token asks."""
    network = view.shape.network
    if not isinstance(network, Transformer):
        return {}
    weights, found = network.layout.split(view.flat), []
    for chunk in blocks(len(view.inputs)):
        asked = network.attending(weights, view.inputs[None, chunk])[1]
        spread = [attention.attention_weights(queries, keys, network.heads) for queries, keys in asked]
        found.append(torch.stack([attention.example_entropy(weights) for weights in spread]))
    entropies = [mean_chosen(block, view.test) for block in torch.cat(found, 2)]
    named = {f"attention_entropy/block{block}": value for block, value in enumerate(entropies)}
    return named | {"attention_entropy": entropies[-1]}


def _layers(view: View) -> Found:
    found: dict[str, Tensor] = {}
    for name, weights in view.shape.network.layout.split(view.flat).items():
        layer = f"weight_norm/{name.partition('.')[0]}"
        found[layer] = found.get(layer, 0) + total(weights.flatten(1).square())
    return {layer: squares.sqrt() for layer, squares in found.items()}


def _homology(view: View) -> Found:
    if not view.last:
        return {}
    bars = homology.homology(view.hidden, view.test)
    return {"betti0": bars.beta0, "betti1": bars.beta1}


def _circles(view: View) -> list[tuple[str, Tensor]]:
    """The outer and the inner reading of the task's group, where there is one."""
    group = view.shape.examples.group
    if group is None:
        return []
    readings = ("", circles.outer_circle(view.vectors, group)), (INNER, circles.inner_circles(view.vectors, group))
    return [(prefix, circle) for prefix, circle in readings if circle is not None]


PROBES: dict[str, Callable[[View], Found]] = {
    "dimension": _dimension,
    "twonn": _twonn,
    "activation": _activation,
    "stride": _stride,
    "spectrum": _spectrum,
    "purity": _purity,
    "attention": _attention,
    "layers": _layers,
    "homology": _homology,
}
