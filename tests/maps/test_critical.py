"""Seeking a critical value: when it ends, and what a space must say."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from phasemap.fields import Fault
from phasemap.maps.axes import Axes, Axis
from phasemap.maps.critical import Critical
from phasemap.maps.planner import Planner
from phasemap.plan.space import Space

AXES = Axes((Axis("weight_decay", 0.01, 10.0, log=True), Axis("width", choices=(16, 32, 64))))


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


def test_nothing_is_met_until_trials_have_gone_both_ways(first):
    critical = Critical(AXES, "weight_decay", 0.99)
    assert critical.lines(first[:10], labeled(first[:10])) == []
    assert not critical.met(first, [1] * 24)
    assert not critical.met(first, [None] * 20 + [0, 1, 0, 1])
    assert critical.met(first, labeled(first))


def test_a_sharp_critical_value_is_met_and_held_on_every_line(first):
    critical, planner, points = Critical(AXES, "weight_decay", 0.15), Planner(AXES), first
    while not critical.met(points, labeled(points)):
        assert len(points) < 160
        points = np.concatenate([points, planner.ask(8, points, labeled(points))])
    for line in critical.lines(points, labeled(points)):
        at = place(AXES.axes[1].unit([line.fixed["width"]])[0])
        assert any(low - 0.01 <= at <= high + 0.01 for low, high in line.spans)
        assert line.width <= 0.15
    assert [line.fixed for line in critical.lines(points, labeled(points))] == [{"width": w} for w in (16, 32, 64)]


@pytest.mark.parametrize(
    ("other", "widths"),
    [
        (FloatDistribution(16, 256, log=True), [21.1, 64, 194]),
        (IntDistribution(16, 256, log=True), [21, 64, 194]),
        (IntDistribution(16, 256), [40, 136, 232]),
        (IntDistribution(16, 240, step=16), [32, 128, 224]),
        (IntDistribution(1, 3), [1, 2, 3]),
        (CategoricalDistribution([16, 20, 24, 28, 32, 40]), [16, 20, 24, 28, 32, 40]),
        (CategoricalDistribution(["relu", "gelu", "square", "tanh"]), ["relu", "gelu", "square", "tanh"]),
    ],
)
def test_a_range_is_sought_at_a_few_places_and_a_list_at_each_value(other, widths):
    axes = Axes.from_distributions({"weight_decay": FloatDistribution(0.01, 10, log=True), "width": other})
    points = axes.spread(np.random.default_rng(0).random((32, 2)))
    lines = Critical(axes, "weight_decay", 0.1).lines(points, (points[:, 0] > 0.5).astype(int).tolist())
    sought = [line.fixed["width"] for line in lines]
    assert sought == (widths if isinstance(widths[0], str) else pytest.approx(widths, abs=0.1))


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
def test_a_space_without_a_critical_value_to_seek_is_refused(settings, fault):
    given = {"sampler": "boundary", "critical": "weight_decay", "target": 0.1, **settings}
    with pytest.raises(Fault) as caught:
        Space(weight_decay=[0.1, 0.3, 1.0], width=[16, 32], activation=["relu", "gelu"], model="mlp", **given).check()
    assert [one.replace("\n", " ") for one in caught.value.faults] == [fault]
