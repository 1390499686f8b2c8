"""How many trials until a phase map is as good as a heat map of 768? A replay on truths that are known.

    python benchmarks/boundary.py                                   # synthetic truths and published grids
    python benchmarks/boundary.py --truths --dense benchmarks/data/dense_wd_width.csv   # a dense table of real runs
    python benchmarks/boundary.py --report                          # prints the table of the last results again
    python benchmarks/boundary.py --ask-time                        # milliseconds per trial at 1,000 known trials
    python benchmarks/boundary.py --islands                         # how often a small region is met at all

Trials come 8 at a time, one seed a point. The error of a map is the share of its area drawn in another phase than the
likeliest one. Every design is read with the same ``PhaseMap``. There are two references, both a grid of 16 x 16 points
x 3 seeds (16 x the choices, where an axis has few): *drawn*, each cell in the color of its majority, as such grids are
published; and *like for like*, the same trials read with the same map. Trials needed: the first checkpoint with an
error at or below the median error of the reference, the median of it and the next two being so as well.

The strategy "oracle" bounds what placing can save: it knows the truth. Not for dense tables, whose trials it would
use up.

Writes benchmarks/results/boundary_replay.csv, where truths and strategies not named keep their last results. It trains
nothing: outcomes are drawn from the truths.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.special import expit
from scipy.stats import qmc

from phasemap.maps.axes import Axes, Axis, unit_axes
from phasemap.maps.phase_map import PhaseMap
from phasemap.maps.planner import Planner

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "boundary_replay.csv"
PUBLISHED = ("liu_add_r", "liu_add_c", "liu_add_r_reprlr")
PHASES = ("comprehension", "grokking", "memorization", "confusion", "collapse", "diverged")
BUDGET = 100_000  # optimizer steps of a trial that never groks, in the synthetic truths
BATCH = 8
STARTUP = 16
GIVES_UP = {"random": 256, "tpe": 128}  # trials after which a baseline is expensive to follow and far behind
Row = dict[str, Any]
Draw = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # points [N, D] -> phases [N], optimizer steps [N]


@dataclass(frozen=True)
class Truth:
    """A phase diagram that can be sampled: ``draws(rng)`` gives one repeat's source of fresh trials."""

    name: str
    axes: Axes
    lattice: np.ndarray  # [M, D]
    likeliest: np.ndarray  # [M]
    phases: int
    draws: Callable[[np.random.Generator], Draw]


def band() -> Truth:
    """A band of learning in log weight decay x log width; 10 to 90 % within 0.13 of the axis."""

    def chance(points: np.ndarray) -> np.ndarray:
        u, v = points.T
        away = np.abs(u - (0.64 - 0.27 * v + 0.05 * np.sin(5 * v)))
        learned = expit((0.11 + 0.09 * v - away) / 0.03) * expit((v - 0.10) / 0.03)
        return np.stack([1 - learned, learned], 1)

    def steps(points: np.ndarray, phase: np.ndarray) -> np.ndarray:
        u, v = points.T
        away = np.abs(u - (0.64 - 0.27 * v + 0.05 * np.sin(5 * v)))
        return np.where(phase == 1, np.minimum(BUDGET, 10 ** (3.1 + 8 * away)), BUDGET)

    return _smooth_truth("band", chance, steps)


def four(sigma: float = 0.1) -> Truth:
    """The four phases of Liu et al. 2022 from two fields of log10 steps, noisy from seed to seed."""

    def fields(points: np.ndarray, train: np.ndarray | float, delay: np.ndarray | float) -> np.ndarray:
        u, v = points.T[..., None] if np.ndim(train) else points.T
        a = 2.4 + 0.8 * (1 - v) + 0.7 * np.logaddexp(0, (u - 0.70 - 0.15 * v) / 0.05) + sigma * train
        d = 6.0 - 4.6 * u + 1.2 * (0.5 - v) + 12 * np.maximum(0, 0.15 - v) + 1.2 * sigma * delay
        return np.stack([10 ** np.minimum(a, 9), 10 ** np.minimum(d, 9)])

    def label(steps: np.ndarray) -> np.ndarray:
        train, delay = steps
        late = np.where(train + delay > BUDGET, 2, np.where(delay > 1000, 1, 0))
        return np.where(train > BUDGET, 3, late)

    noise = np.random.default_rng(0).standard_normal((2, 400))
    lattice = unit_axes(2).lattice(2304)
    votes = label(fields(lattice, *noise))
    likeliest = np.stack([(votes == k).mean(1) for k in range(4)], 1).argmax(1)

    def draws(rng: np.random.Generator) -> Draw:
        def draw(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            train, delay = rng.standard_normal((2, len(points)))
            steps = np.stack([fields(p[None], t, d)[:, 0] for p, t, d in zip(points, train, delay, strict=True)], 1)
            return label(steps), np.minimum(steps.sum(0), BUDGET)

        return draw

    return Truth("four", unit_axes(2), lattice, likeliest, 4, draws)


def published(name: str) -> Truth:
    """A published grid, each cell one seed, smoothed over half a cell so that seeds can differ."""
    table = pd.read_csv(HERE / "data" / f"{name}.csv")
    size = np.array([table.i.max() + 1, table.j.max() + 1])
    grid = np.zeros((*size, 4))
    steps_at = np.zeros(size)
    grid[table.i, table.j, [PHASES.index(p) for p in table.phase]] = 1
    steps_at[table.i, table.j] = np.minimum(table.test_step, BUDGET)

    def chance(points: np.ndarray) -> np.ndarray:
        near = [np.exp(-2 * (points[:, a, None] * size[a] - 0.5 - np.arange(size[a])) ** 2) for a in (0, 1)]
        mixed = np.einsum("ni,ijk,nj->nk", near[0], grid, near[1])
        return mixed / mixed.sum(1, keepdims=True)

    def steps(points: np.ndarray, phase: np.ndarray) -> np.ndarray:
        i, j = np.minimum((points * size).astype(int), size - 1).T
        return np.where(phase <= 1, steps_at[i, j], BUDGET)

    return _smooth_truth(name, chance, steps)


def dense(path: Path) -> Truth:
    """A table of real runs (weight_decay, width, seed, phase, steps_run), weight decay in a geometric series.

    A trial is a seed of the nearest cell, or of the next one once all are used: no run is ever seen twice. The
    likeliest phase of a cell is taken over its own seeds and, weighing 0.14, those of the adjacent weight decays.
    """
    table = pd.read_csv(path)
    names = [p for p in PHASES if p in set(table.phase)]
    decays, widths = np.sort(table.weight_decay.unique()), tuple(int(w) for w in np.sort(table.width.unique()))
    edge = (decays[-1] / decays[0]) ** (0.5 / (len(decays) - 1))  # half a cell
    low, high = float(decays[0] / edge), float(decays[-1] * edge)
    axes = Axes((Axis("weight_decay", low, high, log=True), Axis("width", choices=widths)))
    points = axes.unit(table[["weight_decay", "width"]].to_dict("records"))
    phase, steps = np.array([names.index(p) for p in table.phase]), table.steps_run.to_numpy(float)
    lattice = np.unique(points.round(9), axis=0)
    gap = cdist(lattice, points.round(9), "sqeuclidean", w=[len(decays) ** 2, 1e9])  # squared, in cells; one width only
    votes = np.exp(-2 * gap) @ np.eye(len(names))[phase]

    def draws(rng: np.random.Generator) -> Draw:
        unused, tie = np.ones(len(points), bool), rng.random(len(points)) * 1e-6

        def draw(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = []
            for point in asked:
                away = np.abs(points - point) @ np.array([1.0, 100.0]) + tie
                rows.append(int(np.where(unused, away, np.inf).argmin()))
                unused[rows[-1]] = False
            return phase[rows], steps[rows]

        return draw

    return Truth(path.stem, axes, lattice, votes.argmax(1), len(names), draws)


def _smooth_truth(name: str, chance: Callable[..., np.ndarray], steps: Callable[..., np.ndarray]) -> Truth:
    lattice = unit_axes(2).lattice(2304)
    every = chance(lattice)

    def draws(rng: np.random.Generator) -> Draw:
        def draw(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            phase = (chance(points).cumsum(1) > rng.random((len(points), 1))).argmax(1)
            return phase, steps(points, phase)

        return draw

    return Truth(name, unit_axes(2), lattice, every.argmax(1), every.shape[1], draws)


class Reader:
    """Reads maps of ever more trials; the kernel is chosen again only as they grow."""

    def __init__(self, truth: Truth):
        self.truth = truth
        self.kernels: Any = None
        self.chosen_at = 0

    def wrong(self, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Where on the truth's lattice the map of these trials shows another phase than the likeliest, [M] bool."""
        if len(points) >= 1.25 * self.chosen_at:
            self.kernels, self.chosen_at = None, len(points)
        fitted = PhaseMap.fit(points, labels.tolist(), self.truth.axes, range(self.truth.phases), self.kernels)
        self.kernels = fitted.kernels
        return fitted.probability(self.truth.lattice).argmax(1) != self.truth.likeliest


class Replay:
    """One repeat of one strategy: asks 8 points, sees their phases, asks again."""

    def __init__(self, truth: Truth, strategy: str, repeat: int):
        self.truth, self.draw = truth, truth.draws(np.random.default_rng([repeat, 1]))
        self.points = np.zeros((0, len(truth.axes.axes)))
        self.labels, self.steps = np.zeros(0, int), np.zeros(0)
        self.design: Callable[[], np.ndarray] = getattr(self, strategy)(repeat)

    def advance(self) -> None:
        points = self.design()
        labels, steps = self.draw(points)
        self.points, self.labels = np.concatenate([self.points, points]), np.concatenate([self.labels, labels])
        self.steps = np.concatenate([self.steps, steps])

    def boundary(self, repeat: int) -> Callable[[], np.ndarray]:
        planner = Planner(self.truth.axes, seed=repeat, startup=STARTUP)
        return lambda: planner.ask(BATCH, self.points, self.labels)

    def boundary_stacks(self, repeat: int) -> Callable[[], np.ndarray]:
        """The 8 trials of a batch share the last axis, as a stack shares its width."""
        planner, last = Planner(self.truth.axes, seed=repeat, startup=STARTUP), self.truth.axes.names[-1:]
        return lambda: planner.ask(BATCH, self.points, self.labels, shared=last)

    def neighbors(self, repeat: int) -> Callable[[], np.ndarray]:
        planner = Planner(self.truth.axes, seed=repeat, startup=STARTUP, method="neighbors")
        return lambda: planner.ask(BATCH, self.points, self.labels)

    def sobol(self, repeat: int) -> Callable[[], np.ndarray]:
        sequence = qmc.Sobol(len(self.truth.axes.axes), rng=repeat)
        return lambda: self.truth.axes.spread(sequence.random(BATCH))

    def random(self, repeat: int) -> Callable[[], np.ndarray]:
        rng = np.random.default_rng(repeat)
        return lambda: self.truth.axes.spread(rng.random((BATCH, len(self.truth.axes.axes))))

    def oracle(self, repeat: int) -> Callable[[], np.ndarray]:
        """Knows what is sought: trials where the map of those so far is wrong, more of them the clearer the truth."""
        truth, rng = self.truth, np.random.default_rng([repeat, 3])
        draw, sequence = truth.draws(rng), qmc.Sobol(len(truth.axes.axes), rng=repeat)
        votes = sum(np.eye(truth.phases)[draw(truth.lattice)[0]] for _ in range(100)) / 100
        clear = np.diff(np.sort(votes, 1)[:, -2:], axis=1)[:, 0] + 0.01
        reader = Reader(truth)

        def ask() -> np.ndarray:
            if len(self.points) < STARTUP:
                return truth.axes.spread(sequence.random(BATCH))
            wrong = reader.wrong(self.points, self.labels)
            weight = clear * wrong if wrong.sum() >= BATCH else clear
            return truth.lattice[rng.choice(len(weight), BATCH, replace=False, p=weight / weight.sum())]

        return ask

    def tpe(self, repeat: int) -> Callable[[], np.ndarray]:
        """The usual tuner, which minimizes the step at which a trial groks."""
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=repeat, n_startup_trials=STARTUP))
        space: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(0, 1) for name in self.truth.axes.names
        }
        waiting: list[optuna.Trial] = []

        def ask() -> np.ndarray:
            for trial, steps in zip(waiting, self.steps[-BATCH:], strict=False):
                study.tell(trial, float(steps))
            waiting[:] = [study.ask(space) for _ in range(BATCH)]
            return self.truth.axes.snap(np.array([[t.params[n] for n in space] for t in waiting]))

        return ask


REFERENCES = ("grid drawn", "grid like for like")
STRATEGIES = ("boundary", "boundary_stacks", "neighbors", "oracle", "sobol", "random", "tpe")


def checkpoints(most: int) -> Iterator[int]:
    n = 16
    while n <= most:
        yield n
        n += 8 if n < 96 else 16 if n < 256 else 32 if n < 512 else 64


def replay(truth: Truth, strategy: str, repeat: int, most: int, enough: float) -> Iterator[Row]:
    """A row per checkpoint, until three in a row are at or below ``enough`` or ``most`` trials are spent."""
    run, reader, good = Replay(truth, strategy, repeat), Reader(truth), 0
    for n in checkpoints(most):
        while len(run.points) < n:
            run.advance()
        error = float(reader.wrong(run.points[:n], run.labels[:n]).mean())
        yield _row(truth, strategy, repeat, n, error, run.steps[:n].sum())
        good = good + 1 if error <= enough else 0
        if good == 3:
            return


def references(truth: Truth, repeats: int) -> Iterator[Row]:
    """The grid of 16 x 16 points x 3 seeds, drawn cell by cell and read with the map."""
    lines = [a.positions if a.choices else (np.arange(16) + 0.5) / 16 for a in truth.axes.axes]
    cells = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(lines))
    nearest = cdist(truth.lattice, cells).argmin(1)
    for repeat in range(repeats):
        draw = truth.draws(np.random.default_rng([repeat, 2]))
        points = np.tile(cells, (3, 1))
        labels, steps = draw(points)
        votes = np.eye(truth.phases)[labels].reshape(3, len(cells), -1).sum(0)
        drawn = float((votes.argmax(1)[nearest] != truth.likeliest).mean())
        read = float(Reader(truth).wrong(points, labels).mean())
        for name, error in zip(REFERENCES, (drawn, read), strict=True):
            yield _row(truth, name, repeat, len(points), error, steps.sum())


def _row(truth: Truth, strategy: str, repeat: int, trials: int, error: float, steps: float) -> Row:
    return {
        "truth": truth.name,
        "strategy": strategy,
        "repeat": repeat,
        "trials": trials,
        "error": round(error, 5),
        "steps": round(steps),
    }


def needed(run: pd.DataFrame, enough: float) -> tuple[float, float]:
    """Trials and steps until the error is ``enough`` and stays so for two more checkpoints, inf if it never is."""
    run = run.sort_values("trials")
    error = run.error.to_numpy()
    for i, (trials, steps) in enumerate(zip(run.trials[:-2], run.steps[:-2], strict=True)):
        if error[i] <= enough and np.median(error[i : i + 3]) <= enough:
            return float(trials), float(steps)
    return np.inf, np.inf


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Trials and optimizer steps needed: a line for each truth, reference and strategy."""
    lines = []
    for truth, table in rows.groupby("truth", sort=False):
        grids = table[table.strategy.str.startswith("grid")]
        for reference, grid in grids.groupby("strategy", sort=False):
            enough, trials, steps = grid.error.median(), grid.trials.iloc[0], grid.steps.median()
            for strategy, runs in table.drop(grids.index).groupby("strategy", sort=False):
                got = np.array([needed(run, enough) for _, run in runs.groupby("repeat")])
                cost = np.quantile(got[:, 1], 0.5, method="nearest")
                low, middle, high = np.quantile(got[:, 0], [0.25, 0.5, 0.75], method="nearest")
                lines.append(
                    {
                        "truth": truth,
                        "reference": f"{reference} {enough:.4f}",
                        "strategy": strategy,
                        "trials": middle if np.isfinite(middle) else f">{runs.trials.max()}",
                        "quartiles": f"{low:g}-{high:g}",
                        "times fewer": f"{trials / middle:.1f}" if np.isfinite(middle) else "-",
                        "times fewer steps": f"{steps / cost:.1f}" if np.isfinite(cost) else "-",
                        "reached": f"{np.isfinite(got[:, 0]).mean():.0%} of {len(got)}",
                    }
                )
    return pd.DataFrame(lines)


def measure(truth: Truth, strategies: list[str], repeats: int, most: int) -> Iterator[list[Row]]:
    """The rows of the references, then those of each strategy."""
    rows = list(references(truth, repeats))
    enough = float(np.median([r["error"] for r in rows if r["strategy"] == REFERENCES[1]]))
    yield rows
    for strategy in strategies:
        began = time.time()
        limit = min(most, GIVES_UP.get(strategy, most))
        yield [row for repeat in range(repeats) for row in replay(truth, strategy, repeat, limit, enough)]
        print(f"{truth.name} {strategy}: {time.time() - began:.0f} s", flush=True)


def ask_time(known: int = 1000, asked: int = 200) -> None:
    """Prints core milliseconds per trial: known trials of ``four`` at random points, results given after each ask."""
    truth = four()
    for batch in (1, BATCH):
        draw, planner = truth.draws(np.random.default_rng(0)), Planner(truth.axes)
        points = np.random.default_rng(1).random((known, 2))
        labels, spent = draw(points)[0], []
        while len(points) < known + asked:
            began = time.process_time()
            fresh = planner.ask(batch, points, labels)
            spent.append(1e3 * (time.process_time() - began) / batch)
            points, labels = np.concatenate([points, fresh]), np.concatenate([labels, draw(fresh)[0]])
        print(
            f"{batch} at a time: mean {np.mean(spent):.1f} ms, median {np.median(spent):.1f}, most {np.max(spent):.1f}"
        )


def islands(repeats: int = 24) -> None:
    """Prints how often a trial has met a disc of phase 1 left of a sharp straight boundary, which draws trials off."""
    for area, strategy in itertools.product((0.02, 0.05), ("boundary", "sobol")):
        met = {64: 0, 96: 0, 128: 0}
        for repeat in range(repeats):
            rng = np.random.default_rng([7, repeat])
            center = np.array([rng.uniform(0.12, 0.5), rng.uniform(0.12, 0.88)])
            run = Replay(_disc(center, math.sqrt(area / math.pi)), strategy, repeat)
            for trials in met:
                while len(run.points) < trials:
                    run.advance()
                met[trials] += bool(run.labels[run.points[:, 0] < 0.7].any())
        print(f"{area:.0%} of the area, {strategy}: " + ", ".join(f"{m} of {repeats} at {n}" for n, m in met.items()))


def _disc(center: np.ndarray, radius: float) -> Truth:
    def chance(points: np.ndarray) -> np.ndarray:
        learned = (points[:, 0] > 0.72) | (np.hypot(*(points - center).T) < radius)
        return np.stack([~learned, learned], 1).astype(float)

    return _smooth_truth("disc", chance, lambda points, phase: np.full(len(points), BUDGET))


def _last(results: Path) -> list[Row]:
    return pd.read_csv(results).to_dict("records") if results.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truths", nargs="*", default=["band", "four", *PUBLISHED])
    parser.add_argument("--dense", type=Path, nargs="*", default=[], help="tables of real runs, used as truths too")
    parser.add_argument("--strategies", nargs="*", default=["boundary", "sobol", "random", "tpe"], choices=STRATEGIES)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--most", type=int, default=768, help="trials at which a replay gives up")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    parser.add_argument("--ask-time", action="store_true", help="only measure the time of an ask")
    parser.add_argument("--islands", action="store_true", help="only measure how often small regions are met")
    settings = parser.parse_args()
    if settings.ask_time or settings.islands:
        (ask_time if settings.ask_time else islands)()
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = {"band": band, "four": four}
    truths = [] if settings.report else [*settings.truths, *settings.dense]
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    named, again = {Path(name).stem for name in truths}, {*settings.strategies, *REFERENCES}
    rows = [row for row in _last(settings.out) if row["truth"] not in named or row["strategy"] not in again]
    for name in truths:
        truth = dense(name) if isinstance(name, Path) else made[name]() if name in made else published(name)
        for more in measure(truth, settings.strategies, settings.repeats, settings.most):
            rows += more
            pd.DataFrame(rows).to_csv(settings.out, index=False)  # at every step: a stopped run keeps what it has
    print(summarize(pd.read_csv(settings.out)).to_string(index=False))


if __name__ == "__main__":
    main()
