"""As many workers as cores that may be used, not as the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeps.run.cores import quotas, usable_cores
from sweeps.run.fork_server import ForkServer
from sweeps.run.local import LocalLauncher
from tests.processes import python_c

V2 = "0::/pod/container\n"
V1 = "5:cpuset:/\n4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/\n"


def machine(root: Path, membership: str, files: dict[str, str]) -> Path:
    """A root directory with the control groups that a kernel shows there."""
    for name, content in {"proc/self/cgroup": membership, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2, {"sys/fs/cgroup/pod/container/cpu.max": "250000 100000"}, [2.5]),
        (V2, {"sys/fs/cgroup/pod/cpu.max": "50000 100000"}, [0.5]),  # of the pod around it
        (V2, {"sys/fs/cgroup/cpu.max": "300000 100000"}, [3.0]),  # all that a container sees
        (V2, {"sys/fs/cgroup/pod/container/cpu.max": "max 100000"}, []),
        (V2, {"sys/fs/cgroup/pod/container/cpu.max": "nonsense"}, []),
        (
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            [1.5],
        ),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            [],
        ),
        ("", {}, []),
        ("nonsense\n", {}, []),
    ],
)
def test_the_quota_of_every_control_group_is_read(
    tmp_path: Path, membership: str, files: dict[str, str], expected: list[float]
) -> None:
    assert list(quotas(machine(tmp_path, membership, files))) == expected


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000", 1), ("10000", 1), ("290000", 2), ("9900000", 4), ("max", 4)]
)
def test_cores_are_bounded_by_the_quota_and_by_the_process_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    root = machine(tmp_path, V2, {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    assert usable_cores(root) == cores


def test_where_neither_can_be_asked_the_cores_of_the_machine_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores(tmp_path) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


def test_a_process_bound_to_one_core_has_room_for_one_worker() -> None:
    bound = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code = bound + "from sweeps.run.cores import usable_cores; print(usable_cores())"
    assert python_c(code) == "1\n"
    assert LocalLauncher(ForkServer()).slots == usable_cores()
