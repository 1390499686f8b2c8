"""The planner on truths whose boundary is known: where it asks, and that it asks the same again."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import expit

from phasemap.maps.axes import Axes, Axis, unit_axes
from phasemap.maps.phase_map import PhaseMap
from phasemap.maps.planner import Planner

MIXED = (
    Axis("weight_decay", 1e-3, 10, log=True),
    Axis("width", choices=(16, 32, 64, 128, 256, 512)),
    Axis("depth", choices=(1, 2, 3, 4)),
    Axis("activation", choices=("relu", "gelu")),
)


def circle(points):
    return (np.hypot(points[:, 0] - 0.5, points[:, 1] - 0.5) < 0.3).astype(int)


def run(planner, truth, trials, batch=8, shared=(), fail=lambda point: False):
    """Asks in batches until ``trials`` are done: points [N, D], labels."""
    points = np.zeros((0, len(planner.axes.axes)))
    labels: list[int | None] = []
    while len(points) < trials:
        fresh = planner.ask(batch, points, labels, shared=shared)
        points = np.concatenate([points, fresh])
        labels += [None if fail(p) else int(y) for p, y in zip(fresh, truth(fresh), strict=True)]
    return points, labels


def wrong(axes, points, labels, truth):
    lattice = axes.lattice(2000)
    return (np.array(PhaseMap.fit(points, labels, axes).phase(lattice)) != truth(lattice)).mean()


def test_asks_crowd_at_the_boundary_and_the_map_beats_sobol():
    axes = unit_axes(2)
    points, labels = run(Planner(axes), circle, 64)
    away = np.abs(np.hypot(points[16:, 0] - 0.5, points[16:, 1] - 0.5) - 0.3)
    assert np.median(away) < 0.07  # 0.12 for even points
    even = Planner(axes, startup=64).ask(64, points[:0], [])
    assert wrong(axes, points, labels, circle) < 0.6 * wrong(axes, even, circle(even), circle)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_one_to_four_axes_of_mixed_kinds(dimensions):
    axes = Axes(MIXED[:dimensions])

    def truth(points):
        shift = 0.2 * points[:, 1] if dimensions > 1 else 0
        turn = 0.2 * points[:, 3] if dimensions > 3 else 0
        return (points[:, 0] > 0.35 + shift + turn).astype(int)

    points, labels = run(Planner(axes), truth, 32 * dimensions)
    assert axes.snap(points) == pytest.approx(points)
    assert wrong(axes, points, labels, truth) < 0.03


@pytest.mark.parametrize("phases", [2, 3, 4, 5, 6])
def test_two_to_six_phases(phases):
    axes = unit_axes(2)

    def truth(points):
        return (points[:, 0] * phases).astype(int)

    points, labels = run(Planner(axes), truth, 20 * phases)
    assert wrong(axes, points, labels, truth) < 0.05


def test_a_phase_may_be_two_regions_that_do_not_touch():
    axes = unit_axes(2)

    def truth(points):
        return ((points[:, 0] < 0.25) | (points[:, 0] > 0.7)).astype(int)

    points, labels = run(Planner(axes), truth, 64)
    assert wrong(axes, points, labels, truth) < 0.03


@pytest.mark.long
def test_six_phases():
    axes = unit_axes(2)

    def truth(points):
        return (points[:, 0] * 3).astype(int) + 3 * (points[:, 1] > 0.5)

    points, labels = run(Planner(axes), truth, 128)
    assert wrong(axes, points, labels, truth) < 0.06


def test_an_island_is_found():
    def truth(points):
        return ((points[:, 0] > 0.7) | (np.hypot(points[:, 0] - 0.25, points[:, 1] - 0.7) < 0.16)).astype(int)

    points, labels = run(Planner(unit_axes(2)), truth, 96)
    assert PhaseMap.fit(points, labels).phase(np.array([[0.25, 0.7]])) == [1]


@pytest.mark.long
def test_small_islands_are_found_in_most_maps_of_128_trials():
    def truth(points):
        return ((points[:, 0] > 0.7) | (np.hypot(points[:, 0] - 0.25, points[:, 1] - 0.7) < 0.12)).astype(int)

    maps = [PhaseMap.fit(*run(Planner(unit_axes(2), seed=seed), truth, 128)) for seed in range(12)]
    assert np.mean([found.phase(np.array([[0.25, 0.7]])) == [1] for found in maps]) > 0.8


@pytest.mark.long
def test_the_90_percent_interval_holds_for_trials_the_sampler_chose():
    hits = []
    for seed, width in itertools.product(range(40), (0.03, 0.08)):
        rng = np.random.default_rng(seed)

        def truth(points, rng=rng, width=width):
            return rng.random(len(points)) < expit((points[:, 0] - 0.35 - 0.3 * points[:, 1]) / width)

        found = PhaseMap.fit(*run(Planner(unit_axes(2), seed=seed), truth, 96)).boundary_position(
            "x0", [1], {"x1": 0.5}
        )
        assert found is not None
        hits.append(found.low <= 0.5 <= found.high)
    assert 0.8 <= np.mean(hits) <= 0.99


def test_the_same_history_gives_the_same_asks():
    points, labels = run(Planner(unit_axes(2), seed=3), circle, 48)
    fresh = Planner(unit_axes(2), seed=3).ask(8, points[:40], labels[:40])
    assert (fresh == points[40:]).all()
    assert (Planner(unit_axes(2), seed=4).ask(8, points[:40], labels[:40]) != points[40:]).any()


@pytest.mark.parametrize("late", [None, 3, 70])
def test_what_one_ask_keeps_for_the_next_changes_nothing(late):
    """Trials end in any order, so the one at ``late`` may become known after those behind it."""
    points, planner = np.random.default_rng(0).random((90, 2)), Planner(unit_axes(2))
    labels = circle(points).tolist()
    for known in (75, 76, 79, 80, 83, 90):
        ended = [i for i in range(known) if i != late or known > 80]
        seen, said = points[ended], [labels[i] for i in ended]
        assert (planner.ask(3, seen, said) == Planner(unit_axes(2)).ask(3, seen, said)).all()


def test_a_design_cut_short_is_completed_with_the_points_that_were_lost():
    planner, nothing = Planner(unit_axes(2)), np.zeros((0, 2))
    design = planner.ask(16, nothing, [])
    done = design[5:9]  # the others were running when the sweep died
    again = planner.ask(12, done, circle(done))
    assert {tuple(p) for p in again} | {tuple(p) for p in done} == {tuple(p) for p in design}


def test_running_trials_push_the_next_batch_away():
    planner = Planner(unit_axes(2))
    points, labels = run(planner, circle, 40)
    first = planner.ask(8, points, labels)
    second = planner.ask(8, points, labels, first)
    assert pdist(np.concatenate([first, second])).min() > 0.01


@pytest.mark.parametrize("method", ["straddle", "neighbors"])
def test_a_large_batch_spreads(method):
    planner = Planner(unit_axes(2), method=method)
    points, labels = run(planner, circle, 32)
    assert pdist(planner.ask(64, points, labels)).min() > 0.005


def test_a_stack_shares_its_width_and_stacks_mix_widths():
    axes = Axes((Axis("weight_decay", 1e-3, 10, log=True), Axis("width", choices=(16, 32, 64, 128, 256, 512))))

    def truth(points):
        return (points[:, 0] > 0.3 + 0.3 * points[:, 1]).astype(int)

    points, labels = run(Planner(axes), truth, 96, shared=("width",))
    stacks = points.reshape(-1, 8, 2)[:, :, 1]
    assert (stacks == stacks[:, :1]).all()
    assert len(set(stacks[:, 0])) == 6
    assert wrong(axes, points, labels, truth) < 0.03


def test_failed_trials_leave_no_hole_and_no_trap():
    rng = np.random.default_rng(0)
    points, labels = run(Planner(unit_axes(2)), circle, 96, fail=lambda _: rng.random() < 0.2)
    assert wrong(unit_axes(2), points, labels, circle) < 0.03
    points, labels = run(Planner(unit_axes(2)), circle, 96, fail=lambda point: point[0] > 0.8)
    assert 4 < sum(label is None for label in labels) < 32


def test_failing_can_be_a_phase():
    planner = Planner(unit_axes(1), failed_label=5)
    points, labels = run(planner, lambda p: np.zeros(len(p)), 32, fail=lambda point: point[0] > 0.6)
    assert np.abs(points[16:, 0] - 0.6).min() < 0.03
    assert planner.uncertainty(points, labels) > 0


@pytest.mark.parametrize("labels", [[], [None] * 8, [math.nan] * 8, [1] * 8])
def test_nothing_known_or_one_phase_only_still_gives_points(labels):
    points = np.random.default_rng(0).random((len(labels), 2))
    for startup in (0, 16):
        assert Planner(unit_axes(2), startup=startup).ask(4, points, labels).shape == (4, 2)


def test_uncertainty_falls_with_trials_and_is_total_before_the_design_is_done():
    planner = Planner(unit_axes(2))
    points, labels = run(planner, circle, 96)
    assert planner.uncertainty(points[:15], labels[:15]) == 1
    assert planner.uncertainty(points, labels) < 0.5 * planner.uncertainty(points[:24], labels[:24])


def test_one_phase_alone_ends_no_sweep_early():
    planner, points = Planner(unit_axes(2)), np.random.default_rng(0).random((60, 2))
    assert planner.uncertainty(points[:20], [0] * 20) == 0.15
    assert planner.uncertainty(points, [0] * 60) == 0.05


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="must be auto, straddle or neighbors, got 'best'"):
        Planner(unit_axes(1), method="best")
