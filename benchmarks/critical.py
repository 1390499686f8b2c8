"""How many trials a critical value takes, and whether its interval holds: a replay on truths that are known.

    python benchmarks/critical.py [--repeats 8] [--most 256]

Success rises with x, at a place that moves with one of three values of y. Trials come 8 at a time until the 90 %
intervals of all three places are no wider than the target, a share of the axis: placed by the boundary sampler, or
evenly (Sobol). Prints a table and writes benchmarks/results/critical.csv: the median of the trials needed (``--most``:
not reached), the share of runs that ended, and of the places within their intervals then. It trains nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import qmc

from phasemap.maps.axes import Axes, Axis
from phasemap.maps.critical import Critical, Line
from phasemap.maps.planner import Planner

RESULTS = Path(__file__).parent / "results" / "critical.csv"
AXES = Axes((Axis("x"), Axis("y", choices=(0.0, 0.5, 1.0))))
TARGETS = (0.2, 0.1)
BATCH = 8
Rate = Callable[[np.ndarray], np.ndarray]  # success against the distance from the place
TRUTHS: dict[str, Rate] = {
    "sharp": lambda off: expit(off / 0.02),
    "wide": lambda off: expit(off / 0.06),
    "0.1 to 0.9": lambda off: 0.1 + 0.8 * expit(off / 0.03),
}


def place(y: np.ndarray) -> np.ndarray:
    """Where success is as likely as not."""
    return 0.3 + 0.35 * y


def asked(strategy: str, repeat: int, points: np.ndarray, labels: list[int | None]) -> np.ndarray:
    """The next batch of a strategy."""
    if strategy == "sobol":
        return AXES.spread(qmc.Sobol(2, rng=repeat).random_base2(10))[len(points) : len(points) + BATCH]
    return Planner(AXES, seed=repeat).ask(BATCH, points, labels)


def run(strategy: str, rate: Rate, repeat: int, most: int) -> Iterator[tuple[float, int, list[bool]]]:
    """Target, trials and whether each place lies within its interval, as the targets are met one after the other."""
    critical, draw = Critical(AXES, "x", min(TARGETS)), np.random.default_rng([repeat, 7])
    labels: list[int | None] = []
    points, left = np.zeros((0, 2)), list(TARGETS)
    while left and len(points) < most:
        new = asked(strategy, repeat, points, labels)
        labels += (draw.random(len(new)) < rate(new[:, 0] - place(new[:, 1]))).astype(int).tolist()
        points = np.concatenate([points, new])
        lines = critical.lines(points, labels)
        while left and lines and max(line.width for line in lines) <= left[0]:
            yield left.pop(0), len(points), [_held(line) for line in lines]


def _held(line: Line) -> bool:
    at = float(place(np.array(line.fixed["y"])))
    return any(low <= at <= high for low, high in line.spans)


def main() -> None:
    """Runs all and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--most", type=int, default=256)
    arguments = parser.parse_args()
    rows = []
    for name, rate in TRUTHS.items():
        for strategy in ("boundary", "sobol"):
            runs = [list(run(strategy, rate, repeat, arguments.most)) for repeat in range(arguments.repeats)]
            for target in TARGETS:
                ended = [(trials, held) for one in runs for at, trials, held in one if at == target]
                trials = [trials for trials, _ in ended] + [arguments.most] * (len(runs) - len(ended))
                case: dict[str, object] = {"truth": name, "strategy": strategy, "target": target}
                case |= {"trials": statistics.median(trials), "ended": len(ended) / len(runs)}
                rows.append(case | {"held": np.mean([one for _, held in ended for one in held]) if ended else None})
                print(*rows[-1].values(), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(RESULTS, index=False, float_format="%.3f")


if __name__ == "__main__":
    main()
