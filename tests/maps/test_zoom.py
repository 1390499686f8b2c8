"""Seeking a critical value: where trials are sent, when it ends, and what a space must say."""

from __future__ import annotations

import numpy as np
import pytest

from phasemap.fields import Fault
from phasemap.maps.axes import Axes, Axis
from phasemap.maps.zoom import Zoom
from phasemap.plan.space import Space

AXES = Axes((Axis("weight_decay", 0.01, 10.0, log=True), Axis("width", choices=(16, 32, 64))))
NOBODY = np.zeros((0, 2))


def place(width: np.ndarray) -> np.ndarray:
    """Of the critical weight decay, in lengths of its axis, from the unit coordinate of the width."""
    return 0.6 - 0.3 * width


def labeled(points: np.ndarray) -> list[int | None]:
    return (points[:, 0] > place(points[:, 1])).astype(int).tolist()


@pytest.fixture(scope="module")
def first() -> np.ndarray:
    """24 trials that fill the space."""
    draw = np.random.default_rng(0)
    return np.stack([draw.random(24), draw.integers(0, 3, 24) / 2], 1)


def test_too_little_is_known_until_trials_have_gone_both_ways(first):
    zoom = Zoom(AXES, "weight_decay", 0.1)
    assert zoom.ask(8, first[:10], labeled(first[:10]), NOBODY) is None
    assert zoom.ask(8, first, [1] * 24, NOBODY) is None
    assert zoom.ask(8, first, [None] * 20 + [0, 1, 0, 1], NOBODY) is None
    assert not zoom.met(first, [1] * 24)


def test_trials_go_to_the_widest_line_near_its_boundary_and_depend_on_the_history_alone(first):
    zoom = Zoom(AXES, "weight_decay", 0.1, seed=3)
    lines = zoom.lines(first, labeled(first))
    assert [line.fixed for line in lines] == [{"width": 16}, {"width": 32}, {"width": 64}]
    widest = max(range(3), key=lambda k: lines[k].width)
    asked = zoom.ask(8, first, labeled(first), NOBODY)
    assert asked[:, 1] == pytest.approx(widest / 2)
    assert np.abs(asked[:, 0] - place(widest / 2)).max() < lines[widest].width
    assert np.array_equal(asked, Zoom(AXES, "weight_decay", 0.1, seed=3).ask(8, first, labeled(first), NOBODY))
    running = zoom.ask(8, first, labeled(first), np.repeat(asked, 4, 0))
    assert np.abs(running[:, 1] - widest / 2).min() > 0.4  # enough trials run on that line


def test_a_sharp_critical_value_is_met_and_held_on_every_line(first):
    zoom, points = Zoom(AXES, "weight_decay", 0.15), first
    while not zoom.met(points, labeled(points)):
        assert len(points) < 160
        points = np.concatenate([points, zoom.ask(8, points, labeled(points), NOBODY)])
    for line in zoom.lines(points, labeled(points)):
        at = place(AXES.axes[1].unit([line.fixed["width"]])[0])
        assert any(low - 0.01 <= at <= high + 0.01 for low, high in line.spans)
        assert line.width <= 0.15
    near = np.abs(points[24:, 0] - place(points[24:, 1])) < 0.2
    assert near.mean() > 0.7


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"sampler": "sobol"}, "critical: needs the boundary sampler, got 'sobol'; write sampler=\"boundary\""),
        (
            {"critical": "weight_decy"},
            "critical: must be an axis of numbers (weight_decay, width), got 'weight_decy'; use one of these "
            "(did you mean weight_decay?)",
        ),
        ({"target": 0}, "target: must lie between 0 and 1 where critical is given, got 0; use 0.1, say"),
    ],
)
def test_a_space_that_cannot_be_zoomed_is_refused(settings, fault):
    given = {"sampler": "boundary", "critical": "weight_decay", "target": 0.1, **settings}
    with pytest.raises(Fault) as caught:
        Space(weight_decay=[0.1, 0.3, 1.0], width=[16, 32], activation=["relu", "gelu"], model="mlp", **given).check()
    assert [one.replace("\n", " ") for one in caught.value.faults] == [fault]
