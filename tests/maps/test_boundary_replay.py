"""The arithmetic of benchmarks/boundary.py and boundary_live.py; the replay only as far as it takes to run."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    return loaded("boundary", monkeypatch)


def loaded(name, monkeypatch):
    """A benchmark, which stands beside those that it uses."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(name)


@pytest.fixture
def table(tmp_path):
    """24 weight decays x 4 widths x 5 seeds, learning above a weight decay that grows with the width."""
    rows = [
        {"weight_decay": 10 ** (-3 + i / 6), "width": 16 * 2**j, "seed": s, "phase": phase, "steps_run": 100 * s}
        for i in range(24)
        for j in range(4)
        for s in range(5)
        for phase in (["memorization", "grokking"][i > 6 + 3 * j],)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "dense.csv", index=False)
    return tmp_path / "dense.csv"


def test_trials_needed_is_the_first_checkpoint_that_stays_good(bench):
    run = pd.DataFrame({"trials": [16, 24, 32, 40, 48], "steps": [1, 2, 3, 4, 5], "error": [0.3, 0.1, 0.3, 0.1, 0.1]})
    assert bench.needed(run, 0.2) == (24, 2)
    assert bench.needed(run, 0.05) == (np.inf, np.inf)
    assert bench.needed(run.assign(error=[0.3, 0.1, 0.3, 0.3, 0.1]), 0.2) == (np.inf, np.inf)


def test_a_dense_table_gives_every_run_once_and_from_the_cell_asked_for(bench, table):
    truth = bench.dense(table)
    assert truth.likeliest.reshape(24, 4).sum(0).tolist() == [7, 10, 13, 16]  # memorization is phase 1
    draw = truth.draws(np.random.default_rng(0))
    cell = np.repeat(truth.lattice[:1], 5, axis=0)
    _, steps = draw(cell)
    assert sorted(steps) == [0, 100, 200, 300, 400]
    phases, _ = draw(np.repeat(truth.lattice, 5, axis=0)[:-5])
    assert len(phases) == 475


@pytest.mark.parametrize("strategy", ["boundary", "boundary_stacks", "neighbors", "sobol", "random", "tpe"])
def test_every_strategy_replays_a_dense_table(bench, table, strategy):
    rows = list(bench.replay(bench.dense(table), strategy, 0, 32, 0.0))
    assert [row["trials"] for row in rows] == [16, 24, 32]
    assert all(0 <= row["error"] < 0.5 for row in rows)


@pytest.mark.parametrize("name", ["band", "four", "liu_add_r", "liu_add_c", "liu_add_r_reprlr"])
def test_every_truth_draws_its_likeliest_phase_most_of_the_time(bench, name):
    truth = getattr(bench, name)() if name in ("band", "four") else bench.published(name)
    phases, steps = truth.draws(np.random.default_rng(0))(truth.lattice)
    assert (phases == truth.likeliest).mean() > 0.8
    assert steps.min() > 0
    assert steps.max() <= bench.BUDGET


def test_a_drawn_grid_is_a_worse_map_than_the_same_grid_read_with_the_map(bench):
    rows = pd.DataFrame(bench.references(bench.band(), 2))
    error = rows.groupby("strategy").error.median()
    assert error["grid like for like"] < error["grid drawn"]
    assert (rows.trials == 768).all()


def test_a_live_sweep_is_judged_cell_by_cell_against_the_dense_table(table, monkeypatch):
    live = loaded("boundary_live", monkeypatch)
    monkeypatch.setattr(live, "DENSE", table)
    every = pd.read_csv(table)
    assert live.judged(every) == (0, 0)
    coarse = every[every.weight_decay.isin(sorted(every.weight_decay.unique())[::6])]
    read, drawn = live.judged(coarse)
    assert 0 < read < 0.1
    assert 0 < drawn < 0.2
    assert live.judged(every.assign(phase="grokking"))[0] == pytest.approx(46 / 96)
