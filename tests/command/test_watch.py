"""A sweep that another process runs, seen through its record."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from small import MLP, result

from phasemap.command.terminal import Pace, Status
from phasemap.command.watch import Watched
from phasemap.plan.space import Space
from phasemap.record.writer import Recorder

FIXED = {name: value for name, value in MLP.values.items() if name != "seed"}
SPACE = Space(seed=range(3), **FIXED)
PACE: dict[str, Any] = {"training": 2, "stacks": 1, "starting": 0, "rate": 50.0, "seconds_left": 90.0}


def seconds_left(status: Status) -> float:
    assert status.pace is not None
    assert status.pace.seconds_left is not None
    return status.pace.seconds_left


def test_rate_and_time_left_are_those_of_the_driver(uri):
    with Recorder("sweep", uri, ("seed",), "") as recorder:
        recorder.claim.news = lambda: PACE | {"failed": 1}
        recorder.claim.beat()
        seen = Watched("sweep", uri)
        status = seen.status(SPACE)
        assert seen.is_running()
    assert status.failed == 1
    assert status.pace is not None
    assert dataclasses.replace(status.pace, seconds_left=90.0) == Pace(**PACE)
    assert 60 < seconds_left(status) <= 90
    assert seen.status(SPACE).pace is None  # the driver is gone
    assert not seen.is_running()


@pytest.mark.parametrize("hours", [-7, 5])
@pytest.mark.parametrize("host", ["there", ""])
def test_a_clock_that_jumps_ends_no_watch_and_moves_no_time_left(uri, monkeypatch, host, hours):
    with Recorder("sweep", uri, ("seed",), "") as recorder:
        recorder.claim.me["host"] = host or recorder.claim.me["host"]
        recorder.claim.news = lambda: PACE
        recorder.claim.beat()
        seen, now = Watched("sweep", uri), time.time
        assert seen.is_running()
        monkeypatch.setattr(time, "time", lambda: now() + 3_600 * hours)
        assert seen.is_running()
        recorder.claim.beat()
        assert seen.is_running()
        assert 60 < seconds_left(seen.status(SPACE)) <= 90
        late = Watched("sweep", uri)
        monkeypatch.setattr(time, "time", now)  # as on a machine whose clock is another
        assert 60 < seconds_left(seen.status(SPACE)) <= 90
        assert late.is_running()


def test_a_trial_is_counted_however_late_it_is_recorded(uri):
    trials = SPACE.trials()
    with Recorder("sweep", uri, ("seed",), "") as recorder:
        seen = Watched("sweep", uri)
        for trial, ended in zip(trials, (900.0, 890.0, 1.0), strict=True):  # the last waited for the store
            recorder.result(dataclasses.replace(result(trial), began=0.5, ended=ended))
            recorder.flush()
            counted = seen.status(SPACE).map.phases.total()
        assert counted == 2
        looks = [seen.status(SPACE).map.phases.total() for _ in range(20)]
    assert looks[-1] == 3
