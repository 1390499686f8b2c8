"""Coordinates against values written out by hand."""

from collections.abc import Callable

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.axis import axis_of
from phasemap.maps.axes import Axes, Axis, spacing

SPACE = {
    "weight_decay": optuna.distributions.FloatDistribution(1e-3, 10, log=True),
    "data_fraction": optuna.distributions.FloatDistribution(0.2, 0.8),
    "width": optuna.distributions.CategoricalDistribution([256, 16, 64, 32, 128]),
    "depth": optuna.distributions.IntDistribution(1, 4),
    "activation": optuna.distributions.CategoricalDistribution(["relu", "gelu", "square"]),
}
ROW = {"weight_decay": 0.1, "data_fraction": 0.35, "width": 64, "depth": 3, "activation": "gelu"}


def test_values_survive_the_way_to_the_unit_cube_and_back():
    axes = Axes.from_distributions(SPACE)
    point = axes.unit([ROW])
    assert point == pytest.approx(np.array([[0.5, 0.25, 0.5, 2 / 3, 0.5]]))
    back = axes.values(point)[0]
    assert (back["width"], back["depth"], back["activation"]) == (64, 3, "gelu")
    assert {k: type(v) for k, v in back.items()} == {k: type(v) for k, v in ROW.items()}
    assert back["weight_decay"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("values", "positions"),
    [
        ([16, 32, 64], [0, 0.5, 1]),
        ([0.2, 0.3, 0.5, 0.6], [0, 0.25, 0.75, 1]),
        ([0, 0.001, 0.1, 1], [0, 1 / 3, 2 / 3, 1]),
        (["b", "a", "c"], [0, 0.5, 1]),
        ([5], [0]),
    ],
)
def test_choices_are_spaced_as_numbers_are(values, positions):
    axes = Axes.from_distributions({"x": optuna.distributions.CategoricalDistribution(values)})
    assert axes.axes[0].positions == pytest.approx(positions)


def test_snapping_and_spreading_give_only_what_can_be_tried():
    axes = Axes.from_distributions(SPACE)
    uniform = np.random.default_rng(0).random((4000, 5))
    for points in (axes.snap(uniform), axes.spread(uniform)):
        rows = axes.values(points)
        assert {row["width"] for row in rows} == {16, 32, 64, 128, 256}
        assert {row["depth"] for row in rows} == {1, 2, 3, 4}
        assert axes.snap(points) == pytest.approx(points)
    counts = np.unique(axes.spread(uniform)[:, 2], return_counts=True)[1]
    assert counts.min() > 700


def test_an_integer_axis_of_a_million_values_stays_small():
    axis = Axes.from_distributions({"n": optuna.distributions.IntDistribution(1, 1_000_000, log=True)}).axes[0]
    assert len(axis.choices) <= 1000
    assert axis.choices[0] == 1
    assert axis.choices[-1] == 1_000_000


def test_a_bad_axis_says_what_to_do():
    with pytest.raises(ValueError, match="lr: low < high must hold, got 2 and 1; swap them"):
        Axis("lr", 2, 1)
    with pytest.raises(ValueError, match="lr: a log axis must start above 0, got 0"):
        Axis("lr", 0, 1, log=True)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([0.1, 0.3, 1.0, 3.0], "log"),
        ([16, 32, 48, 64, 96], "log"),
        ([1, 2, 3, 4], "linear"),
        ([0.3, 0.5, 0.7], "linear"),
        ([1.0, 1.5, 2.2], "linear"),  # as even in the logarithm, but over less than a factor 4
        ([0, 0.01, 0.1, 1], "rank"),
        ([1.0, 1.5, 2.0, 5.0], "rank"),
        ([1, 100], "linear"),
    ],
)
def test_one_rule_says_how_numbers_are_spaced_for_sampler_and_figures(numbers, kind):
    assert spacing(numbers) == kind
    on_paper = axis_of(pd.DataFrame({"width": numbers * 3}), "width")
    assert on_paper.scale == {"rank": "ordinal"}.get(kind, kind)
    places: dict[str, Callable[[list[float]], np.ndarray]] = {
        "log": np.log,
        "linear": np.array,
        "rank": lambda numbers: np.arange(len(numbers)),
    }
    placed = places[kind](numbers)
    expected = (placed - placed[0]) / (placed[-1] - placed[0])
    assert Axis("width", choices=tuple(numbers)).positions == pytest.approx(expected)
