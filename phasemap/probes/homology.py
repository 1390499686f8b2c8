"""Persistent homology of the hidden vectors: connected components and loops.

Needs ripser (Bauer 2021, https://doi.org/10.1007/s41468-021-00071-5), which is not installed with
phasemap: ``pip install ripser``. It works on the CPU, one trial after the other, and takes up to
seconds for each: for the end of a run, not for a curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasemap.probes.batch import finite_trials, sample
from phasemap.probes.view import Numbers, View

NEEDS = ("ripser", "ripser")
OUTCOMES = {
    "betti0": "components: Vietoris-Rips bars longer than 0.1 over 500 hidden test vectors, Euclidean, at the end",
    "betti1": "independent loops: the same in dimension 1",
}

POINTS = 500
LONG = 0.1


@dataclass(frozen=True)
class Homology:
    """Bars longer than 0.1, the endless one included; [K] float64, NaN where a value is not finite."""

    beta0: Tensor  # connected components
    beta1: Tensor  # independent loops


def homology(hidden: Tensor, chosen: Tensor) -> Homology:
    """Vietoris-Rips persistence of at most 500 chosen hidden vectors, Euclidean distance.

    Args:
        hidden: [K, N, D].
        chosen: [K, N] bool.

    Raises:
        ImportError: ripser is not installed.
    """
    persistence = _ripser()
    counts = torch.full((len(hidden), 2), torch.nan, dtype=torch.float64)
    index, real = sample(chosen, POINTS)
    for k in torch.nonzero(finite_trials(hidden) & chosen.any(1)).flatten().tolist():
        points = hidden[k, index[k, real[k]]].double()
        apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()
        bars = persistence(apart, maxdim=1, distance_matrix=True)["dgms"]
        counts[k] = torch.tensor([_long_bars(diagram) for diagram in bars])
    return Homology(*counts.to(hidden.device).unbind(1))


def _long_bars(diagram: np.ndarray) -> int:
    """Bars [(birth, death), ...] that last longer than 0.1."""
    return int((diagram[:, 1] - diagram[:, 0] > LONG).sum())


def _ripser() -> Callable[..., dict[str, Any]]:
    try:
        from ripser import ripser
    except ImportError as reason:
        raise ImportError("persistent homology needs ripser, which is not installed; pip install ripser") from reason
    return ripser


def probe(view: View) -> Numbers:
    if not view.last:
        return {}
    bars = homology(view.hidden, view.test)
    return {"betti0": bars.beta0, "betti1": bars.beta1}
