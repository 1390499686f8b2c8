"""One driver per sweep: a claim on the parent run, heartbeats, and a fence against a driver that slept.

A claim is a random token that is written when a sweep is taken, and never again; whoever reads another's there has lost
the sweep. It is read before each heartbeat and before a trial is set FINISHED. What the last driver left RUNNING is
deleted after the claim, so a driver that slept between that reading and FINISHED is refused by the store.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

HEARTBEAT = 10.0  # seconds between two heartbeats of a driver
DEAD_AFTER = 60.0  # seconds without one after which a driver elsewhere counts as dead
LISTEN = 25.0  # seconds in which a driver that lives shows another one, whatever the clocks of two machines say
DRIVER, CLAIM = "phasemap.driver", "phasemap.claim"  # tags of the parent run


class Held(RuntimeError):
    """Another driver is running this sweep."""


class Lost(RuntimeError):
    """Another driver has taken this sweep over, or its record was deleted: nothing more may be written."""


class Claim:
    """A sweep taken by this process.

    Raises:
        Held: another driver is alive, or was quicker.
    """

    def __init__(self, client: MlflowClient, name: str, parent: str):
        self.client, self.name, self.parent = client, name, parent
        self.token = secrets.token_hex(8)
        self.began, self.start = time.time(), time.monotonic()
        self.news: Callable[[], Mapping[str, Any]] = dict  # goes with each heartbeat, for those who watch
        self.me = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": process_start(os.getpid()),
            "processes": _processes(),
        }
        other = driver_of(client.get_run(parent).data.tags)
        if other and self._is_alive(other):
            raise Held(
                f"sweep {name}: is being run by process {other['pid']} on {other['host']} (last heartbeat "
                f"{max(0.0, time.time() - other['time']):.0f} s ago); wait for it, stop it, or choose another --name"
            )
        client.set_tag(parent, CLAIM, self.token)
        self._show_life()
        time.sleep(0.2)
        try:
            self.check()
        except Lost as lost:
            raise Held(f"{lost}: claimed it first; wait for it") from lost
        client.update_run(parent, status="RUNNING")

    def beat(self) -> None:
        """A heartbeat.

        Raises:
            Lost: the sweep is another's.
        """
        self.check()
        self._show_life()

    def check(self) -> None:
        """Raises Lost unless the sweep is still ours."""
        run = self.client.get_run(self.parent)
        if run.info.lifecycle_stage == "deleted":
            raise Lost(f"sweep {self.name}: its parent run was deleted in MLflow; this driver stops")
        if run.data.tags.get(CLAIM) != self.token:
            other = driver_of(run.data.tags) or {"pid": "?", "host": "?"}
            raise Lost(
                f"sweep {self.name}: process {other['pid']} on {other['host']} has taken it over, for this driver sent "
                "no heartbeat; this driver stops and records nothing more"
            )

    def release(self, status: str) -> None:
        """Lets go of the sweep, unless it is another's."""
        self.check()
        self.client.set_tag(self.parent, DRIVER, "")
        ended = max(time.time(), self.began + time.monotonic() - self.start)  # the clock may have been put back
        self.client.set_terminated(self.parent, status, int(ended * 1_000))

    def _show_life(self) -> None:
        self.beaten = time.monotonic()
        life = {**self.me, "time": time.time(), "news": dict(self.news())}
        self.client.set_tag(self.parent, DRIVER, json.dumps(life))

    def _is_alive(self, other: dict[str, Any]) -> bool:
        here = lives_here(other)
        if here is not None:
            return here and other["pid"] != self.me["pid"]
        recent = abs(time.time() - other["time"]) < DEAD_AFTER
        if recent and other["host"] != self.me["host"]:  # one of the same name may be a container that began again
            return True
        return self._beats(other)

    def _beats(self, other: dict[str, Any]) -> bool:
        """Whether a driver elsewhere sends another heartbeat. The time it wrote does not tell: clocks differ, and
        jump."""
        end = time.monotonic() + LISTEN
        while time.monotonic() < end:
            time.sleep(LISTEN / 25)
            now = driver_of(self.client.get_run(self.parent).data.tags)
            if now != other:
                return now is not None
        return False


def driver_of(tags: dict[str, str]) -> dict[str, Any] | None:
    """What the parent run says of its driver; None if there is none, or if somebody else wrote there."""
    try:
        driver = json.loads(tags.get(DRIVER) or "null")
        words = all(isinstance(driver[name], str) for name in ("host", "start"))
        numbers = all(isinstance(driver[name], (int, float)) for name in ("pid", "time"))
        return driver if words and numbers else None
    except (ValueError, TypeError, KeyError):
        return None


def lives_here(driver: dict[str, Any]) -> bool | None:
    """Whether the process of a driver runs; None if this process cannot see it, from another machine or container."""
    mine = _processes()
    if driver["host"] != socket.gethostname() or driver.get("processes", mine) != mine or not driver["start"]:
        return None
    return bool(process_start(driver["pid"]) == driver["start"])


def _processes() -> str:
    """Which processes are seen from here: containers may share a host's name, and each counts its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process of this machine started, empty if it does not run: tells a pid used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]  # a killed one whose parent does not ask for it runs no more
