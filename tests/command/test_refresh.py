"""Figures of a running sweep, on a real store: they come, they follow the trials, they break nothing."""

from __future__ import annotations

import shutil
import time

import pytest
from small import MLP, result, waited

from phasemap.command.refresh import FIGURES, Refresh
from phasemap.record.writer import Recorder

PATIENT = 300.0  # seconds: a drawing has the lowest priority


@pytest.fixture
def recorder(schema, tmp_path):
    shutil.copy(schema, tmp_path / "mlflow.db")
    made = Recorder("sweep", f"sqlite:///{tmp_path / 'mlflow.db'}", ("seed",), "space = Space()")
    made.result(result(MLP, "grokking"))
    made.flush()
    yield made
    made.close("FINISHED")


def figures(recorder) -> set[str]:
    return {file.path for file in recorder.client.list_artifacts(recorder.parent, "figures")}


def test_a_running_parent_gets_the_map_and_the_page(recorder, tmp_path):
    with Refresh(recorder, tmp_path / "out", print, every=0.1):
        waited(lambda: {"figures/phase_diagram.png", f"figures/{FIGURES[1]}.html"} <= figures(recorder), PATIENT)
        assert recorder.client.get_run(recorder.parent).info.status == "RUNNING"


def test_a_short_sweep_starts_no_drawing(recorder, tmp_path):
    with Refresh(recorder, tmp_path / "out", print):
        pass
    assert not (tmp_path / "out").exists()


def test_nothing_is_drawn_again_without_a_new_trial(recorder, tmp_path, monkeypatch):
    drawn = []

    def draw(self) -> str:
        drawn.append(len(recorder.done))
        return ""

    monkeypatch.setattr(Refresh, "_draw", draw)
    (tmp_path / "out").mkdir()
    with Refresh(recorder, tmp_path / "out", print, every=0.02):
        waited(lambda: drawn == [1], PATIENT)
        time.sleep(0.2)
        recorder.result(result(MLP.replace(seed=1), "grokking"))
        waited(lambda: drawn == [1, 2], PATIENT)


def test_what_cannot_be_drawn_is_reported_once_and_harms_nothing(recorder, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    said: list[str] = []
    with Refresh(recorder, tmp_path / "out", said.append, every=0.1):
        waited(lambda: said, PATIENT)
        time.sleep(0.5)
    assert len(said) == 1
    assert said[0].startswith("no figures while it runs (")
    assert not figures(recorder)


def test_the_end_of_the_sweep_waits_for_no_figure(recorder, tmp_path):
    with Refresh(recorder, tmp_path / "out", print, every=0.01):
        time.sleep(0.3)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert not figures(recorder)
