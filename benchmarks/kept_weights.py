"""What keeping weights costs: the same sweep with and without, one after the other, in one process.

    python benchmarks/kept_weights.py [--rounds 3] [--steps 200] [--keep final]

Runs the 200 trials of search_spaces/wd_width.py, shortened to so many steps so that keeping weighs more than it would,
each time into an empty MLflow store. Prints seconds (wall, and of this process's processors, which other programs
disturb less), the ratio of the medians, and the seconds that writing the files took, which is most of the difference.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import phasemap
from phasemap.plan.space import Space
from phasemap.plan.space_file import load
from phasemap.training import weights

writing: list[float] = []  # seconds of each file of the last sweep


def main() -> None:
    weights.save = _timed(weights.save)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--keep", default="final")
    parser.add_argument("--storage", default=tempfile.gettempdir())
    arguments = parser.parse_args()
    space = load(Path("search_spaces/wd_width.py")).override(
        [f"steps={arguments.steps}", "evaluate_every=100", "probe_every=100"]
    )
    _swept(space, "", arguments.storage)  # what is built once
    spent: dict[str, list[tuple[float, float]]] = {"": [], arguments.keep: []}
    for turn in range(arguments.rounds):
        for keep in list(spent)[:: 1 if turn % 2 else -1]:
            spent[keep].append(_swept(space, keep, arguments.storage))
            wall, processor = spent[keep][-1]
            files = f"{len(writing)} files in {sum(writing):.2f} s"
            print(f"{keep or 'nothing'} kept: {wall:.1f} s, {processor:.1f} s of processors, {files}", flush=True)
    for i, what in enumerate(("wall", "processors")):
        plain, kept = (statistics.median(one[i] for one in times) for times in spent.values())
        print(f"{what}: {plain:.1f} s without, {kept:.1f} s with {arguments.keep}: {kept / plain:.3f} times as long")


def _timed(save: Callable[..., None]) -> Callable[..., None]:
    def timed(*arguments: Any) -> None:
        start = time.perf_counter()
        save(*arguments)
        writing.append(time.perf_counter() - start)

    return timed


def _swept(space: Space, keep: str, storage: str) -> tuple[float, float]:
    """Seconds of the whole sweep."""
    writing.clear()
    with tempfile.TemporaryDirectory(dir=storage) as folder, contextlib.redirect_stdout(io.StringIO()):
        uri = f"sqlite:///{folder}/mlflow.db"
        own = {"tracking_uri": uri, "storage": f"{folder}/data", "local": True, "figures": False}
        wall, processor = time.perf_counter(), time.process_time()
        status = phasemap.run(space, "kept", keep_weights=keep, **own).status
        spent = time.perf_counter() - wall, time.process_time() - processor
        files = list(Path(folder).glob("data/*/weights/*/*.safetensors"))
        if status or bool(files) != bool(keep):
            raise SystemExit(f"must record and keep, got status {status} and {len(files)} files")
    return spent


if __name__ == "__main__":
    main()
