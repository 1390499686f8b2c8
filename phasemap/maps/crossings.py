"""Where a line of numbers changes its sign, and how sure that is: read off draws of the whole line.

Letters: M places along the line.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SURE = 0.7  # share of the draws that must show a crossing for it to be reported


def longest_stretch(signs: np.ndarray, level: float) -> tuple[int, int] | None:
    """First and last place of the longest stretch on which a share ``level`` of the draws has one and the same sign.

    Args:
        signs: of each draw at each place, [draws, M] bool.

    Returns:
        None where so many share no sign anywhere.
    """
    best, places = None, signs.shape[1]
    for odd in (signs, ~signs):
        # the first place from each on where a draw has the other sign, [draws, M]
        met = np.minimum.accumulate(np.where(odd, np.arange(places), places)[:, ::-1], 1)[:, ::-1]
        end = np.quantile(met, 1 - level, axis=0, method="lower") - 1
        start = int((end - np.arange(places)).argmax())
        if end[start] >= start and (best is None or end[start] - start > best[1] - best[0]):
            best = start, int(end[start])
    return best


class Crossing(NamedTuple):
    """A change of sign along a line from 0 to 1, with its interval."""

    place: float
    low: float
    high: float
    rises: bool


def crossings_with_intervals(middle: np.ndarray, draws: np.ndarray, level: float) -> list[Crossing]:
    """Every change of sign of ``middle`` [M] that most of the ``draws`` [draws, M] show, with quantiles of the places
    that answer it there."""
    crossings = []
    for sign in (1, -1):
        spots = rises(sign * middle)
        answers = np.array([_answers(spots, sign * middle, sign * draw) for draw in draws])
        for k, spot in enumerate(spots):
            there = answers[~np.isnan(answers[:, k]), k]
            if ((there > 0) & (there < 1)).sum() < SURE * len(draws):
                continue
            low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
            crossings.append(Crossing(spot, min(low, spot), max(high, spot), sign > 0))
    return sorted(crossings)


def rises(odds: np.ndarray) -> np.ndarray:
    """Places in [0, 1] where evenly spaced log-odds [M] turn positive, interpolated."""
    before = np.nonzero((odds[:-1] <= 0) & (odds[1:] > 0))[0]
    return (before + odds[before] / (odds[before] - odds[before + 1])) / (len(odds) - 1)


def _answers(spots: np.ndarray, middle: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Where ``draw`` rises in place of ``middle``, which rises at ``spots``: [spots].

    Edges of one direction alone are compared: the start of a band never answers its end. Each place answers the spot
    nearest to it, and no other. A spot that nothing answers has left by an end of the line, if it was the outermost
    edge there and the draw has the other sign; else its region is absent from this draw, which then says nothing of
    where the region begins or ends: NaN.
    """
    answers, places = np.full(len(spots), np.nan), rises(draw)
    gap = np.abs(places[:, None] - spots)
    for k in range(len(spots)):
        own = gap.argmin(1) == k
        if own.any():
            answers[k] = places[own][gap[own, k].argmin()]
        elif k == 0 and middle[0] <= 0 < draw[0]:
            answers[k] = 0.0
        elif k == len(spots) - 1 and draw[-1] <= 0 < middle[-1]:
            answers[k] = 1.0
    return answers
