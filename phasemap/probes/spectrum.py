"""The class vectors in the characters of their cyclic group: which frequencies carry the circle.

Progress measure of Nanda et al. 2023, https://arxiv.org/abs/2301.05217, taken on hidden vectors
rather than weights. A frequency f and its opposite n - f are one; f = 0, the mean vector, is left
out. Circles ``[K, G, n, D]`` come from ``circles.py``; power is added over the G circles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phasemap.numerics.matmul import batched
from phasemap.probes.batch import has_extent, nan_unless, only_finite
from phasemap.probes.stride import best_stride
from phasemap.probes.view import Numbers, View

CURVES = {
    "spectrum_frequencies": "frequencies of the outer circle, of 1 to n/2, that hold 90 % of the power of its class "
    "vectors",
    "dominant_frequency": "the frequency with the most power",
    "dominant_share": "its share of the power",
    "predicted_stride": "the stride with the smallest mean distance, as the power of all frequencies predicts it",
    "inner_spectrum_frequencies": "as spectrum_frequencies, over the inner circles",
    "inner_dominant_frequency": "as dominant_frequency, over the inner circles",
    "inner_dominant_share": "its share of the power",
    "inner_predicted_stride": "as predicted_stride, over the inner circles",
}
OUTCOMES = {
    "stride_agrees": "1 if predicted_stride is winning_stride, else 0",
    "inner_stride_agrees": "1 if inner_predicted_stride is inner_winning_stride, else 0",
}

SHARE = 0.9


@dataclass(frozen=True)
class Spectrum:
    """All [K] float64; NaN where a class vector is not finite or the circle has no extent."""

    frequencies: Tensor  # how many hold 90 % of the power
    dominant: Tensor  # the frequency with the most power
    dominant_share: Tensor  # its share of the power
    predicted_stride: Tensor  # the stride all frequencies together predict


def spectrum(circles: Tensor) -> Spectrum:
    """[K, G, n, D] -> the frequencies that matter and the strides they predict.

    Where a measured winning stride differs from ``predicted_stride``, the places do not walk alike:
    the prediction is exact for the mean over places, the stride counts each place's own neighbors.
    """
    shares, places = power(circles), circles.shape[2]
    sound = shares.isfinite().all(1)
    share, dominant = shares.nan_to_num(0).max(1)
    held = shares.sort(1, descending=True).values.cumsum(1)
    return Spectrum(
        frequencies=nan_unless(sound, (held < SHARE).sum(1) + 1),
        dominant=nan_unless(sound, dominant + 1),
        dominant_share=nan_unless(sound, share),
        predicted_stride=nan_unless(sound, nearest_stride(shares, places)),
    )


def power(circles: Tensor) -> Tensor:
    """Share of the power at each frequency 1..n/2: [K, G, n, D] -> [K, n // 2]."""
    vectors, finite = only_finite(circles.double())
    angle = angles(circles.shape[2], circles.device)
    powers = sum(batched(wave, vectors).square().sum((1, 3)) for wave in (angle.cos(), angle.sin()))
    powers = powers * torch.where(angle[:, 1] < torch.pi, 2.0, 1.0)  # f and n - f, but n / 2 only once
    whole = vectors.sub(vectors.mean(2, keepdim=True)).square().sum((1, 2, 3))
    powers = powers.masked_fill(~(finite & has_extent(whole, vectors.square().sum((1, 2, 3))))[:, None], torch.nan)
    return powers / powers.sum(1, keepdim=True)


def nearest_stride(shares: Tensor, places: int) -> Tensor:
    """Stride s in 1..n/2 with the smallest mean squared distance between places s apart.

    That distance is proportional to the sum of share_f (1 - cos(2 pi f s / n)). A frequency with a
    common divisor g with n puts the places n/g apart on one point, so it predicts n/g.

    Args:
        shares: [K, n // 2] power at each frequency.
        places: n.

    Returns:
        [K], the smallest if tied.
    """
    half = torch.arange(1, places // 2 + 1, device=shares.device)
    turn = half[:, None] * half % places
    turn = torch.minimum(turn, places - turn)  # equal angles, bit for bit, so that ties are ties
    distance = batched(shares[:, None], 1 - (2 * torch.pi / places * turn.double()).cos())[:, 0]
    return distance.argmin(1) + 1


def angles(places: int, device: torch.device) -> Tensor:
    """2 pi f k / n for the frequencies f = 1..n/2 and the places k: [n // 2, n]."""
    frequency = torch.arange(1, places // 2 + 1, device=device)[:, None]
    return 2 * torch.pi / places * (frequency * torch.arange(places, device=device) % places).double()


def probe(view: View) -> Numbers:
    """The spectrum for the curves; whether the measured stride agrees with it at a trial's end."""
    numbers = {}
    for prefix, circle in view.circles:
        waves = spectrum(circle)
        numbers[f"{prefix}spectrum_frequencies"] = waves.frequencies
        numbers[f"{prefix}dominant_frequency"] = waves.dominant
        numbers[f"{prefix}dominant_share"] = waves.dominant_share
        numbers[f"{prefix}predicted_stride"] = waves.predicted_stride
        if view.last:
            agrees = best_stride(circle, bool(prefix))[0] == waves.predicted_stride
            numbers[f"{prefix}stride_agrees"] = nan_unless(waves.dominant.isfinite(), agrees)
    return numbers
