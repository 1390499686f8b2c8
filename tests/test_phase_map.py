"""The map against truths whose boundary is known, and its coordinates against values written out by hand."""

import math

import numpy as np
import optuna
import pytest
from scipy.special import expit

from phasemap.phase_map import Axes, Axis, PhaseMap, unit_axes

SPACE = {
    "weight_decay": optuna.distributions.FloatDistribution(1e-3, 10, log=True),
    "data_fraction": optuna.distributions.FloatDistribution(0.2, 0.8),
    "width": optuna.distributions.CategoricalDistribution([256, 16, 64, 32, 128]),
    "depth": optuna.distributions.IntDistribution(1, 4),
    "activation": optuna.distributions.CategoricalDistribution(["relu", "gelu", "square"]),
}
ROW = {"weight_decay": 0.1, "data_fraction": 0.35, "width": 64, "depth": 3, "activation": "gelu"}


def step(points, rng, width=0.03):
    """Phase 1 right of a slanted line, with seeds that disagree over ``width``."""
    return (rng.random(len(points)) < expit((points[:, 0] - 0.35 - 0.3 * points[:, -1]) / width)).astype(int)


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
    assert Axes.from_values({"x": values}).axes[0].positions == pytest.approx(positions)


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


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_the_map_finds_a_slanted_step(dimensions):
    rng = np.random.default_rng(dimensions)
    points = rng.random((100 * dimensions, dimensions))
    found = PhaseMap.fit(points, step(points, rng, 0.01))
    lattice = unit_axes(dimensions).lattice(1000)
    truth = lattice[:, 0] > 0.35 + 0.3 * lattice[:, -1]
    assert (np.array(found.phase(lattice)) != truth).mean() < 0.04


def test_phases_are_unordered_names_and_probabilities_sum_to_one():
    rng = np.random.default_rng(0)
    points = rng.random((200, 2))
    labels = np.array(["memorization", "comprehension", "grokking"])[(points[:, 0] * 3).astype(int)]
    found = PhaseMap.fit(points, labels, phases=("comprehension", "grokking", "memorization", "confusion"))
    p = found.probability(unit_axes(2).lattice(400))
    assert p.shape == (400, 4)
    assert p.sum(1) == pytest.approx(np.ones(400))
    assert p[:, 3].max() < 1e-3
    middles = np.array([[1 / 6, 0.5], [0.5, 0.5], [5 / 6, 0.5]])
    assert found.phase(middles) == ["memorization", "comprehension", "grokking"]
    edge = np.array([[1 / 3, 0.5]])
    assert found.entropy(edge)[0] > 0.5 > found.entropy(middles).max()


def test_an_island_stays_an_island():
    points = unit_axes(2).lattice(576)
    inside = np.hypot(points[:, 0] - 0.3, points[:, 1] - 0.7) < 0.12
    found = PhaseMap.fit(points, inside.astype(int))
    lattice = unit_axes(2).lattice(4096)
    truth = np.hypot(lattice[:, 0] - 0.3, lattice[:, 1] - 0.7) < 0.12
    assert (np.array(found.phase(lattice)) != truth).mean() < 0.01


def test_failed_trials_are_left_out():
    rng = np.random.default_rng(0)
    points = rng.random((60, 2))
    labels = [int(v) for v in step(points, rng)]
    broken = np.concatenate([points, rng.random((3, 2))])
    clean, dirty = PhaseMap.fit(points, labels), PhaseMap.fit(broken, [*labels, None, math.nan, -1])
    assert dirty.probability(points) == pytest.approx(clean.probability(points))


def test_one_phase_everywhere_is_certain():
    found = PhaseMap.fit(np.random.default_rng(0).random((20, 2)), ["grokking"] * 20)
    assert found.uncertainty() == 0
    assert found.probability(np.array([[0.5, 0.5]])).tolist() == [[1.0]]


def test_faults_name_the_cure():
    points = np.array([[0.1], [0.2], [0.6], [0.9]])
    with pytest.raises(ValueError, match="needs at least one labelled trial, got none"):
        PhaseMap.fit(points, [None] * 4)
    with pytest.raises(ValueError, match=r"labels must be among the phases .* add them"):
        PhaseMap.fit(points, [0, 0, 1, 1], phases=(0,))
    found = PhaseMap.fit(points, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="wd: not an axis of this map; use one of x0"):
        found.boundary_position("wd", [1])
    with pytest.raises(ValueError, match=r"phases: must be among \(0, 1\), got \[7\]"):
        found.boundary_position("x0", [7])
    with pytest.raises(ValueError, match="fixed: every other axis needs a value, got none for x1"):
        PhaseMap.fit(np.random.default_rng(0).random((9, 2)), [0, 1] * 4 + [0]).boundary_position("x0", [1])


def test_a_boundary_is_reported_in_field_values():
    rng = np.random.default_rng(1)
    axes = Axes((Axis("weight_decay", 1e-3, 10, log=True), Axis("width", choices=(16, 32, 64, 128))))
    points = axes.spread(rng.random((300, 2)))
    labels = (rng.random(300) < expit((points[:, 0] - 0.5) / 0.03)).astype(int)
    position, low, high, n = PhaseMap.fit(points, labels, axes).boundary_position("weight_decay", [1], {"width": 128})
    assert low < position < high
    assert position == pytest.approx(0.1, rel=0.4)
    assert high / low < 3
    assert 10 < n <= 300


def test_both_edges_of_a_band_are_found():
    points = np.random.default_rng(0).random((200, 1))
    found = PhaseMap.fit(points, ((points[:, 0] > 0.3) & (points[:, 0] < 0.7)).astype(int))
    first, second = found.boundaries("x0", [1])
    assert first.position == pytest.approx(0.3, abs=0.02)
    assert second.position == pytest.approx(0.7, abs=0.02)
    assert found.boundary_position("x0", [0, 1]) is None


def test_unordered_axes_carry_no_boundary_but_separate_their_maps():
    rng = np.random.default_rng(0)
    axes = Axes((Axis("lr", 0, 1), Axis("activation", choices=("relu", "gelu"))))
    points = axes.spread(rng.random((160, 2)))
    where = np.where(points[:, 1] == 0, 0.3, 0.6)
    found = PhaseMap.fit(points, (points[:, 0] > where).astype(int), axes)
    for name, truth in (("relu", 0.3), ("gelu", 0.6)):
        assert found.boundary_position("lr", [1], {"activation": name}).position == pytest.approx(truth, abs=0.04)
    with pytest.raises(ValueError, match="activation: a boundary needs an ordered axis"):
        found.boundary_position("activation", [1], {"lr": 0.5})


def test_the_band_encloses_the_middle_and_narrows_with_trials():
    lattice, widths = unit_axes(2).lattice(400), []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        points = rng.random((300, 2))
        labels = step(points, rng)
        bands = [PhaseMap.fit(points[:n], labels[:n]).band(lattice, [1]) for n in (40, 300)]
        assert all((band[0] <= band[1]).all() and (band[1] <= band[2]).all() for band in bands)
        widths.append([np.ptp(band, axis=0).mean() for band in bands])
    few, many = np.mean(widths, 0)
    assert many < 0.7 * few


def coverage(repeats, trials, width):
    hits = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        points = rng.random((trials, 2))
        found = PhaseMap.fit(points, step(points, rng, width)).boundary_position("x0", [1], {"x1": 0.5})
        hits.append(found is not None and found.low <= 0.5 <= found.high)
    return np.mean(hits)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    assert coverage(40, 100, 0.04) >= 0.8


@pytest.mark.long
@pytest.mark.parametrize("width", [0.03, 0.06, 0.12])
def test_the_90_percent_interval_covers_85_to_95_percent(width):
    assert 0.84 <= coverage(300, 150, width) <= 0.96  # 300 repeats know it to 0.017
