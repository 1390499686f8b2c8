"""The cores that a container, a batch job or a user's own limit lends, from a made tree of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phasemap.scheduling import cores


@pytest.fixture
def groups(tmp_path, monkeypatch) -> Path:
    """A folder of control groups on a machine of 16 cores; ``own`` beside it names the group of this process."""
    monkeypatch.setattr(cores, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    return tmp_path / "groups"


def own(groups: Path, path: str) -> Path:
    """Puts this process into a group."""
    (groups.parent / "own").write_text(f"4:memory:/old\n0::/{path}\n")
    (groups / path).mkdir(parents=True, exist_ok=True)
    return groups / path


@pytest.mark.parametrize("path", ["user.slice/run-1.scope", "system.slice/slurmstepd.scope/job_7/step_0/user/task_0"])
def test_the_smallest_quota_of_the_own_group_and_those_above_it_counts(groups, path):
    group = own(groups, path)
    assert cores.lent() == 16
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("650000 100000\n")
    assert cores.lent() == 6
    (group / "cpu.max").write_text("200000 100000\n")
    assert cores.lent() == 2
    (group / "cpu.max").write_text("50000 100000\n")
    assert cores.lent() == 1


@pytest.mark.parametrize("path", ["", "docker/0123"])
def test_a_container_sees_its_own_group_as_the_root(groups, path):
    """With a namespace of its own it is named so too; without, its name is the one from outside."""
    own(groups, "")
    (groups.parent / "own").write_text(f"0::/{path}\n")
    (groups / "cpu.max").write_text("300000 100000\n")
    assert cores.lent() == 3


def test_a_system_without_control_groups_lends_all(groups, monkeypatch):
    assert cores.lent() == 16
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "5")
    assert cores.lent() == 5
