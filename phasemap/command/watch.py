"""A sweep seen from outside, through its record alone: what ``--watch`` shows."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from phasemap.command import terminal
from phasemap.fields import Fault
from phasemap.plan.asked import asked, strays
from phasemap.plan.space import Space
from phasemap.plan.trial import Trial
from phasemap.record import client as store
from phasemap.record.claim import DEAD_AFTER, LISTEN, driver_of, lives_here
from phasemap.words import did_you_mean

LATE = 60_000  # milliseconds between a trial's end and its record, mostly
ALL_EVERY = 20  # looks


class Watched:
    """A sweep seen from outside, through its record alone."""

    def __init__(self, name: str, uri: str):
        self.client, self.name = store.connect(uri, new=False), name
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            near = did_you_mean(name, [one.name for one in self.client.search_experiments()])
            place = store.redacted(uri)
            raise ValueError(
                f"--watch: no sweep named {name} in {place}{near}; start it, or correct --name or --tracking-uri"
            )
        self.experiment = experiment.experiment_id
        self._seen: dict[str, tuple[Trial, str]] = {}
        self._after = self._looks = 0
        self._sign: float | None = None  # time of the driver's last heartbeat, by its own clock
        self._heard = 0.0  # when that came, by ours

    def status(self, space: Space) -> terminal.Status:
        """What is recorded now; only runs that ended since the last look are read."""
        # a run is recorded after it ended, minutes after where the store was away: now and then all are read
        after = max(0, self._after - LATE) if self._looks % ALL_EVERY else 0
        self._looks += 1
        condition, wanted = f"tags.`phasemap.kind` = 'trial' and attributes.end_time >= {after}", asked(space)
        for run in store.search(self.client, self.experiment, condition):
            self._after = max(self._after, run.info.end_time or 0)
            if run.info.status == "FINISHED" and not strays(wanted, run.data.params):
                with suppress(Fault):  # of another space under this name
                    trial = space.trial(run.data.params)
                    self._seen[trial.id] = (trial, run.data.tags.get("phase", ""))
        parent = self._parent()
        planned = parent.get("phasemap.trials", "")
        total = int(planned) if planned.isdigit() else len(self._seen)
        field = terminal.Map.of(space, list(self._seen.values()))
        news = self._news(driver_of(parent))
        failed = news.pop("failed", 0)
        return terminal.Status(self.name, total, field, failed, terminal.Pace(**news) if news else None)

    def is_running(self) -> bool:
        """Whether a driver lives: its process, or if that is elsewhere, a heartbeat within a minute."""
        driver = driver_of(self._parent())
        if driver is None:
            return False
        here, silence = lives_here(driver), self._silence(driver)
        return silence < DEAD_AFTER if here is None else here

    def _silence(self, driver: dict[str, Any]) -> float:
        """Seconds since the driver's last heartbeat by the clock of this process: the driver's may differ, and jump.
        Where it seems old when it is first met, another is waited for."""
        now, sign = time.monotonic(), driver["time"]
        if self._sign is None:
            age = abs(time.time() - sign)
            self._heard = now - (age if age < DEAD_AFTER else DEAD_AFTER - LISTEN)
        elif sign != self._sign:
            self._heard = now
        self._sign = sign
        return now - self._heard

    def _news(self, driver: dict[str, Any] | None) -> dict[str, Any]:
        """What the driver reports of its pace, with the time left as of now; nothing if it reports nothing."""
        news = dict((driver or {}).get("news") or {})
        if driver and news.get("seconds_left") is not None:
            news["seconds_left"] = max(0.0, news["seconds_left"] - self._silence(driver))
        return news

    def _parent(self) -> dict[str, str]:
        """Tags of the parent run."""
        parent = store.parent_of(self.client, self.experiment)
        return parent.data.tags if parent else {}
