"""The hidden vectors laid out on a plane, for the eye alone: distances in it mean little.

Needs umap-learn (McInnes et al. 2018, https://arxiv.org/abs/1802.03426), which is not installed with
phasemap: ``pip install umap-learn``. On the CPU, one trial after the other, some seconds each.
"""

from __future__ import annotations

from torch import Tensor

from phasemap.probes.batch import finite_trials, sample
from phasemap.probes.view import PICTURE, Picture, View

NEEDS = ("umap", "umap-learn")

POINTS = 1_000
NEIGHBORS = 15  # umap-learn's default


def picture(hidden: Tensor, labels: Tensor, chosen: Tensor) -> list[Picture]:
    """UMAP of at most 1,000 chosen hidden vectors of each trial, seeded, so that it is drawn the same again.

    Args:
        hidden: [K, N, D].
        labels: [N] classes.
        chosen: [K, N] bool.

    Returns:
        K pictures; empty where a value is not finite or too few are chosen to have neighbors.

    Raises:
        ImportError: umap-learn is not installed.
    """
    sound = (finite_trials(hidden) & (chosen.sum(1) > NEIGHBORS)).tolist()
    index, real = sample(chosen, POINTS)
    return [_laid_out(hidden[k], labels, index[k, real[k]]) if sound[k] else () for k in range(len(hidden))]


def _laid_out(hidden: Tensor, labels: Tensor, chosen: Tensor) -> Picture:
    places = _umap()(n_neighbors=NEIGHBORS, random_state=0, n_jobs=1).fit_transform(
        hidden[chosen].float().cpu().numpy()
    )
    return tuple((float(x), float(y), c) for (x, y), c in zip(places, labels[chosen].tolist(), strict=True))


def _umap() -> type:
    try:
        from umap import UMAP
    except ImportError as reason:
        raise ImportError("the picture needs umap-learn, which is not installed; pip install umap-learn") from reason
    return UMAP


def probe(view: View) -> dict[str, list[Picture]]:
    """The one probe whose value is no number; at a trial's end."""
    return {PICTURE: picture(view.hidden, view.labels, view.test)} if view.last else {}
