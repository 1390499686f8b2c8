"""Contenders that take turns on one core, each in a process of its own, and the table and file of their rates.

Memory is not shared, so no contender trains in the heap that another has torn up, and what slows the machine down for a
while slows all of them down. Rates are per second of processor time.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"

Go = Callable[[], int]  # trains for a moment; returns the trial-steps it took
Rates = dict[str, list[float]]  # of each contender, a rate for each round
Row = dict[str, float | str]


def rate(go: Go, seconds: float) -> float:
    """Trial-steps per second of processor time."""
    start, done = time.process_time(), 0
    while time.process_time() - start < seconds:
        done += go()
    return done / (time.process_time() - start)


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def middle(by_name: Rates) -> Row:
    """The median rate of each."""
    return {name: round(statistics.median(rates), 1) for name, rates in by_name.items()}


def main(
    file: str,
    doc: str | None,
    models: Sequence[str],
    names: Sequence[str],
    contender: Callable[[int, str], Go],
    row: Callable[[int, Rates], Row],
) -> None:
    """The command of a benchmark.

    Args:
        file: of the benchmark; its results have its name.
        models: of each case, "mlp" or "transformer".
        names: of the contenders.
        contender: makes one, of a case's number and a name.
        row: of the table, of a case's number and the rates.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("mlp", "transformer"))
    parser.add_argument("--contend", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contend:
        number, name = arguments.contend
        return _contend(contender, int(number), name, arguments.seconds)
    rows = []
    for number, model in enumerate(models):
        if arguments.only in (None, model):
            rows.append(row(number, _rates(file, number, names, arguments.seconds, arguments.rounds)))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{Path(file).stem}.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _contend(contender: Callable[[int, str], Go], number: int, name: str, seconds: float) -> None:
    """One contender in this process: a line in, seconds of training, its rate out."""
    torch.set_num_threads(1)
    go = contender(number, name)
    go(), go()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(rate(go, seconds), flush=True)


def _rates(file: str, number: int, names: Sequence[str], seconds: float, rounds: int) -> Rates:
    command = [sys.executable, file, "--seconds", str(seconds), "--contend", str(number)]
    processes = {}
    rates: Rates = {name: [] for name in names}
    for name in names:  # one after the other, so that compiling disturbs nobody
        processes[name] = subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert _line(processes[name]) == "ready\n", name
    for _ in range(rounds):
        for name, process in processes.items():
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
            rates[name].append(float(_line(process)))
    for process in processes.values():
        process.communicate()
    return rates


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()
