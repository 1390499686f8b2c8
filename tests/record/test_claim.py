"""Two drivers of one sweep: the one that slept stops, and no trial is recorded twice. Real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from mlflow import MlflowClient
from small import MLP, result

from phasemap.record import claim
from phasemap.record.writer import Held, Lost, Recorder

TRIALS = [MLP.replace(seed=seed) for seed in range(3)]


@pytest.fixture
def elsewhere(monkeypatch) -> None:
    """This process is on another machine than the drivers it meets, and gives them up after a second."""
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    monkeypatch.setattr(claim, "DEAD_AFTER", 1.0)
    monkeypatch.setattr(claim, "LISTEN", 1.0)


def driver(uri: str, code: str) -> subprocess.Popen:
    """Another driver, which says "holds" and then does as the code says."""
    head = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
        from small import MLP, result
        from phasemap.record import claim
        from phasemap.record.writer import Lost, Recorder
        claim.HEARTBEAT = 0.2
        recorder = Recorder("sweep", {uri!r}, ("seed",), "")
        print("holds", flush=True)
    """
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)]
    process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n", process.communicate()
    return process


def finished(uri: str) -> list[str]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    wanted = "tags.`phasemap.kind` = 'trial' and attributes.status = 'FINISHED'"
    return sorted(run.data.tags["phasemap.trial"] for run in client.search_runs([experiment.experiment_id], wanted))


def parent(uri: str):
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], "tags.`phasemap.kind` = 'sweep'")
    return found


def all_recorded_by(recorder: Recorder) -> None:
    for trial in TRIALS:
        if trial.id not in recorder.done:
            recorder.result(result(trial))
    recorder.flush()


def test_a_driver_that_slept_stops_and_records_nothing_twice(uri, elsewhere):
    sleeper = driver(
        uri,
        """
        recorder.result(result(MLP.replace(seed=0)))
        recorder.flush()
        print("recorded", flush=True)
        sys.stdin.readline()
        try:
            with recorder:
                for seed in range(3):
                    recorder.result(result(MLP.replace(seed=seed)))
                recorder.flush()
        except Lost as lost:
            print(lost, flush=True)
        """,
    )
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == "recorded\n"
    sleeper.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1.2)
        with Recorder("sweep", uri, ("seed",), "") as recorder:
            assert set(recorder.done) == {TRIALS[0].id}
            all_recorded_by(recorder)
            before = parent(uri).data.tags[claim.DRIVER]
            sleeper.send_signal(signal.SIGCONT)
            told, fault = sleeper.communicate("\n", timeout=60)
            assert sleeper.returncode == 0, fault
            assert told.startswith(
                f"sweep sweep: process {os.getpid()} on elsewhere has taken it over, for this driver"
            )
            assert json.loads(parent(uri).data.tags[claim.DRIVER])["host"] == json.loads(before)["host"] == "elsewhere"
    finally:
        sleeper.kill()
    assert finished(uri) == sorted(trial.id for trial in TRIALS)
    assert parent(uri).info.status == "FINISHED"


def test_a_driver_that_slept_just_before_finished_is_refused_by_the_store(uri, elsewhere):
    """It has read that the sweep is its own, and sleeps before it writes so."""
    sleeper = driver(
        uri,
        """
        check = recorder.claim.check
        def sleep_after() -> None:
            check()
            print("read", flush=True)
            sys.stdin.readline()
        recorder.claim.check = sleep_after
        recorder._jobs.claim.beaten = time.monotonic() + 1_000
        recorder.result(result(MLP.replace(seed=1)))
        try:
            recorder._jobs._queue.join()
            recorder.claim.check = check
            recorder.flush()
        except Lost as lost:
            print("lost", flush=True)
        """,
    )
    try:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "read\n"
        time.sleep(1.2)
        with Recorder("sweep", uri, ("seed",), "") as recorder:
            assert recorder.done == {}
            all_recorded_by(recorder)
            told, fault = sleeper.communicate("\n\n\n", timeout=60)
            assert told.endswith("lost\n"), told + fault
    finally:
        sleeper.kill()
    assert finished(uri) == sorted(trial.id for trial in TRIALS)


def written(uri: str, **changes: object) -> str:
    """A sweep whose driver wrote a heartbeat and never let go, with these changes; returns the parent run."""
    Recorder("sweep", uri, ("seed",), "").close("FINISHED")
    life = {"host": "there", "pid": os.getppid(), "start": claim.process_start(os.getppid()), "time": time.time()}
    run = parent(uri).info.run_id
    MlflowClient(tracking_uri=uri).set_tag(run, claim.DRIVER, json.dumps(life | changes))
    return run


@pytest.mark.parametrize("hours", [-7, 5])
def test_a_driver_elsewhere_lives_and_dies_by_its_signs_of_life_however_its_clock_is_set(uri, elsewhere, hours):
    run = written(uri, time=time.time() + 3_600 * hours)
    Recorder("sweep", uri, ("seed",), "").close("FINISHED")  # it was silent
    written(uri, time=time.time() + 3_600 * hours)
    beating = threading.Event()

    def beat() -> None:
        client = MlflowClient(tracking_uri=uri)
        while not beating.wait(0.2):
            life = json.loads(client.get_run(run).data.tags[claim.DRIVER])
            client.set_tag(run, claim.DRIVER, json.dumps(life | {"time": life["time"] + 0.2}))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(Held, match=r"is being run by process \d+ on there \(last heartbeat \d+ s ago\); wait"):
            Recorder("sweep", uri, ("seed",), "")
    finally:
        beating.set()
        thread.join()


def test_a_driver_in_another_container_of_the_same_name_is_not_looked_for_among_our_processes(uri, monkeypatch):
    monkeypatch.setattr(claim, "LISTEN", 1.0)
    here = {"host": socket.gethostname(), "pid": os.getpid() + 1, "start": "1"}
    assert claim.lives_here(here) is False  # of an older version, which did not note whose processes it sees
    assert claim.lives_here(here | {"pid": os.getppid()}) is False  # a number that was given to another process since
    assert claim.lives_here(here | {"processes": os.readlink("/proc/self/ns/pid")}) is False
    assert claim.lives_here(here | {"processes": "pid:[1]"}) is None
    written(uri, **here, processes="pid:[1]")  # killed a moment ago, and its container begins again
    Recorder("sweep", uri, ("seed",), "").close("FINISHED")


def test_a_clock_that_is_put_back_ends_no_sweep_before_it_began(uri, monkeypatch):
    recorder = Recorder("sweep", uri, ("seed",), "")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3_600)
    recorder.close("FINISHED")
    left = parent(uri).info
    assert left.start_time <= left.end_time < left.start_time + 60_000


def test_a_parent_run_deleted_meanwhile_stops_the_driver(uri):
    recorder = Recorder("sweep", uri, ("seed",), "")
    MlflowClient(tracking_uri=uri).delete_run(recorder.parent)
    recorder.result(result(TRIALS[0]))
    with pytest.raises(Lost, match="its parent run was deleted in MLflow; this driver stops"):
        recorder.flush()
    assert finished(uri) == []


@pytest.mark.parametrize("garbage", ["nonsense", "{}", "[1]", '{"host": 3, "pid": "x", "start": 1, "time": "now"}'])
def test_what_somebody_else_wrote_into_the_drivers_tag_holds_nothing(uri, garbage):
    Recorder("sweep", uri, ("seed",), "").close("FINISHED")
    MlflowClient(tracking_uri=uri).set_tag(parent(uri).info.run_id, claim.DRIVER, garbage)
    Recorder("sweep", uri, ("seed",), "").close("FINISHED")


@pytest.mark.parametrize("end", [ValueError("a fault"), KeyboardInterrupt(), SystemExit(3)])
def test_however_a_run_ends_the_sweep_is_let_go(uri, end):
    with pytest.raises(type(end)), Recorder("sweep", uri, ("seed",), ""):
        raise end
    left = parent(uri)
    assert left.info.status == ("FAILED" if isinstance(end, ValueError) else "KILLED")
    assert left.data.tags[claim.DRIVER] == ""
