"""Two Ray nodes on this machine, in a process of their own: one can be lost."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Self

NODE: Final = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
LOSE = "lose"
SOON: Final = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}
"""Health checks that notice a lost node within seconds."""


class Nodes:
    """A Ray cluster of two nodes; nothing of it outlives the `with` block."""

    def __init__(self) -> None:
        self.environ = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        """Variables for processes that connect to the nodes."""
        self.address = ""

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="ray")  # short: sockets have short names only
        environ = os.environ | self.environ | SOON | {"RAY_TMPDIR": self._folder}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.nodes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ | {"RAY_USAGE_STATS_ENABLED": "0"},
            text=True,
            start_new_session=True,  # Ctrl-C reaches only the tests
        )
        self.address = self._read()
        return self

    def lose(self) -> None:
        """Kill the second node, all its processes at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(LOSE + "\n")
        self._process.stdin.flush()
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError("Ray's nodes do not start")
        return line

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()  # which ends the process
        shutil.rmtree(self._folder, ignore_errors=True)


def kill(node: Any) -> None:
    """Kill a node's processes and all that they have started."""
    psutil = import_module("psutil")
    roots = [process.process.pid for started in node.all_processes.values() for process in started]
    processes = [psutil.Process(pid) for pid in roots]
    for process in [*processes, *(c for p in processes for c in p.children(recursive=True))]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def main() -> None:
    """Print the address of the cluster, lose a node on request, end with the input."""
    cluster = import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args=NODE | {"include_dashboard": False}
    )
    second = cluster.add_node(**NODE)
    try:
        print(cluster.address, flush=True)
        for line in sys.stdin:
            if line.strip() == LOSE:
                kill(second)
                print("lost", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
