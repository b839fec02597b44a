"""How many cores this process may use: in a container or a batch job fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """The cores that the process is bound to (taskset, Slurm), or fewer if the CPU quota of its
    control groups (Docker, Kubernetes) is smaller; whole cores, at least one."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([bound or 1, *(int(quota) for quota in quotas(root))]))


def quotas(root: Path) -> Iterator[float]:
    """The CPU quota, in cores, of every control group that the process is in and that has one."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
            if hierarchy == "0":
                mounts, read = ["sys/fs/cgroup", "sys/fs/cgroup/unified"], quota_v2
            elif "cpu" in controllers.split(","):
                mounts, read = [f"sys/fs/cgroup/{name}" for name in (controllers, "cpu")], quota_v1
            else:
                continue
            for mount in mounts:
                for group in lineage(path):
                    with suppress(OSError, ValueError, ZeroDivisionError):
                        yield read(root / mount / group)


def lineage(path: str) -> Iterator[str]:
    """A control group and its parents: in a container only the outermost may be visible."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield "/".join(parts[:depth])


def quota_v2(group: Path) -> float:
    """The quota of a version 2 group: "QUOTA PERIOD"; ValueError if "max PERIOD", no limit."""
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota) / int(period)


def quota_v1(group: Path) -> float:
    """The quota of a version 1 group; ValueError if it is -1, no limit."""
    quota = int((group / "cpu.cfs_quota_us").read_text())
    if quota <= 0:
        raise ValueError("no limit")
    return quota / int((group / "cpu.cfs_period_us").read_text())
