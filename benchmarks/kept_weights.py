"""What keeping weights costs: the same sweep with and without, one after the other, in one process.

    python benchmarks/kept_weights.py [--rounds 3] [--steps 200] [--keep final]

Runs the 200 trials of search_spaces/wd_width.py, shortened to so many steps so that keeping weighs more than it would,
each time into an empty MLflow store. Prints seconds (wall, and of this process's processors, which other programs
disturb less) and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import phasemap
from phasemap.plan.space import Space, load


def main() -> None:
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
            print(f"{keep or 'nothing'} kept: {wall:.1f} s, {processor:.1f} s of processors", flush=True)
    for i, what in enumerate(("wall", "processors")):
        plain, kept = (statistics.median(one[i] for one in times) for times in spent.values())
        print(f"{what}: {plain:.1f} s without, {kept:.1f} s with {arguments.keep}: {kept / plain:.3f} times as long")


def _swept(space: Space, keep: str, storage: str) -> tuple[float, float]:
    """Seconds of the whole sweep."""
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
