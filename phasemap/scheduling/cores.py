"""The cores lent to this process, which may be fewer than the machine has, and the control groups that limit it."""

from __future__ import annotations

import os
from pathlib import Path

GROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def lent() -> int:
    """By its affinity (taskset, cpuset), the quotas of its control groups and its Slurm job: the smallest counts."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm = os.environ.get("SLURM_CPUS_ON_NODE", "")
    quota = min(map(_quota, groups()))
    return max(1, min(affinity, quota, int(slurm) if slurm.isdigit() else affinity))


def groups() -> list[Path]:
    """Folders of this process's control groups (version 2): its own, a container's or a batch job's, and all above it,
    whose limits hold too. A container may see its own as the root, and its name from outside."""
    try:
        lines = OWN_GROUP.read_text().splitlines()
    except OSError:  # no control groups
        lines = []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = GROUPS / own
    return [one for one in (group, *group.parents) if one.is_relative_to(GROUPS)]


def _quota(group: Path) -> int:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # the root, or "max"
        return os.cpu_count() or 1
