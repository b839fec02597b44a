"""Starts the workers of a sweep as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lander.files import inside
from lander.trust import inherited
from sweeps.run.cores import usable_cores
from sweeps.sweep import Sweep


class LocalWorker:
    """A worker process; its output is appended to a log."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        """Start it; `environ` is added to the environment of this process."""
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=os.environ | environ
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def failure(self) -> str:
        return f"see {self._log}" if self._process.returncode else ""

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()


class LocalLauncher:
    """Starts workers on this machine."""

    remote = False

    @property
    def slots(self) -> int:
        return usable_cores()

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> LocalWorker:
        """Start a worker that logs to STORE/logs/STUDY-worker-INDEX.log."""
        folder = inside(sweep.store.folder, sweep.store.folder / "logs")
        folder.mkdir(exist_ok=True)
        log = inside(folder, folder / f"{sweep.study.name}-worker-{index}.log")
        command = worker_command(sweep, index=index, seconds=seconds)
        return LocalWorker(command, log, {"OMP_NUM_THREADS": "1"} | inherited(sweep.store.origin))


def worker_command(sweep: Sweep, *, index: int, seconds: float | None) -> Sequence[str]:
    """The command line of a worker that ends with this process.

    Without --parent, anyone may start the same worker, on this host or another.
    """
    command = [sys.executable, "-m", "sweeps", "work", "--study", sweep.study.name]
    command += ["--store", str(sweep.store.folder), "--worker", str(index)]
    command += ["--parent", str(os.getpid())]
    return command if seconds is None else [*command, "--hours", str(seconds / 3600)]
