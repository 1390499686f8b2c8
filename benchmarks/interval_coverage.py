"""How often the intervals hold the truth: medians of few times, with and without censoring, and phase boundaries.

    python benchmarks/interval_coverage.py

One core, under two minutes. Prints a table and writes benchmarks/results/coverage.csv: for each case the share of
made-up sweeps whose interval holds the truth, the level it claims, the share left open and the number of sweeps; for
boundaries also the share of lines on which none was reported, and the reported ones per line that hold none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the checkout's analysis, which is not installed

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis.statistics import kaplan_meier
from phasemap.maps.phase_map import PhaseMap

RESULTS = Path(__file__).parent / "results" / "coverage.csv"
SWEEPS = 200  # standard error of a coverage of 0.95: 0.015
MEDIAN = 1_000.0  # of the lognormal times, in steps
CENSORING = {"none": np.inf, "short budget": 1_100.0, "own ends": 3_000.0}


def medians() -> Iterator[dict[str, object]]:
    """Coverage of the 95 % interval of a median of n times: a 'short budget' ends all trials at one step,
    'own ends' each at a step of its own, uniform up to the value."""
    for name, end in CENSORING.items():
        for n in range(1, 13):
            held, opened = zip(*(_median(n, name, end, sweep) for sweep in range(SWEEPS)), strict=True)
            case = {"interval": "median", "case": f"censoring: {name}", "n": n, "level": 0.95}
            yield case | {"coverage": np.mean(held), "open": np.mean(opened), "sweeps": SWEEPS}


def _median(n: int, name: str, end: float, sweep: int) -> tuple[bool, bool]:
    draw = np.random.default_rng([n, sweep])
    times = MEDIAN * np.exp(draw.normal(0, 0.7, n))
    ends = end * draw.random(n) if name == "own ends" else np.full(n, end)
    estimate = kaplan_meier(np.minimum(times, ends), times <= ends)[1]
    return estimate.low <= MEDIAN <= estimate.high, bool(np.isinf(estimate.low) and np.isinf(estimate.high))


Chance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of success at (x, y)
MAPS = 16  # of 150 trials at random points, one seed a point
LINES = (0.2, 0.66)  # values of y at which a boundary along x is looked for


def step(low: float, high: float, at: float, width: float = 0.03) -> Chance:
    """Success that goes from low to high along x."""
    return lambda x, y: low + (high - low) * expit((x - at) / width)


TRUTHS: dict[str, Chance] = {
    "0 to 1": step(0, 1, 0.45, 0.02),
    "0 to 1, wide": step(0, 1, 0.5, 0.06),
    "0 to 0.8": step(0, 0.8, 0.5),
    "0.3 to 1": step(0.3, 1, 0.5),
    "0.1 to 0.9": step(0.1, 0.9, 0.45),
    "0.92 of the axis": step(0, 1, 0.92),
    "0.97 of the axis": step(0, 1, 0.97),
    "corner": lambda x, y: expit((x - 0.6) / 0.03) * expit((y - 0.6) / 0.03),
    "0.2 to 0.9": step(0.2, 0.9, 0.55),
    "slanted, 0 to 0.9": lambda x, y: 0.9 * expit((x + 0.4 * y - 0.7) / 0.03),
    "band, 0.05 to 0.95": lambda x, y: 0.05 + 0.9 * expit((0.2 - np.abs(x - 0.5)) / 0.03),
}


def boundaries() -> Iterator[dict[str, object]]:
    """Coverage of the 90 % interval of a boundary, line by line."""
    for name, chance in TRUTHS.items():
        lines = [line for sweep in range(MAPS) for line in _lines(chance, sweep)]
        held, wanted, reported, absent = (sum(column) for column in zip(*lines, strict=True))
        case = {"interval": "boundary", "case": name, "n": 150, "level": 0.9, "sweeps": MAPS}
        yield case | {
            "coverage": held / wanted,
            "none": absent / len(lines),
            "false": (reported - held) / len(lines),
        }


def _lines(chance: Chance, sweep: int) -> Iterator[tuple[int, int, int, bool]]:
    """Of each line: true boundaries held, true boundaries, boundaries reported, and whether none was."""
    draw = np.random.default_rng(sweep)
    points = draw.random((150, 2))
    fitted = PhaseMap.fit(points, (draw.random(150) < chance(*points.T)).astype(int), phases=(0, 1))
    for y in LINES:
        x = np.linspace(0, 1, 20_012)
        above = chance(x, np.full(len(x), y)) > 0.5
        places = np.flatnonzero(above[1:] != above[:-1])
        reported = fitted.boundaries("x0", [1], {"x1": y})
        held = [any(b.low <= x[i] <= b.high and b.rises == above[i + 1] for b in reported) for i in places]
        yield sum(held), len(places), len(reported), not reported


def main() -> None:
    table = pd.DataFrame([*medians(), *boundaries()])
    RESULTS.parent.mkdir(exist_ok=True)
    table.to_csv(RESULTS, index=False, float_format="%.3f")
    print(table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    main()
