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


def whole(low: int, high: int, step: int = 1, log: bool = False, name: str = "n") -> Axis:
    distribution = optuna.distributions.IntDistribution(low, high, step=step, log=log)
    return Axes.from_distributions({name: distribution}).axes[0]


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


@pytest.mark.parametrize(("low", "high"), [(16, 256), (8, 512), (1, 64), (1, 2), (7, 7), (1, 1_000_000)])
def test_whole_numbers_of_a_log_range_are_placed_and_drawn_evenly_in_the_logarithm(low, high):
    axis = whole(low, high, log=True)
    assert axis.spacing == "log"
    placed = np.log(np.array(axis.choices) / low) / max(np.log(high / low), 1e-9)
    assert axis.positions == pytest.approx(placed)
    drawn = axis.spread((np.arange(4096) + 0.5) / 4096)
    assert axis.snap(drawn) == pytest.approx(drawn)
    for place in (0.25, 0.5, 0.75) if high >= 64 else ():
        below = (drawn < place - 1e-9).mean() + (np.abs(drawn - place) < 1e-9).mean() / 2
        assert below == pytest.approx(place, abs=0.04)


def test_the_ends_of_a_log_range_are_drawn_as_often_as_their_place_says():
    """Half the gaps beside each of 1, 2, 3, 4 in the logarithm, those of the ends on both sides."""
    shares = np.log([4, 3, 2, 16 / 9]) / np.log([4, 3, 2, 16 / 9]).sum()
    axis = whole(1, 4, log=True)
    drawn = axis.spread((np.arange(10_000) + 0.5) / 10_000)
    assert [(np.abs(drawn - place) < 1e-9).mean() for place in axis.positions] == pytest.approx(shares, abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "step", "log"),
    [(16, 256, 1, True), (1, 64, 1, True), (1, 4, 1, True), (16, 256, 16, False), (3, 900, 1, False)],
)
def test_every_whole_number_of_a_range_survives_the_way_to_the_unit_cube_and_back(low, high, step, log):
    axis, numbers = whole(low, high, step=step, log=log), list(range(low, high + 1, step))
    assert [axis.value(place) for place in axis.unit(numbers)] == numbers
    assert {axis.value(place) for place in np.random.default_rng(0).random(1000)} <= set(numbers)


@pytest.mark.parametrize(("low", "high", "step", "log"), [(1, 1_000_000, 1, True), (40, 100_000, 20, False)])
def test_of_a_long_range_the_nearest_number_that_was_kept_comes_back(low, high, step, log):
    axis, scale = whole(low, high, step=step, log=log), np.log if log else np.array
    assert {(choice - low) % step for choice in axis.choices} == {0}
    for number in np.unique(np.geomspace(low, high, 200).round()).tolist():
        back = axis.value(axis.unit([number])[0])
        away = np.abs(scale(np.array(axis.choices, float)) - scale(number))
        assert abs(scale(back) - scale(number)) == pytest.approx(away.min())


def test_listed_numbers_are_spaced_by_their_own_rule_and_come_equally_often():
    axis = Axes.from_distributions({"x": optuna.distributions.CategoricalDistribution([1, 2, 4, 8, 9, 64])}).axes[0]
    assert axis.spacing == spacing(axis.choices)
    counts = np.unique(axis.spread((np.arange(600) + 0.5) / 600), return_counts=True)[1]
    assert counts.tolist() == [100] * 6


FREE, WORDS = Axis("rate"), Axis("word", choices=("a", "b", "c"))


@pytest.mark.parametrize("most", [256, 1024, 4096])
@pytest.mark.parametrize(
    "ranges",
    [
        [(16, 720, False), (16, 720, False)],
        [(16, 256, True), (1, 1_000_000, True)],
        [(1, 50, False), (1, 50, False), (1, 3, False)],
        [(1, 5_000, False)],
    ],
)
@pytest.mark.parametrize("others", [(), (FREE,), (WORDS,), (FREE, WORDS)])
def test_a_lattice_of_whole_numbers_has_no_more_points_than_promised(ranges, others, most):
    numbers = [whole(low, high, log=log, name=f"n{i}") for i, (low, high, log) in enumerate(ranges)]
    axes = Axes((*numbers, *others))
    lattice = axes.lattice(most)
    every = np.prod([len(axis.choices) or np.inf for axis in axes.axes])
    assert min(every, most / 4) <= len(lattice) <= 1.3 * most  # a continuous axis has no fewer than 4
    assert axes.snap(lattice) == pytest.approx(lattice)
    assert len(np.unique(lattice, axis=0)) == len(lattice)
    for column in lattice.T[: len(ranges)]:
        assert (column.min(), column.max()) == (0, 1)
    if WORDS in others:
        assert set(lattice[:, -1]) == {0, 0.5, 1}


def test_a_lattice_shares_its_points_between_whole_numbers_and_a_continuous_axis():
    lattice = Axes((whole(16, 256), FREE)).lattice(1024)
    assert [len(np.unique(column)) for column in lattice.T] == [32, 32]
    assert np.diff(np.unique(lattice[:, 0])) == pytest.approx(1 / 31, abs=1 / 240)


@pytest.mark.parametrize(
    ("lengths", "sizes"), [((5,), (5, 204)), ((9, 8), (9, 8, 14)), ((60,), (60, 17)), ((300,), (256, 4))]
)
def test_a_lattice_keeps_the_values_of_lists_that_leave_room_for_the_others(lengths, sizes):
    lists = [Axis(f"list{i}", choices=tuple(range(length))) for i, length in enumerate(lengths)]
    lattice = Axes((*lists, FREE)).lattice(1024)
    assert tuple(len(np.unique(column)) for column in lattice.T) == sizes


def test_a_bad_axis_says_what_to_do():
    with pytest.raises(ValueError, match="lr: low < high must hold, got 2 and 1; swap them"):
        Axis("lr", 2, 1)
    with pytest.raises(ValueError, match="lr: a log axis must start above 0, got 0"):
        Axis("lr", 0, 1, log=True)
    with pytest.raises(ValueError, match="width: a log axis must start above 0, got 0"):
        Axis("width", choices=(0, 1, 2), log=True)


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
