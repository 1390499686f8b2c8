"""How much of the waiting work a free slot takes. Pure arithmetic: no tensors, no clock, no Ray.

A stack of K trials takes a step in ``seconds(K)``, which differs by shape and device and is learned from reports. What
waits would end first at some time T if every slot, the busy ones from when they are free, took as many trials as it
can end until then; bisection gives T, and the slot that asks takes its share. So stacks have the size that is
best on their device while much is left, shrink toward the end so that all slots end together, and a slot that is too
slow to end one trial before T gets none. A trial's numbers do not depend on its stack: cutting is free to choose.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, exp, inf, log

from phasemap.plan.stack import Plan, Stack, prior
from phasemap.plan.trial import Shape, Trial

Key = tuple[Shape, int]  # a shape, and how often stacks of these trials have failed
Shares = list[list[tuple[Key, int]]]  # of each slot: how many trials of what

STEPS = 40  # of a bisection
CLOSE = 1e-3  # of T


@dataclass(frozen=True)
class Curve:
    """What a slot can do with one shape: seconds of a whole trial in stacks of 1, 2, … up to the best size."""

    seconds: tuple[float, ...]  # rising

    @property
    def best(self) -> int:
        return len(self.seconds)

    @property
    def rate(self) -> float:
        """Trials per second in stacks of the best size."""
        return self.best / self.seconds[-1]

    def capacity(self, window: float) -> int:
        """Trials that end within so many seconds."""
        if window <= 0:
            return 0
        full = int(window / self.seconds[-1] + 1e-9)
        return full * self.best + bisect_right(self.seconds, window - full * self.seconds[-1])

    def stacks(self, trials: int) -> int:
        return ceil(trials / self.best)

    def duration(self, trials: int) -> float:
        """Seconds until so many trials have ended, in stacks of one size."""
        if not trials:
            return 0.0
        count = self.stacks(trials)
        smaller, larger = trials // count, trials % count
        short = self.seconds[smaller - 1] * (count - larger)
        return short + (self.seconds[smaller] * larger if larger else 0.0)


@dataclass
class Seen:
    """What was reported of a shape on a device."""

    trial: Trial  # any of the shape
    sizes: dict[int, tuple[float, float]] = field(default_factory=dict)  # size -> steps, seconds


@dataclass
class Rates:
    """Seconds of a step of a stack: a guess, corrected by what was reported.

    Args:
        guess: of a trial, the size of its stack and the device.
        largest: trials of a stack, at most, by trial and device.
    """

    guess: Callable[[Trial, int, str], float]
    largest: Callable[[Trial, str], int]
    seen: dict[tuple[Shape, str], Seen] = field(default_factory=dict)
    curves: dict[tuple[Shape, str], Curve] = field(default_factory=dict)

    def learn(self, trial: Trial, device: str, size: int, trial_steps: int, seconds: float) -> None:
        """A stack of ``size`` trials took so many steps, summed over its trials, in so many seconds."""
        if size and trial_steps and seconds > 0:
            seen = self.seen.setdefault((trial.shape, device), Seen(trial))
            steps, spent = seen.sizes.get(size, (0.0, 0.0))
            seen.sizes[size] = steps + trial_steps / size, spent + seconds
            self.curves.clear()

    def seconds(self, trial: Trial, device: str, size: int) -> float:
        """Of a step of a stack: what nobody has run yet is as far from its guess as the nearest size of the shape,
        or the mean of the device's other shapes."""
        seen = self.seen.get((trial.shape, device))
        others = [one for (_, where), one in self.seen.items() if where == device]
        offs = [self._off(one, device, size) for one in ([seen] if seen else others)]
        return self.guess(trial, size, device) * exp(sum(offs) / max(1, len(offs)))

    def _off(self, seen: Seen, device: str, size: int) -> float:
        """Logarithm of measured over guessed seconds at the nearest size."""
        near = min(seen.sizes, key=lambda other: abs(log(other / size)))
        steps, spent = seen.sizes[near]
        return log(spent / steps / self.guess(seen.trial, near, device))

    def curve(self, trial: Trial, device: str) -> Curve:
        key = trial.shape, device
        if key not in self.curves:
            times, longest = [], 0.0
            for size in range(1, max(1, self.largest(trial, device)) + 1):
                longest = max(longest, self.seconds(trial, device, size) * trial.steps)
                times.append(longest)
            best = max(range(1, len(times) + 1), key=lambda size: size / times[size - 1])
            self.curves[key] = Curve(tuple(times[:best]))
        return self.curves[key]


@dataclass(frozen=True)
class Slot:
    """Where one stack runs at a time. ``free``: seconds until it can take another, 0 if it is idle."""

    device: str
    free: float = 0.0


@dataclass
class Cutting:
    """The trials that wait, by shape and by how often their stacks have failed."""

    rates: Rates
    compiles: Callable[[Trial], bool]
    waiting: dict[Key, list[Trial]] = field(default_factory=dict)

    def put(self, trials: Iterable[Trial], tries: int = 0) -> None:
        for trial in trials:
            self.waiting.setdefault((trial.shape, tries), []).append(trial)

    def trials(self) -> list[Trial]:
        return [trial for same in self.waiting.values() for trial in same]

    def cut(self, slots: Sequence[Slot], asking: int, shape: Shape | None = None) -> Stack | None:
        """What the slot ``slots[asking]`` takes now; None if the others end all of it sooner without it.

        Args:
            slots: all there are, busy and idle.
            shape: what its worker has compiled; preferred.
        """
        if not self.waiting:
            return None
        shares = self._shared(slots)[1][asking]
        if not shares:
            return None
        key, count = min(shares, key=lambda share: (share[0][1] == 0, share[0][0] != shape))
        same = self.waiting[key]
        stacks = self.rates.curve(same[0], slots[asking].device).stacks(count)
        chosen, rest = same[: ceil(count / stacks)], same[ceil(count / stacks) :]
        if rest:
            self.waiting[key] = rest
        else:
            del self.waiting[key]
        return Stack(tuple(chosen), self.compiles(chosen[0]), key[1])

    def seconds(self, slots: Sequence[Slot]) -> float:
        """Until all that waits has ended, if no node comes or goes."""
        return self._shared(slots)[0] if self.waiting and slots else inf if self.waiting else 0.0

    def _shared(self, slots: Sequence[Slot]) -> tuple[float, Shares]:
        """The time T at which all can have ended, and each slot's trials until then, by key."""
        curves = {key: [self.rates.curve(same[0], slot.device) for slot in slots] for key, same in self.waiting.items()}
        keys = sorted(self.waiting, key=lambda key: -min(curve.seconds[0] for curve in curves[key]))
        orders = {key: _descending([curve.rate for curve in curves[key]]) for key in keys}

        def shares(end: float) -> Shares | None:
            windows = [end - slot.free for slot in slots]
            given: Shares = [[] for _ in slots]
            for key in keys:  # the longest trials first, on the fastest slots first
                left = len(self.waiting[key])
                for i in orders[key]:
                    count = min(left, curves[key][i].capacity(windows[i]))
                    if count:
                        given[i].append((key, count))
                        windows[i] -= curves[key][i].duration(count)
                        left -= count
                if left:
                    return None
            return given

        low, high = 0.0, min(slot.free for slot in slots) + min(curve.seconds[0] for curve in curves[keys[0]])
        while (shared := shares(high)) is None:
            low, high = high, 2 * high
        for _ in range(STEPS):
            if high - low < CLOSE * high:
                break
            middle = (low + high) / 2
            tried = shares(middle)
            if tried is None:
                low = middle
            else:
                high, shared = middle, tried
        return high, shared


def _descending(values: Sequence[float]) -> list[int]:
    """Indices, the largest value's first."""
    return sorted(range(len(values)), key=lambda i: -values[i])


def planned(plan: Plan) -> Cutting:
    """Cuts with the plan's sizes and its guess of the time, until something is known."""
    return Cutting(Rates(prior, plan.largest), plan.compiles)


def estimate(trials: Iterable[Trial], devices: Sequence[str], plan: Plan) -> float:
    """Seconds that a sweep takes on slots of these devices ("cpu", "cuda"), roughly; start-up is not in it."""
    cutting = planned(plan)
    cutting.put(trials)
    return cutting.seconds([Slot(device) for device in devices])
