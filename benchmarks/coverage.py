"""How often the intervals hold the truth: the median time of few trials, with and without censoring.

    python benchmarks/coverage.py

One core, under two minutes. Prints a table and writes benchmarks/results/coverage.csv: for each case the share of
made-up sweeps whose interval holds the truth, the level it claims, the share left open and the number of sweeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.statistics import kaplan_meier

RESULTS = Path(__file__).parent / "results" / "coverage.csv"
SWEEPS = 400  # standard error of a coverage of 0.95: 0.011
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
    found = kaplan_meier(np.minimum(times, ends), times <= ends)[1]
    return found.low <= MEDIAN <= found.high, bool(np.isinf(found.low) and np.isinf(found.high))


def main() -> None:
    table = pd.DataFrame(medians())
    RESULTS.parent.mkdir(exist_ok=True)
    table.to_csv(RESULTS, index=False, float_format="%.3f")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    main()
