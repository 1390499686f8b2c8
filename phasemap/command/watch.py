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
from phasemap.record.claim import DEAD_AFTER, driver_of
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
        news = _news(driver_of(parent))
        failed = news.pop("failed", 0)
        return terminal.Status(self.name, total, field, failed, terminal.Pace(**news) if news else None)

    def is_running(self) -> bool:
        """Whether a driver has shown a sign of life within a minute."""
        driver = driver_of(self._parent())
        return bool(driver and time.time() - driver["time"] < DEAD_AFTER)

    def _parent(self) -> dict[str, str]:
        """Tags of the parent run."""
        parents = store.search(self.client, self.experiment, "tags.`phasemap.kind` = 'sweep'", limit=1)
        return parents[0].data.tags if parents else {}


def _news(driver: dict[str, Any] | None) -> dict[str, Any]:
    """What the driver reports of its pace, with the time left as of now; nothing if it reports nothing."""
    news = dict((driver or {}).get("news") or {})
    if driver and news.get("seconds_left") is not None:
        news["seconds_left"] = max(0.0, news["seconds_left"] - (time.time() - driver["time"]))
    return news
