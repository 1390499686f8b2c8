"""The cores lent to this process, which may be fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, or of the job's control group


def lent() -> int:
    """By its affinity (taskset, cpuset), its control group's quota and its Slurm job: the smallest counts."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return max(1, min(affinity, _quota(), int(slurm) if slurm.isdigit() else affinity))


def _quota() -> int:
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no control groups, or "max"
        return os.cpu_count() or 1
