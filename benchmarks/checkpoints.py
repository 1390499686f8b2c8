"""What a checkpoint costs: milliseconds for a whole stack, and its share of the time at the usual cadence.

    python benchmarks/checkpoints.py [search_spaces/wd_width.py ...] [--storage FOLDER]

Saves the most expensive stack of each search space as a sweep on two cores would make it, after some steps.
The share is that of one checkpoint in 60 s, or in 50 times its own cost if that is longer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from phasemap.plan.space_file import load
from phasemap.plan.stack import Plan
from phasemap.scheduling.worker import CHECKPOINT_SHARE
from phasemap.training.checkpoint import Storage
from phasemap.training.train import Training, begin

EVERY = 60.0  # seconds, the command's default


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    spaces = [Path("search_spaces") / f"{name}.py" for name in ("wd_width", "liu_phase_diagram", "seeds_takeover")]
    parser.add_argument("spaces", type=Path, nargs="*", default=spaces)
    parser.add_argument("--storage", default=tempfile.gettempdir())
    arguments = parser.parse_args()
    for path in arguments.spaces:
        space = load(path)
        stack = Plan().stacks(space.trials())[0]
        training = begin(stack.trials)
        training.advance(10)
        with tempfile.TemporaryDirectory(dir=arguments.storage) as folder:
            costs = [_save(Storage(folder), training) for _ in range(5)]
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        cost = statistics.median(costs)
        share = cost / max(EVERY, cost / CHECKPOINT_SHARE)
        print(f"{path.stem}: {len(stack.trials)} trials, {size:.1f} MB, {1e3 * cost:.0f} ms, {share:.2%} of the time")


def _save(storage: Storage, training: Training) -> float:
    start = time.perf_counter()
    storage.save(training)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
