"""Starts the workers of a sweep as processes of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from lander.files import inside
from lander.trust import inherited
from sweeps.run.cores import usable_cores
from sweeps.run.fork_server import ForkServer
from sweeps.sweep import Sweep


class LocalWorker:
    """A worker process; its output is appended to a log."""

    def __init__(self, server: ForkServer, pid: int, log: Path) -> None:
        self._server = server
        self._pid = pid
        self._log = log
        self._code: int | None = None

    @property
    def ended(self) -> bool:
        if self._code is None:
            self._code = self._server.exit_code(self._pid)
        return self._code is not None

    @property
    def failure(self) -> str:
        return f"see {self._log}" if self._code else ""

    def interrupt(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if not self.ended:  # until then no other process has its id
            os.kill(self._pid, number)


class LocalLauncher:
    """Starts workers on this machine."""

    remote = False

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    @property
    def slots(self) -> int:
        return usable_cores()

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> LocalWorker:
        """Start a worker that logs to STORE/logs/STUDY-worker-INDEX.log."""
        folder = inside(sweep.store.folder, sweep.store.folder / "logs")
        folder.mkdir(exist_ok=True)
        log = inside(folder, folder / f"{sweep.study.name}-worker-{index}.log")
        log.touch()
        command = worker_command(sweep, index=index, seconds=seconds)
        pid = self._server.fork(command, log=log, environ=inherited(sweep.store.origin))
        return LocalWorker(self._server, pid, log)


def worker_command(sweep: Sweep, *, index: int, seconds: float | None) -> Sequence[str]:
    """The arguments of `python -m sweeps` for a worker.

    Anyone may start the same one by hand, on this host or another.
    """
    command = ["work", "--study", sweep.study.name, "--store", str(sweep.store.folder)]
    command += ["--worker", str(index)]
    return command if seconds is None else [*command, "--hours", str(seconds / 3600)]
