"""The record in a real sqlite store: one finished trial, one finished run, whatever happens around it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from small import MLP, mixed, result, waited

from phasemap.plan.outcome import DEFINITIONS, Outcome
from phasemap.record.client import absolute, connect, default_uri
from phasemap.record.environment import environment, origin
from phasemap.record.reader import load_pictures
from phasemap.record.writer import Held, Recorder

AXES = ("weight_decay", "seed")
TRIALS = [MLP.replace(weight_decay=decay, seed=seed) for decay in (0.1, 1.0) for seed in (0, 1)]


def opened(uri: str, **more) -> Recorder:
    return Recorder("sweep", uri, AXES, "space = Space()", **more)


def runs(uri: str, name: str = "sweep") -> list[Run]:
    """The runs of trials."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], "tags.`phasemap.kind` = 'trial'", max_results=5_000))


def status(uri: str) -> list[tuple[str, str]]:
    return sorted((run.data.tags["phasemap.trial"], run.info.status) for run in runs(uri))


def test_of_two_drivers_that_begin_a_sweep_together_the_first_has_it(uri, monkeypatch):
    """The other one's parent run comes between this one's search and its own."""
    create = MlflowClient.create_run
    rival: list[str] = []

    def late(client, experiment, **given):
        if not rival:
            rival.append(create(client, experiment, tags=given["tags"]).info.run_id)
            time.sleep(0.01)
        return create(client, experiment, **given)

    monkeypatch.setattr(MlflowClient, "create_run", late)
    with opened(uri) as recorder:
        assert recorder.parent == rival[0]
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id])] == rival


def test_a_result_becomes_one_finished_run(uri):
    recorder, after = opened(uri), []
    found = result(TRIALS[0], "memorization")
    recorder.result(found, lambda: after.append(status(uri)))
    recorder.flush()
    recorder.close("FINISHED")
    assert after == [[(TRIALS[0].id, "FINISHED")]]
    (run,) = runs(uri)
    assert run.info.run_name == "weight_decay=0.1 seed=0"
    assert run.data.params == {name: str(value) for name, value in TRIALS[0].values.items()}
    assert run.data.metrics == {"steps_run": 60, "final_test_accuracy": 0.25, "weight_norm": 2.0, "test_accuracy": 0.25}
    tags = {"phase": "memorization", "ending": "budget", "phasemap.device": "cpu", "phasemap.engine": "eager"}
    assert tags.items() <= run.data.tags.items()
    client = MlflowClient(tracking_uri=uri)
    curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "test_accuracy")]
    assert curve == [(30, 0.125), (60, 0.25)]
    assert [p.step for p in client.get_metric_history(run.info.run_id, "final_test_accuracy")] == [60]
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "sweep"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["phasemap.axes"] == "weight_decay,seed"


def test_a_run_lasts_as_long_as_its_training_and_says_where_it_comes_from(uri, tmp_path):
    recorder = opened(uri, file=str(tmp_path / "space.py"))
    recorder.result(dataclasses.replace(result(TRIALS[0]), began=1_000.0, ended=1_012.5))
    recorder.close("FINISHED")
    (run,) = runs(uri)
    assert (run.info.start_time, run.info.end_time) == (1_000_000, 1_012_500)
    assert run.data.tags["mlflow.source.name"] == str(tmp_path / "space.py")
    assert run.data.tags["mlflow.source.type"] == "LOCAL"
    assert "mlflow.source.git.commit" not in run.data.tags  # that folder is in no repository
    assert origin(__file__)["mlflow.source.git.commit"] == environment()["commit"]


def test_the_first_hundred_runs_of_the_view_cover_every_cell(uri):
    cells = [MLP.replace(width=width, weight_decay=decay) for width in (8, 16) for decay in (0.1, 0.3, 1.0)]
    recorder = opened(uri)
    for trial in (cell.replace(seed=seed) for cell in cells for seed in range(12)):
        recorder.result(result(trial))
    recorder.close("FINISHED")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    view = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.trials"])["state"])
    order = [f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"]
    listed = client.search_runs([experiment.experiment_id], view["searchFilter"], order_by=order)
    first = [(run.data.params["width"], run.data.params["weight_decay"]) for run in listed[: len(cells)]]
    assert sorted(first) == sorted((str(cell.width), str(cell.weight_decay)) for cell in cells)
    assert [int(run.data.params["seed"]) for run in listed] == sorted(list(range(12)) * 6)


def test_the_tables_of_a_run_begin_with_its_main_outcomes(uri):
    made = result(TRIALS[0])
    found = dataclasses.replace(made, outcome=Outcome(**{**made.outcome.values, "grok_step": 40, "slingshots": 1}))
    with opened(uri) as recorder:
        recorder.result(found)
    (run,) = runs(uri)
    assert list(run.data.metrics)[:3] == ["grok_step", "final_test_accuracy", "steps_run"]


def test_charts_are_of_the_probes_that_a_sweep_asks_for(uri):
    for tags, curve in (({"fixed.probes": "dimension+sharpness"}, "sharpness"), ({}, "activation_norm")):
        with opened(uri, tags=tags):
            pass
        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name("sweep")
        assert experiment is not None
        view = json.loads(experiment.tags["mlflow.sharedViewState.trials"])
        charts = json.loads(view["state"])["compareRunCharts"]
        assert curve in {chart.get("metricKey") for chart in charts}, tags
        assert "activation_norm" not in {chart.get("metricKey") for chart in charts} or not tags


def test_sweeps_are_compared_by_metrics_and_tags_of_their_parent_runs(uri):
    recorder = opened(uri, tags={"axis.width": "8, 16", "fixed.modulus": "13"})
    for trial, phase in zip(TRIALS, ["grokking", "grokking", "grokking", "confusion"], strict=True):
        recorder.result(result(trial, phase))
    recorder.close("FINISHED")
    opened(uri, tags={"fixed.width": "8", "fixed.modulus": "13"}).close("FINISHED")
    client = MlflowClient(tracking_uri=uri)
    parent = client.get_run(runs(uri)[0].data.tags["mlflow.parentRunId"])
    assert parent.data.metrics["trials/grokking"] == 3
    assert parent.data.metrics["share/confusion"] == 0.25
    assert parent.data.metrics["cost/trial_steps"] == 4 * 60
    values = {key: text for key, text in parent.data.tags.items() if key.startswith(("axis.", "fixed."))}
    assert values == {"fixed.width": "8", "fixed.modulus": "13"}


def test_what_did_not_happen_is_an_absent_metric(uri):
    recorder = opened(uri)
    recorder.result(result(TRIALS[0]))
    recorder.close("FINISHED")
    (run,) = runs(uri)
    assert "grok_step" not in run.data.metrics
    assert set(run.data.metrics) - {"test_accuracy"} <= set(DEFINITIONS)


def test_every_point_of_a_long_curve_is_kept(uri):
    long = result(TRIALS[0])
    steps = tuple(range(1, 2_601))
    long = dataclasses.replace(long, curves={"test_accuracy": (steps, tuple(step / 2_600 for step in steps))})
    recorder = opened(uri)
    recorder.result(long)
    recorder.close("FINISHED")
    client = MlflowClient(tracking_uri=uri)
    points = client.get_metric_history(runs(uri)[0].info.run_id, "test_accuracy")
    assert [(p.step, p.value) for p in points] == [(step, step / 2_600) for step in steps]


def test_the_sweep_carries_its_source_its_environment_and_every_metrics_name(uri, tmp_path):
    opened(uri).close("FINISHED")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id])
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"environment.json", "search_space.py"}
    text = Path(client.download_artifacts(parent.info.run_id, "search_space.py", str(tmp_path))).read_text()
    assert text == "space = Space()"
    text = parent.data.tags["mlflow.note.content"]  # tests/record/test_mlflow_views.py: which of them are explained
    assert f"**grok_step**: {DEFINITIONS['grok_step']}" in text
    assert [name for name in DEFINITIONS if name not in text] == []


def test_the_description_links_to_the_phases_that_trials_have_and_to_no_other(uri):
    recorder = opened(uri)
    recorder.result(result(TRIALS[0], "grokking"))
    recorder.close("FINISHED")
    text = MlflowClient(tracking_uri=uri).get_run(recorder.parent).data.tags["mlflow.note.content"]
    assert "[grokking](" in text
    assert "[confusion](" not in text


def test_recorded_trials_are_known_to_the_next_driver(uri):
    recorder = opened(uri)
    for trial in TRIALS[:3]:
        recorder.result(result(trial, "grokking"))
    recorder.close("FINISHED")
    again = opened(uri)
    assert {trial: done.phase for trial, done in again.done.items()} == {trial.id: "grokking" for trial in TRIALS[:3]}
    assert set(recorder.done) == set(again.done)
    again.close("FINISHED")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id], "tags.`phasemap.kind` = 'sweep'")) == 1


def test_what_a_dead_driver_left_running_is_closed_and_not_done(uri):
    opened(uri).close("KILLED")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    client.create_run(experiment.experiment_id, tags={"phasemap.kind": "trial", "phasemap.trial": TRIALS[0].id})
    recorder = opened(uri)
    assert recorder.done == {}
    recorder.result(result(TRIALS[0]))
    recorder.close("FINISHED")
    assert status(uri) == [(TRIALS[0].id, "FINISHED")]
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as rows:
        left = rows.execute("SELECT status FROM runs WHERE lifecycle_stage = 'deleted'").fetchall()
    assert left == [("KILLED",)]
    again = opened(uri)
    assert set(again.done) == {TRIALS[0].id}
    again.close("FINISHED")


def test_a_failure_is_recorded_with_its_reason_and_is_not_done(uri):
    recorder = opened(uri)
    recorder.failure(TRIALS[0], "Traceback ...\nValueError: no")
    recorder.close("FAILED")
    assert recorder.failed == {TRIALS[0].id: "Traceback ...\nValueError: no"}
    (run,) = runs(uri)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "Traceback ...\nValueError: no"
    assert run.data.params["weight_decay"] == "0.1"
    again = opened(uri)
    assert again.done == {}
    again.close("FINISHED")


def driver(uri: str, then: str = "time.sleep(60)") -> subprocess.Popen:
    """Another process that holds the sweep, and says so."""
    code = f"""
        import time
        from phasemap.record.writer import Recorder
        recorder = Recorder("sweep", {uri!r}, (), "")
        print("holds", flush=True)
        {then}
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    return process


def test_a_sweep_is_held_by_a_living_driver_and_taken_over_from_a_dead_one(uri):
    other = driver(uri)
    try:
        with pytest.raises(Held, match=rf"^sweep sweep: is being run by process {other.pid} on .*; wait for it, stop"):
            opened(uri)
    finally:
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    recorder = opened(uri)
    other.wait()
    recorder.result(result(TRIALS[0]))
    recorder.close("FINISHED")
    assert status(uri) == [(TRIALS[0].id, "FINISHED")]


def test_a_sweep_that_was_closed_is_held_by_nobody(uri):
    other = driver(uri, then='recorder.close("FINISHED")')
    assert other.wait(timeout=30) == 0
    opened(uri).close("FINISHED")


def test_sweeps_of_other_names_share_a_store(uri):
    first, second = opened(uri), Recorder("other", uri, AXES, "")
    for i, trial in enumerate(mixed(MLP)):
        (first, second)[i % 2].result(result(trial))
    for recorder in (first, second):
        recorder.close("FINISHED")
    assert (len(runs(uri)), len(runs(uri, "other"))) == (3, 2)


def test_a_store_that_goes_away_and_comes_back_loses_nothing(uri, tmp_path):
    """Its file is moved away and put back; a folder in its place makes every opening fail meanwhile."""
    said: list[str] = []
    recorder = opened(uri, say=said.append)
    recorder.result(result(TRIALS[0]))
    recorder.flush()
    file, aside = tmp_path / "mlflow.db", tmp_path / "aside.db"
    file.rename(aside)
    file.mkdir()
    recorder.result(result(TRIALS[1]))
    recorder.result(result(TRIALS[2]))
    waited(lambda: said)
    file.rmdir()
    aside.rename(file)
    recorder.flush()
    recorder.close("FINISHED")
    assert said[0].startswith(f"tracking store {uri} does not answer, waiting: ")
    assert said[-1] == "tracking store is back"
    assert len(said) == 2
    finished = [trial for trial, how in status(uri) if how == "FINISHED"]
    assert sorted(finished) == sorted(trial.id for trial in TRIALS[:3])
    assert all(how in ("FINISHED", "KILLED") for _, how in status(uri))


def test_a_store_that_stays_away_is_given_up_with_a_message(uri, tmp_path, monkeypatch):
    monkeypatch.setattr("phasemap.record.background.PATIENCE", 0.1)
    recorder = opened(uri, say=lambda text: None)
    (tmp_path / "mlflow.db").unlink()
    (tmp_path / "mlflow.db").mkdir()
    recorder.result(result(TRIALS[0]))
    with pytest.raises(ValueError, match=r"^tracking store .*: must come back within 0 minutes, got .*same command"):
        recorder.flush()


def test_a_locked_store_is_waited_for(uri, tmp_path):
    recorder = opened(uri, say=lambda text: None)
    lock = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    recorder.result(result(TRIALS[0]))
    time.sleep(0.5)
    lock.execute("COMMIT")
    lock.close()
    recorder.close("FINISHED")
    assert status(uri) == [(TRIALS[0].id, "FINISHED")]


def test_two_processes_may_open_a_new_store_at_once(tmp_path):
    uri = f"sqlite:///{tmp_path / 'new.db'}"
    code = (
        "import sys; from phasemap.record.writer import Recorder; "
        "Recorder(sys.argv[1], sys.argv[2], (), '').close('FINISHED')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, name, uri], stderr=subprocess.PIPE) for name in ("a", "b")]
    for process in both:
        assert process.stderr is not None
        assert process.wait(timeout=60) == 0, process.stderr.read().decode()
    assert runs(uri, "a") == runs(uri, "b") == []


def test_a_store_in_a_folder_that_is_not_there_is_refused(tmp_path):
    message = (
        rf"^tracking database {tmp_path}/no/mlflow.db: must be writable, got .*; choose another with --tracking-uri"
    )
    with pytest.raises(ValueError, match=message):
        connect(f"sqlite:///{tmp_path}/no/mlflow.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_permission_is_refused(uri, tmp_path):
    (tmp_path / "mlflow.db").chmod(0o400)
    with pytest.raises(ValueError, match=r"must be writable, got no permission"):
        connect(uri)


def test_a_server_that_does_not_answer_is_refused_at_once():
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"^tracking server http://127.0.0.1:9: must answer within 10 s, got .*; start it"
    ):
        connect("http://127.0.0.1:9")
    assert time.monotonic() - start < 5


def test_a_near_server_is_asked_for_a_connection_per_call():
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path.split("?")[0], self.headers["Connection"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        connect(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert asked[-1] == ("/api/2.0/mlflow/experiments/search", "close")


def test_an_experiment_in_the_bin_is_refused_with_the_way_out(uri):
    client = MlflowClient(tracking_uri=uri)
    client.delete_experiment(client.create_experiment("sweep"))
    with pytest.raises(
        ValueError, match=r"^experiment sweep: was deleted in MLflow; .*mlflow experiments restore -x \d+"
    ):
        opened(uri)


def test_the_default_store_lies_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert default_uri() == "http://somewhere:5000"


def test_a_relative_store_is_the_same_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///runs/a.db") == f"sqlite:///{tmp_path}/runs/a.db"
    for uri in ("sqlite:////data/a.db", "http://somewhere:5000"):
        assert absolute(uri) == uri


def test_a_picture_of_the_hidden_vectors_lies_beside_the_metrics(uri, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recorder = opened(uri)
    drawn = dataclasses.replace(result(TRIALS[0]), picture=((0.5, -1.0, 3), (2.0, 0.25, 0)))
    recorder.result(drawn, lambda: None)
    recorder.result(result(TRIALS[1]), lambda: None)
    recorder.close("FINISHED")
    pictures = load_pictures([run.info.run_id for run in runs(uri)], uri)
    assert pictures[["x", "y", "class"]].to_numpy().tolist() == [[0.5, -1.0, 3], [2.0, 0.25, 0]]
    assert pictures.run_id.nunique() == 1


def test_two_processes_record_into_one_file_at_once_and_lose_nothing(uri, tmp_path):
    """Each writes its own sweep; they wait for each other's locks."""
    code = f"""
        import dataclasses, sys
        sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
        from small import MLP, result
        from phasemap.record.writer import Recorder
        recorder = Recorder(sys.argv[1], {uri!r}, ("seed",), "", say=lambda text: None)
        for seed in range(30):
            recorder.result(result(MLP.replace(seed=seed)))
        recorder.close("FINISHED")
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    both = [subprocess.Popen([*words, name], stderr=subprocess.PIPE) for name in ("one", "two")]
    for process in both:
        assert process.stderr is not None
        assert process.wait(timeout=120) == 0, process.stderr.read().decode()
    assert sqlite3.connect(tmp_path / "mlflow.db").execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for name in ("one", "two"):
        found = runs(uri, name)
        assert sorted(int(run.data.params["seed"]) for run in found) == list(range(30))
        assert all(run.info.status == "FINISHED" and run.data.metrics["test_accuracy"] == 0.25 for run in found)


def test_every_file_of_a_sweep_keeps_what_it_asks_for_until_there_are_too_many(uri):
    def kept(asks) -> dict:
        recorder = opened(uri, asks=asks)
        recorder.close("FINISHED")
        return json.loads(MlflowClient(uri).get_run(recorder.parent).data.tags["phasemap.space"])

    small, large = ({"width": {"values": [width]}} for width in ("16", "64"))
    kept({"small.py": large})
    kept({"large.py": large})
    assert kept({"small.py": small}) == {"small.py": small, "large.py": large}
    assert kept({f"{number}.py": large for number in range(300)}) == {}
