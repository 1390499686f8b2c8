"""How often the intervals hold the truth: medians of few times, with and without censoring, phase boundaries, and laws.

    python benchmarks/interval_coverage.py

One core, about ten minutes. Prints a table and writes benchmarks/results/coverage.csv: for each case the share of
made-up sweeps whose interval holds the truth, the level it claims, the share left open and the number of sweeps; for
boundaries the share that lies where the map says (within a reported interval or, on a line without any, outside the
stretch said to hold none), the share of lines on which none was reported, and the reported ones per line that hold
none; the width of the intervals, in lengths of the axis, is their median; for laws
the share of sweeps in which a straight line, which is the truth, was not refused at 0.05 (0.95 if the test is right).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the checkout's analysis, which is not installed

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis.edge import Problem, Trials
from analysis.lognormal import Times
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
MAPS = 40  # of 150 trials at random points, one seed a point
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
    "0.08 of the axis": step(0, 1, 0.08),
    "corner": lambda x, y: expit((x - 0.6) / 0.03) * expit((y - 0.6) / 0.03),
    "0.2 to 0.9": step(0.2, 0.9, 0.55),
    "slanted, 0 to 0.9": lambda x, y: 0.9 * expit((x + 0.4 * y - 0.7) / 0.03),
    "band, 0.05 to 0.95": lambda x, y: 0.05 + 0.9 * expit((0.2 - np.abs(x - 0.5)) / 0.03),
}


def boundaries() -> Iterator[dict[str, object]]:
    """Coverage of the 90 % interval of a boundary, line by line."""
    for name, chance in TRUTHS.items():
        lines = [line for sweep in range(MAPS) for line in _lines(chance, sweep)]
        case = {"interval": "boundary", "case": name, "n": 150, "level": 0.9, "sweeps": MAPS}
        yield case | {
            "coverage": np.mean([right for line in lines for right in line.right]),
            "none": np.mean([not line.widths for line in lines]),
            "false": np.mean([line.wrong for line in lines]),
            "width": np.median([width for line in lines for width in line.widths]),
        }


class Line(NamedTuple):
    """What was reported on a line: of each true boundary, whether it lies where the map says; how many reported
    boundaries hold none; and the width of each."""

    right: list[bool]
    wrong: int
    widths: list[float]


def _lines(chance: Chance, sweep: int) -> Iterator[Line]:
    draw = np.random.default_rng(sweep)
    points = draw.random((150, 2))
    fitted = PhaseMap.fit(points, (draw.random(150) < chance(*points.T)).astype(int), phases=(0, 1))
    for y in LINES:
        x = np.linspace(0, 1, 20_012)
        above = chance(x, np.full(len(x), y)) > 0.5
        places = np.flatnonzero(above[1:] != above[:-1])
        reported = fitted.crossings("x0", [1], {"x1": y})
        right = [any(b.low <= x[i] <= b.high and b.rises == above[i + 1] for b in reported) for i in places]
        wrong = len(reported) - sum(right)
        if not reported:
            clear = fitted.sure("x0", [1], {"x1": y})
            right = [clear is None or not clear[0] < x[i] < clear[1] for i in places]
        yield Line(right, wrong, [b.high - b.low for b in reported])


GRID = (8, 5)  # values tried of x and y: a sharp edge lies between two of x, nobody knows where
SHARP = 100  # sweeps
SEEDS = (3, 5, 12)  # a point


def sharp() -> Iterator[dict[str, object]]:
    """Coverage of the 90 % intervals of an edge without width on a grid: line by line, and by a law."""
    for seeds in SEEDS:
        answers = [part for sweep in range(SHARP) for part in _sharp(seeds, sweep)]
        case = {"case": f"no width, grid, {seeds} a point", "n": 40 * seeds, "level": 0.9, "sweeps": SHARP}
        for interval in ("boundary", "critical value"):
            ends = [(held, width) for name, held, width in answers if name == interval]
            held, width = zip(*ends, strict=True)
            yield {"interval": interval} | case | {"coverage": np.mean(held), "width": np.median(width)}


def _sharp(seeds: int, sweep: int) -> Iterator[tuple[str, bool, float]]:
    """Which interval, whether it holds the truth, and its width in lengths of the axis."""
    draw = np.random.default_rng([seeds, sweep])
    x, y = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, 1, n) for n in GRID)))
    at, slope = draw.uniform(3, 4) / 7, draw.uniform(-0.3, 0.3)
    hits, counts = seeds * (x > at + slope * (y - 0.5)).astype(int), np.full(len(x), float(seeds))
    labels = np.repeat(hits > 0, seeds).astype(int)
    fitted = PhaseMap.fit(np.repeat(np.stack([x, y], 1), seeds, 0), labels, phases=(0, 1))
    problem = Problem(Trials(x, y - 0.5, hits.astype(float), counts), ("start",))
    best = problem.solve()
    for line in (0.0, 0.5):
        truth = at + slope * (line - 0.5)
        for found in fitted.crossings("x0", [1], {"x1": line}):
            yield "boundary", found.low <= truth <= found.high, found.high - found.low
        _, low, high = problem.place(best, "start", line - 0.5, 0.9, (-1, 2))
        yield "critical value", low <= truth <= high, high - low


EXPONENTS = (-1.0, 0.5)  # of the grok step, by two axes
SCATTER = 0.3
EVERY = 100  # steps between evaluations; the grok step at the middle is ten times that
BUDGETS = {"none": 1e9, "30 %": 1_500.0, "80 %": 500.0}  # steps, hence the share censored


def exponents() -> Iterator[dict[str, object]]:
    """Coverage of the 95 % interval of the exponent of a grok step over two axes, n trials at random places."""
    for name, budget in BUDGETS.items():
        for n in (20, 50, 200) if name != "80 %" else (100, 400):
            answers = [_exponent(n, budget, sweep) for sweep in range(SWEEPS)]
            case = {"interval": "exponent of the grok step", "case": f"censored: {name}", "n": n, "level": 0.95}
            yield case | _shares(answers)


def _exponent(n: int, budget: float, sweep: int) -> tuple[bool, bool, bool]:
    """Whether the interval holds the truth, whether an end is open, and whether a straight line is kept."""
    draw = np.random.default_rng([n, sweep, int(budget) % 1_000])
    design = np.column_stack([np.ones(n), draw.uniform(-1, 1, (n, 2))])
    times = np.exp(design @ [np.log(10 * EVERY), *EXPONENTS] + SCATTER * draw.standard_normal(n))
    steps = np.ceil(times / EVERY) * EVERY
    seen = steps <= budget
    with np.errstate(divide="ignore"):
        low, high = np.log(np.where(seen, steps - EVERY, budget)), np.log(np.where(seen, steps, np.inf))
    law = Times(low, high, design)
    _, *ends = law.ends(1, 0.95)
    return ends[0] <= EXPONENTS[0] <= ends[1], bool(np.isinf(ends).any()), law.straight([1, 2]) >= 0.05


def edges() -> Iterator[dict[str, object]]:
    """Coverage of the 90 % intervals of a law's exponent, and of its critical value at one line."""
    for name, sides in {"start": ("start",), "start and end": ("start", "end")}.items():
        for seeds in (1, 5):
            answers = [_edge(sides, seeds, sweep) for sweep in range(EDGES)]
            case: dict[str, object] = {"case": f"{name}, {seeds} a point", "n": 16 * 6 * seeds, "level": 0.9}
            for interval, part in zip(("critical exponent", "critical value"), zip(*answers, strict=True), strict=True):
                yield {"interval": interval} | case | _shares(part)


EDGES = 200  # sweeps
START, END = (-0.8, -0.5), (1.0, 0.4)  # place at the middle and exponent
STEEPNESS = 0.15
LINE = 0.6  # the other axis, in logarithms from its middle, at which the critical value is asked for


def _edge(sides: tuple[str, ...], seeds: int, sweep: int) -> list[tuple[bool, bool, bool]]:
    """As ``_exponent``, of the exponent of the start and of its place on the line."""
    draw = np.random.default_rng([seeds, sweep, len(sides)])
    along, across = (axis.ravel() for axis in np.meshgrid(np.linspace(-2.5, 2.5, 16), np.linspace(-1, 1, 6)))
    chance = expit((along - START[0] - START[1] * across) / STEEPNESS)
    if "end" in sides:
        chance = chance * expit((END[0] + END[1] * across - along) / STEEPNESS)
    counts = np.full(len(along), float(seeds))
    problem = Problem(Trials(along, across, draw.binomial(seeds, 0.02 + 0.95 * chance).astype(float), counts), sides)
    best = problem.solve()
    kept = problem.straight(best, "start") >= 0.05
    shift = STEEPNESS * np.log((0.5 - 0.02) / (0.5 - 0.03))  # of P = 0.5 against the middle of the edge
    wanted = START[1], START[0] + START[1] * LINE - shift
    ends = problem.interval(best, "start", "slope", 0.9), problem.place(best, "start", LINE, 0.9, (-5, 5))[1:]
    return [
        (low <= truth <= high, bool(np.isinf([low, high]).any()), kept)
        for truth, (low, high) in zip(wanted, ends, strict=True)
    ]


def _shares(answers: Sequence[tuple[bool, bool, bool]]) -> dict[str, object]:
    held, opened, kept = (float(np.mean(column)) for column in zip(*answers, strict=True))
    return {"coverage": held, "open": opened, "straight": kept, "sweeps": len(answers)}


def main() -> None:
    table = pd.DataFrame([*medians(), *boundaries(), *sharp(), *exponents(), *edges()])
    RESULTS.parent.mkdir(exist_ok=True)
    table.to_csv(RESULTS, index=False, float_format="%.3f")
    print(table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    main()
