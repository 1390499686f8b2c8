"""The measured stack size: real stacks, timed once, remembered."""

from __future__ import annotations

import json

import pytest
from small import MLP

from phasemap.scheduling import stack_size
from phasemap.training.train import begin


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(stack_size, "SECONDS", 0.01)
    return tmp_path


def test_tiny_trials_train_faster_together():
    """At width 16 the cost of calling torch dwarfs the arithmetic."""
    assert stack_size.fastest_size(MLP, "cpu", 32) > 1


def test_it_is_measured_once_and_remembered(own_cache, monkeypatch):
    first = stack_size.fastest_size(MLP, "cpu", 4)
    (file,) = (own_cache / "phasemap").glob("stacks-*")
    assert list(json.loads(file.read_text()).values()) == [first]
    monkeypatch.setattr(stack_size, "_measured", lambda *_: pytest.fail("measured again"))
    assert stack_size.fastest_size(MLP, "cpu", 4) == first


def test_no_more_than_asked_for():
    stack_size.fastest_size(MLP, "cpu", 8)
    assert stack_size.fastest_size(MLP, "cpu", 1) == 1


def test_a_stack_that_does_not_fit_is_not_chosen(monkeypatch):
    def small(trials, device):
        if len(trials) > 2:
            raise MemoryError
        return begin(trials, device)

    monkeypatch.setattr(stack_size, "begin", small)
    assert stack_size.fastest_size(MLP, "cpu", 32) <= 2
