from __future__ import annotations

import sys

import pytest
import torch

from phasemap.probes.picture import picture

# umap-learn compiles for half a minute when it is first called, so that what calls it is long.
HIDDEN = torch.randn(2, 60, 4, generator=torch.Generator().manual_seed(0)) + 20 * (torch.arange(60) % 2)[None, :, None]
LABELS = torch.arange(60) % 2


@pytest.mark.long
def test_two_clouds_stay_apart_and_each_point_keeps_its_class() -> None:
    pytest.importorskip("umap", reason="umap-learn is an optional extra")
    (points, _) = picture(HIDDEN, LABELS, torch.ones(2, 60, dtype=torch.bool))
    places, classes = torch.tensor(points)[:, :2], torch.tensor([c for *_, c in points])
    assert sorted(classes.tolist()) == sorted(LABELS.tolist())
    apart = torch.cdist(places, places) + torch.diag(torch.full((60,), torch.inf))
    assert bool((classes[apart.argmin(1)] == classes).all())


@pytest.mark.long
def test_a_trial_is_laid_out_the_same_alone_and_a_diverged_one_not_at_all() -> None:
    pytest.importorskip("umap", reason="umap-learn is an optional extra")
    chosen = torch.ones(2, 60, dtype=torch.bool)
    sick = HIDDEN.clone()
    sick[1, 3, 0] = torch.nan
    found = picture(sick, LABELS, chosen)
    assert found[0] == picture(HIDDEN[:1], LABELS, chosen[:1])[0]
    assert found[1] == ()


def test_too_few_points_have_no_picture() -> None:
    assert picture(HIDDEN, LABELS, torch.arange(60).expand(2, -1) < 10) == [(), ()]


def test_without_umap_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="pip install umap-learn"):
        picture(HIDDEN, LABELS, torch.ones(2, 60, dtype=torch.bool))
