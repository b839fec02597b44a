"""A real MLflow server on a TCP port of this machine, which keeps the artifacts as well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.cluster.postgres import free_port

SECONDS: Final = 60.0
"""How long a start may take: the first one creates the tables."""


@dataclass
class TrackingServer:
    """`mlflow server` with a database as its backend store; as a context manager it runs."""

    database: str
    """Its address, with the password."""
    folder: Path
    """Where it keeps artifacts and its log."""
    host: str = "127.0.0.1"
    port: int = 0
    """Whatever is free, unless given; the same after a restart."""
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        self.port = self.port or free_port(self.host)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.stop("kill")
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def uri(self) -> str:
        """As MLFLOW_TRACKING_URI takes it."""
        return f"http://{self.host}:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    def start(self) -> None:
        """Run it, unless it runs; returns when it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        environ = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
        environ |= {
            "MLFLOW_BACKEND_STORE_URI": with_driver(self.database),  # lists of processes show args
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", self.host, "--port", str(self.port)]
        command += ["--artifacts-destination", str(self.artifacts)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.folder,
                start_new_session=True,  # its processes end together, and not by our Ctrl-C
            )
        until = time.monotonic() + SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the MLflow server does not start:\n{self.log[-2000:]}")
            time.sleep(0.1)

    def stop(self, how: str = "fast") -> None:
        """Stop all its processes: "fast", or "kill"; returns when the first of them has ended."""
        if self._process is None:
            return
        number = signal.SIGKILL if how == "kill" else signal.SIGTERM
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def restart(self, how: str = "fast") -> None:
        """Stop it in one of these ways and start it again."""
        self.stop(how)
        self.start()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return True
        except OSError:
            return False

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"


def with_driver(address: str) -> str:
    """A PostgreSQL address as SQLAlchemy needs it."""
    return address.replace("postgresql://", "postgresql+psycopg://", 1)
