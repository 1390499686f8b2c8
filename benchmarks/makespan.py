"""How long sweeps take on clusters of all kinds, simulated: work cut when a slot is free, beside work cut before.

    python benchmarks/makespan.py [--only "8 GPUs"]

Every device has a given curve, seconds of a step = begin + size x each; a slot that is free asks ``Cutting`` as the
queue of a sweep does, and a stack whose node dies comes back whole, its work lost. "before" is the plan that cut all
stacks in advance: a quarter of a slot's share at most, at a GPU's best size wherever there was one. No stack can beat
the lower bound: every slot at its best rate all the time (a linear program over shapes), as many trials in flight as
there are, and the longest trial alone on the fastest slot. Times are in seconds of the simulated clock.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog

from phasemap.plan.stack import Stack
from phasemap.plan.trial import Trial
from phasemap.scheduling.cutting import Cutting, Rates, Slot

CPU, GPU, OLD_GPU = "cpu", "cuda", "old cuda"
BEGIN = {CPU: 4e-4, GPU: 1.2e-3, "cuda 2": 1.2e-3, "cuda 3": 1.5e-3, OLD_GPU: 2e-3}  # seconds
EACH = {CPU: 4e-4, GPU: 8e-6, "cuda 2": 1.2e-5, "cuda 3": 1.8e-5, OLD_GPU: 3e-5}  # seconds for width 32
LARGEST = {CPU: 32}
GPU_LARGEST = 512
MLP = Trial(model="mlp", modulus=59, depth=1, width=32, steps=2_000)


@dataclass(frozen=True)
class Machine:
    """A slot: from when to when it is there."""

    device: str
    joins: float = 0.0
    dies: float = math.inf


@dataclass(frozen=True)
class Case:
    """A job: trials on machines."""

    name: str
    machines: tuple[Machine, ...]
    trials: tuple[Trial, ...]


def guess(trial: Trial, size: int, device: str) -> float:
    """Seconds of a step of a stack."""
    return BEGIN[device] + size * EACH[device] * (trial.width / 32) ** 1.5


def largest(trial: Trial, device: str) -> int:
    return LARGEST.get(device, GPU_LARGEST)


def many(count: int, trial: Trial = MLP) -> tuple[Trial, ...]:
    return tuple(trial.replace(seed=seed) for seed in range(count))


def cases() -> list[Case]:
    cores, eight = (Machine(CPU),) * 16, (Machine(GPU),) * 8
    unequal = tuple(Machine(device) for device in (GPU, "cuda 2", "cuda 3", OLD_GPU))
    shapes = tuple(t for width in (16, 32, 48, 64, 96) for t in many(200, MLP.replace(width=width)))
    long, short = MLP.replace(steps=100_000), MLP.replace(steps=200)
    return [
        Case("1 GPU + 16 cores", (Machine(GPU), *cores), many(4_000)),
        Case("1 GPU + 16 cores, 200 trials", (Machine(GPU), *cores), many(200)),
        Case("8 GPUs", eight, many(10_000)),
        Case("4 unequal GPUs", unequal, many(6_000)),
        Case("64 CPU slots", (Machine(CPU),) * 64, many(2_000)),
        Case("a GPU joins half-way", (*cores, Machine(GPU, joins=60.0)), many(2_500)),
        Case("one of 8 GPUs dies", (*eight[1:], Machine(GPU, dies=20.0)), many(30_000)),
        Case("few long trials, 8 GPUs", eight, many(12, long)),
        Case("few long trials, 1 GPU + 16 cores", (Machine(GPU), *cores), many(12, long)),
        Case("many short trials, 64 CPU slots", (Machine(CPU),) * 64, many(20_000, short)),
        Case("five shapes, 1 GPU + 16 cores", (Machine(GPU), *cores), shapes),
        Case("five shapes, 4 unequal GPUs", unequal, shapes),
        Case("five shapes, 64 CPU slots", (Machine(CPU),) * 64, shapes),
    ]


Take = Callable[[list[Slot], int], Stack | None]


@dataclass
class Cluster:
    """Machines at work on a simulated clock."""

    machines: tuple[Machine, ...]
    clock: float = 0.0
    running: dict[int, tuple[Stack, float]] = field(default_factory=dict)  # machine -> stack, its end

    def run(self, take: Take, back: Callable[[Stack], None]) -> float:
        """Until nothing runs and nothing comes. Returns when the last stack ended."""
        last, moments = 0.0, sorted({m.joins for m in self.machines} | {m.dies for m in self.machines})
        while True:
            self._start(take)
            ends = [end for _, end in self.running.values()]
            coming = [moment for moment in moments if self.clock < moment < math.inf]
            if not ends:
                return last
            self.clock = min(ends + coming)
            for i, (stack, end) in list(self.running.items()):
                if end <= self.clock:
                    last = max(last, end)
                elif self.machines[i].dies <= self.clock:
                    back(stack)
                else:
                    continue
                del self.running[i]

    def _start(self, take: Take) -> None:
        there = [i for i, machine in enumerate(self.machines) if machine.joins <= self.clock < machine.dies]
        for i in there:
            if i in self.running:
                continue
            slots = [Slot(self.machines[j].device, self._free(j)) for j in there]
            stack = take(slots, there.index(i))
            if stack:
                spent = guess(stack.trials[0], len(stack.trials), self.machines[i].device) * stack.trials[0].steps
                self.running[i] = stack, self.clock + spent

    def _free(self, machine: int) -> float:
        return self.running[machine][1] - self.clock if machine in self.running else 0.0


def cut_when_free(case: Case) -> float:
    cutting = Cutting(Rates(guess, largest), lambda trial: False)
    cutting.put(case.trials)
    seconds = Cluster(case.machines).run(cutting.cut, lambda stack: cutting.put(stack.trials))
    assert not cutting.waiting
    return seconds


def cut_before(case: Case) -> float:
    """All stacks in advance, for the slots there are at the start."""
    first = [machine for machine in case.machines if not machine.joins]
    device = next((machine.device for machine in first if machine.device != CPU), CPU)
    even = max(1, -(-len(case.trials) // (4 * len(first))))
    stacks = []
    for same in by_shape(case.trials):
        most = min(largest(same[0], device), even)
        count = -(-len(same) // most)
        stacks += [Stack(tuple(same[i::count])) for i in range(count)]
    queue = deque(sorted(stacks, key=lambda stack: -stack.trials[0].width * stack.trial_steps))
    return Cluster(case.machines).run(lambda slots, i: queue.popleft() if queue else None, queue.appendleft)


def by_shape(trials: Iterable[Trial]) -> list[list[Trial]]:
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.shape, []).append(trial)
    return list(groups.values())


def lower_bound(case: Case) -> float:
    """Nothing ends sooner, however it is cut."""
    shapes = by_shape(case.trials)
    alone = max(min(guess(same[0], 1, m.device) for m in case.machines) * same[0].steps for same in shapes)
    bounds = [alone, _at_best_rates(case.machines, shapes)]
    if len(shapes) == 1:
        bounds.append(_in_flight(case.machines, shapes[0]))
    return max(bounds)


def _rate(trial: Trial, size: int, device: str) -> float:
    """Trials per second."""
    return size / guess(trial, size, device) / trial.steps if size else 0.0


def _at_best_rates(machines: tuple[Machine, ...], shapes: list[list[Trial]]) -> float:
    """Least T such that the machines, each sharing its time between the shapes, can do all."""
    count, kinds = len(machines), len(shapes)
    best = np.array(
        [[_rate(s[0], min(len(s), largest(s[0], m.device)), m.device) for s in shapes] for m in machines]
    )  # rates rise with the size
    share = np.kron(np.eye(count), np.ones(kinds))  # time of each machine
    done = -np.hstack([np.diag(best[i]) for i in range(count)])
    there = np.array([m.dies - m.joins for m in machines])
    rows = np.vstack(
        [
            np.hstack([share, -np.ones((count, 1))]),
            np.hstack([done, np.zeros((kinds, 1))]),
            np.hstack([share, np.zeros((count, 1))]),
        ]
    )
    limits = np.concatenate([[-m.joins for m in machines], [-len(s) for s in shapes], there])
    kept = np.isfinite(limits)
    goal = np.zeros(count * kinds + 1)
    goal[-1] = 1
    return float(linprog(goal, rows[kept], limits[kept]).fun)


def _in_flight(machines: tuple[Machine, ...], same: list[Trial]) -> float:
    """No more trials than there are can be in flight: the best rate of all machines that they can be spread for."""
    sizes = [0] * len(machines)
    gains = [_rate(same[0], 1, m.device) for m in machines]
    rate = 0.0
    for _ in same:
        i = int(np.argmax(gains))
        if gains[i] <= 0:
            break
        rate, sizes[i] = rate + gains[i], sizes[i] + 1
        room = sizes[i] < largest(same[0], machines[i].device)
        now, then = (_rate(same[0], sizes[i] + more, machines[i].device) for more in (0, 1))
        gains[i] = then - now if room else 0.0
    return len(same) / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    worst = 0.0
    print(f"{'':<36}{'bound':>9}{'cut when free':>15}{'over bound':>12}{'cut before':>12}{'over bound':>12}")
    for case in cases():
        if only in case.name:
            bound, ours, before = lower_bound(case), cut_when_free(case), cut_before(case)
            worst = max(worst, ours / bound)
            print(
                f"{case.name:<36}{bound:9.1f}{ours:15.1f}{ours / bound:12.2f}{before:12.1f}{before / bound:12.2f}",
                flush=True,
            )
    print(f"worst makespan over lower bound: {worst:.2f}")


if __name__ == "__main__":
    main()
