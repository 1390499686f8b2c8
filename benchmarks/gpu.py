"""Everything a GPU is asked, in one command of at most nine minutes: torch and numpy alone.

    python benchmarks/gpu.py [--minutes 9] [--cpu] [--only "mlp 32"]

For each network: trial-steps per second against K, beside the published loop and the best plain loop on the same
device; the share of the fp32 peak (measured by one large product); kernel launches a step; memory; whether a trial is
the same to the last bit alone and in a stack; the same rates in tf32 and bf16. Prints a table, and writes
benchmarks/results/gpu.csv after every row, so that a run that is cut off has given what it had. Without a GPU it says
so and ends; with ``--cpu`` it then runs once through on the CPU, small, to show that nothing is missing.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import loops
import torch
from launches import Counted
from speed import nominal

from phasemap.plan.trial import Trial, make_trial
from phasemap.training.train import AHEAD, Training, begin

RESULTS = Path(__file__).parent / "results" / "gpu.csv"
SIZES = (1, 4, 16, 64, 128, 256, 512)
NETWORKS = {
    **{f"mlp {w}": {"model": "mlp", "width": w, "depth": 1, "modulus": 59} for w in (32, 128, 512)},
    **{f"transformer {w}": {"model": "transformer", "width": w, "modulus": 97} for w in (32, 64, 128, 256)},
}
COLUMNS = (
    "device", "network", "what", "precision", "K", "trial-steps/s", "x published", "x plain", "share of fp32 peak",
    "launches a step", "GiB", "host share", "same bits",
)  # fmt: skip


def trials(name: str, count: int, precision: str = "fp32") -> tuple[Trial, ...]:
    shared = {"data_fraction": 0.4, "steps": 1_000_000, "evaluate_every": 1_000_000, "precision": precision}
    trial = make_trial({**shared, **NETWORKS[name]})
    return tuple(trial.replace(seed=seed) for seed in range(count))


class Bench:
    """One device, and a deadline that every measurement keeps."""

    def __init__(self, device: str, seconds: float, sizes: tuple[int, ...], patience: float):
        self.device, self.sizes, self.patience = torch.device(device), sizes, patience
        self.end = time.monotonic() + seconds
        self.name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        self.rows: list[dict[str, object]] = []

    def late(self) -> bool:
        return time.monotonic() > self.end

    def steps(self) -> int:
        """Taken in one go: as many as a sweep's."""
        return AHEAD if self.device.type == "cuda" else 2

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, go: Callable[[], int]) -> tuple[float, float]:
        """Steps per second, and the host's processor time over the time; warmed up by two calls."""
        go(), go()
        self.wait()
        start, host, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < self.patience:
            done += go()
            self.wait()
        spent = time.perf_counter() - start
        return done / spent, (time.process_time() - host) / spent

    def add(self, **row: object) -> None:
        self.rows.append({"device": self.name, **row})
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        target = RESULTS if self.device.type == "cuda" else RESULTS.with_name("gpu_cpu.csv")
        with target.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def peak(self) -> float:
        """Multiply-adds per second of a large fp32 product."""
        size = 8192 if self.device.type == "cuda" else 1024
        a = torch.randn(size, size, device=self.device)
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        return self.rate(lambda: 0 * len(a @ a) + 1)[0] * size**3

    def everything(self, networks: list[str]) -> None:
        """What costs least first, for every network; what compiles last: the deadline may cut it off."""
        peak = self.peak()
        print(f"{self.name}: {2 * peak / 1e12:.2f} TFLOP/s in fp32, by a product of large matrices")
        base = {name: (self.loop(name, "published loop", loops.published), self.plain(name)) for name in networks}
        if self.device.type == "cpu":  # so short that a ratio would mislead
            base = dict.fromkeys(networks, (float("nan"), float("nan")))
        for precision, compiled, sizes in (
            ("fp32", False, self.sizes),
            ("tf32", False, self.sizes[-2:]),
            ("bf16", False, self.sizes[-2:]),
            ("fp32", True, self.sizes[-3:]),
        ):
            for name in networks:
                for size in sizes:
                    if not self.late():
                        self.stack(name, size, precision, compiled, *base[name], peak)
                if precision == "fp32" and not compiled and not self.late():
                    self.add(network=name, what="a trial alone and in a stack", **{"same bits": self.same(name)})
        for name in networks:
            self.loop(name, "plain loop, compiled", partial(loops.plain, compiled=True))

    def plain(self, name: str) -> float:
        return self.loop(name, "plain loop", loops.plain)

    def loop(self, name: str, what: str, make: Callable[..., Iterator[None]]) -> float:
        if self.late():
            return float("nan")
        try:
            steps = make(trials(name, 1)[0], device=self.device.type)
            speed, host = self.rate(lambda: next(steps) or 1)
        except Exception as error:  # a loop that does not run costs its row
            self.add(network=name, what=f"{what}: {type(error).__name__}")
            return float("nan")
        self.add(
            network=name,
            what=what,
            precision="fp32",
            **{"trial-steps/s": round(speed, 1), "host share": round(host, 3)},
        )
        return speed

    def stack(
        self, name: str, size: int, precision: str, compiled: bool, published: float, plain: float, peak: float
    ) -> None:
        what = "stack, compiled" if compiled else "stack, eager"
        row: dict[str, object] = {"network": name, "what": what, "precision": precision, "K": size}
        try:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            training = begin(trials(name, size, precision), self.device, compiled)
            speed, host = self.rate(partial(self.block, training))
            row["trial-steps/s"], row["host share"] = round(speed * size, 1), round(host, 3)
            row["x published"], row["x plain"] = round(speed * size / published, 2), round(speed * size / plain, 2)
            row["share of fp32 peak"] = round(speed * size * nominal(training.trials[0]) / peak, 3)
            if self.device.type == "cuda":
                row["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
            if self.device.type == "cuda" or not compiled:
                row["launches a step"] = round(self.launches(training), 1)
            if compiled and not training.compiled:
                row["what"] = "stack, not compiled after all"
        except Exception as error:  # out of memory, or no compiler: reported, and the rest goes on
            row["what"] = f"{what}: {type(error).__name__}: {str(error)[:80]}"
        self.add(**row)

    def block(self, training: Training) -> int:
        training.advance(training.step + self.steps())
        return self.steps()

    def launches(self, training: Training) -> float:
        """What the host issues: kernels counted by the profiler on a GPU, operations on a CPU."""
        if self.device.type != "cuda":
            with Counted() as counted:
                steps = self.block(training)
            return counted.operations / steps
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            steps = self.block(training)
            self.wait()
        names = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx", "cudaGraphLaunch")
        return sum(event.count for event in seen.key_averages() if event.key in names) / steps

    def same(self, name: str) -> str:
        """Whether trial 0 has the same weights alone and in stacks after some steps, or how far it is off."""
        alone = begin(trials(name, 1), self.device)
        steps = 2 * self.steps()
        alone.advance(steps)
        comparisons = []
        for size in (2, 16, self.sizes[-1]):
            stacked = begin(trials(name, size), self.device)
            stacked.advance(steps)
            off = (stacked.flat[0] - alone.flat[0]).abs().max().item()
            comparisons.append(f"{size}: {'same' if off == 0 else f'{off:.1e} off'}")
        again = begin(trials(name, 1), self.device)
        again.advance(steps)
        comparisons.append(f"twice: {'same' if torch.equal(again.flat, alone.flat) else 'not the same'}")
        return ", ".join(comparisons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--cpu", action="store_true", help="without a GPU: run once through on the CPU, small")
    parser.add_argument("--only", choices=NETWORKS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        if not arguments.cpu:
            return
    if torch.cuda.is_available():
        bench = Bench("cuda", 60 * arguments.minutes - 20, SIZES, patience=0.7)
    else:
        bench = Bench("cpu", min(60 * arguments.minutes, 120), (1, 2), patience=0.05)
    bench.everything([arguments.only] if arguments.only else list(NETWORKS))


if __name__ == "__main__":
    main()
