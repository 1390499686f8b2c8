"""Changes of sign and their intervals, against lines made by hand."""

import numpy as np
import pytest

from phasemap.maps.crossings import crossings_with_intervals, longest_stretch

LINE = np.linspace(0, 1, 1001)


def bands(*edges):
    """A line of log-odds, above 0 between each pair of edges."""
    return np.max([np.minimum(LINE - low, high - LINE) for low, high in edges], 0)


def ends(found):
    return [tuple(round(float(end), 3) for end in crossing[1:3]) for crossing in found]


def test_the_start_of_a_narrow_band_is_never_taken_for_its_end():
    shifts = np.linspace(-0.2, 0.2, 41)  # twice the width of the band
    draws = np.array([bands((0.45 + d, 0.55 + d)) for d in shifts])
    start, end = crossings_with_intervals(bands((0.45, 0.55)), draws, 0.9)
    assert (start.rises, end.rises) == (True, False)
    assert start[:3] == pytest.approx((0.45, 0.27, 0.63), abs=1e-3)
    assert end[:3] == pytest.approx((0.55, 0.37, 0.73), abs=1e-3)


def test_an_edge_that_left_the_line_opens_the_interval_on_that_side_alone():
    draws = np.array([bands((0.1 + d, 0.6 + d)) for d in np.linspace(-0.2, 0.2, 41)])
    start, end = ends(crossings_with_intervals(bands((0.1, 0.6)), draws, 0.9))
    assert start == (0, 0.28)
    assert end == (0.42, 0.78)
    draws = np.array([LINE - 0.9 - d for d in np.linspace(-0.2, 0.2, 41)])
    assert ends(crossings_with_intervals(LINE - 0.9, draws, 0.9)) == [(0.72, 1)]


def test_a_region_that_some_draws_lack_is_placed_by_the_others():
    one, both = bands((0.6, 0.8)), bands((0.2, 0.3), (0.6, 0.8))
    few = np.array([both] * 32 + [one] * 8)
    assert ends(crossings_with_intervals(both, few, 0.9)) == [(p, p) for p in (0.2, 0.3, 0.6, 0.8)]


def test_a_region_that_half_of_the_draws_lack_is_not_reported():
    one, both = bands((0.6, 0.8)), bands((0.2, 0.3), (0.6, 0.8))
    assert ends(crossings_with_intervals(both, np.array([both, one] * 20), 0.9)) == [(p, p) for p in (0.6, 0.8)]


def test_a_line_without_a_change_of_sign_has_no_crossing():
    assert crossings_with_intervals(LINE + 1, np.array([LINE - 0.5] * 4), 0.9) == []


def test_the_stretch_that_holds_no_boundary_ends_where_draws_change_their_sign() -> None:
    signs = np.zeros((100, 11), bool)
    signs[:, 9:] = True  # all draws rise between places 8 and 9
    assert longest_stretch(signs, 0.9) == (0, 8)
    signs[:20, 6:] = True  # a fifth of them earlier
    assert longest_stretch(signs, 0.9) == (0, 5)
    assert longest_stretch(signs, 0.5) == (0, 8)
    assert longest_stretch(signs[:, ::-1], 0.9) == (5, 10)
    assert longest_stretch(np.eye(2, dtype=bool).repeat(50, 0), 0.9) is None
