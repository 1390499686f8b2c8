"""Curves of trials that still train, in a real sqlite store: seen at once, never in the way of a result."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient
from small import MLP, result
from test_writer import opened, runs, status

TRIALS = [MLP.replace(seed=seed) for seed in range(3)]
CURVES = {"test_accuracy": ((10, 20, 30), (0.0, 0.0625, 0.125))}


def history(uri, run, key="test_accuracy"):
    return [(p.step, p.value) for p in MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, key)]


def test_a_trial_at_work_shows_its_curves_and_its_result_fills_the_same_run(uri):
    with opened(uri) as recorder:
        recorder.live(TRIALS[0], CURVES, began=1_700_000_000.0)
        recorder.flush()
        (run,) = runs(uri)
        assert (run.info.status, run.info.start_time) == ("RUNNING", 1_700_000_000_000)
        assert history(uri, run) == [(10, 0.0), (20, 0.0625), (30, 0.125)]
        recorder.result(result(TRIALS[0]))
        recorder.result(result(TRIALS[1]))
        recorder.flush()
        filled, plain = sorted(runs(uri), key=lambda one: one.data.tags["phasemap.trial"] != TRIALS[0].id)
        assert (filled.info.run_id, filled.info.status) == (run.info.run_id, "FINISHED")
        assert history(uri, filled) == [(10, 0.0), (20, 0.0625), (30, 0.125), (60, 0.25)]
        assert filled.data.metrics == plain.data.metrics
        assert filled.data.params == plain.data.params | {"seed": "0"}
        assert set(filled.data.tags) == set(plain.data.tags)


def test_points_that_come_again_after_a_worker_died_are_written_once(uri):
    with opened(uri) as recorder:
        for end in (2, 3):
            recorder._live.rest = 0.0
            recorder.live(TRIALS[0], {"test_accuracy": tuple(part[:end] for part in CURVES["test_accuracy"])}, 1.0)
            recorder.flush()
        assert history(uri, runs(uri)[0]) == [(10, 0.0), (20, 0.0625), (30, 0.125)]


def test_an_interrupted_trial_is_no_longer_running_and_begins_a_new_run(uri):
    recorder = opened(uri)
    recorder.live(TRIALS[0], CURVES, 1.0)
    recorder.flush()
    recorder.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert status(uri) == [(TRIALS[0].id, "KILLED")]
    with opened(uri) as recorder:
        assert not recorder.done
        assert status(uri) == []
        recorder.result(result(TRIALS[0]))
    assert status(uri) == [(TRIALS[0].id, "FINISHED")]


def test_a_trial_that_is_given_up_fails_in_its_own_run(uri):
    with opened(uri) as recorder:
        recorder.live(TRIALS[0], CURVES, 1.0)
        recorder.flush()
        recorder.failure(TRIALS[0], "its worker died")
    (run,) = runs(uri)
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "its worker died")


def test_what_a_store_did_not_take_is_written_at_the_next_try(uri):
    with opened(uri) as recorder:
        live = recorder._live
        take = live.client.log_batch
        refused: list[bool] = []

        def refuse_once(*arguments, **more):
            if not refused:
                refused.append(True)
                raise ConnectionError("away")
            return take(*arguments, **more)

        live.client.log_batch = refuse_once
        live.add(TRIALS[0], CURVES, 1.0)
        with pytest.raises(ConnectionError):
            live.write(lambda: True)
        live.write(lambda: True)
        assert history(uri, runs(uri)[0]) == [(10, 0.0), (20, 0.0625), (30, 0.125)]


def test_curves_take_a_small_share_of_the_time_and_wait_for_results(uri):
    with opened(uri) as recorder:
        live = recorder._live
        for trial in TRIALS:
            live.add(trial, CURVES, 1.0)
        live.write(lambda: False)  # something else waits: one trial, no more
        assert len(runs(uri)) == 1
        assert not live.due()
        live.rest = 0.0
        assert live.due()
        live.write(lambda: True)
        assert len(runs(uri)) == 3
        live.rest = 0.0
        assert not live.due()  # all is written
