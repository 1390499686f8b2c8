"""Threads and memory of a process; what a processor is called by."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from phasemap.numerics.processor import asked_threads, let_waiting_threads_yield, limit_threads


@pytest.mark.parametrize(
    ("asked", "threads"), [("1", 1), ("4", 4), ("4,2", 4), (" 3 , 2,1", 3), ("", 1), (" ", 1), (None, 1)]
)
def test_the_number_of_threads_is_the_first_that_the_environment_lists(monkeypatch, asked, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert asked_threads() == threads


@pytest.mark.parametrize("asked", ["0", "-1", "two", ",2", "1.5", "4 2"])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, asked):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    with pytest.raises(ValueError, match=f"OMP_NUM_THREADS: must be .*, got '{asked}'; set it to 1, or unset it"):
        limit_threads()


@pytest.mark.parametrize(
    ("threads", "given", "policy"),
    [("2", "", "passive"), ("1", "", ""), ("2", "active", "active"), ("1", "active", "active")],
)
def test_several_threads_yield_where_they_wait_unless_asked_otherwise(monkeypatch, threads, given, policy):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setenv("OMP_WAIT_POLICY", given)
    if not given:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    let_waiting_threads_yield()
    assert os.environ.get("OMP_WAIT_POLICY", "") == policy


def test_freed_memory_is_kept_and_its_pages_are_not_fetched_again():
    """In a process of its own: it cannot be undone."""
    code = """
import resource, torch
from phasemap.numerics.processor import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(4, 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
keep_memory()
faults()
print(faults())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    before, after = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).split()
    assert int(before) > 50 * 4  # pages may be of 2 MiB
    assert int(after) < 50
