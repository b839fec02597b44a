"""Processes that tests start: `python -m ...` as a user types it, programs, and MLflow's server.

None outlives its test, and a test waits for a condition, never for an amount of time.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

ROOT: Final = Path(__file__).parents[1]
DEADLINE: Final = 300.0
"""Seconds until a condition counts as never met."""

HEADER: Final = ("study ", "searched ", "steps ", "workers ", "store ")
"""How the lines begin that `sweeps run` prints before it reads any database."""

Completed = subprocess.CompletedProcess[str]
Process = subprocess.Popen[str]


def python_m(
    module: str,
    *args: str | Path,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Completed:
    """Run `python -m MODULE ARGS` to its end, however it ends."""
    return python("-m", *without_report(module, *map(str, args)), cwd=cwd, environ=environ)


def without_report(module: str, *args: str) -> list[str]:
    """A command; a sweep and a confirmation leave out their report, which takes seconds and has
    tests of its own."""
    leaves_out = module in ("sweeps", "analysis") and args[:1] in (("run",), ("confirm",))
    return [module, *args, *(["--no-report"] if leaves_out else [])]


def python_c(
    code: str, *args: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> str:
    """The stdout of `python -c CODE ARGS`, which must end well."""
    done = python("-c", code, *args, cwd=cwd, environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(
    *words: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> Completed:
    """Run the interpreter with these words to its end; `environ` is all of its environment."""
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=cwd, env=environ
    )


class Start(Protocol):
    """Begins `python -m MODULE ARGS` as a process group of its own."""

    def __call__(
        self,
        module: str,
        *args: str | Path,
        output: int = subprocess.PIPE,
        environ: Mapping[str, str] | None = None,
    ) -> Process: ...


@contextmanager
def starting() -> Generator[Start]:
    """A function that starts processes; those that still run at the end are killed."""
    started: list[Process] = []

    def start(
        module: str,
        *args: str | Path,
        output: int = subprocess.PIPE,
        environ: Mapping[str, str] | None = None,
    ) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-m", *without_report(module, *map(str, args))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            env=environ,
            start_new_session=True,
        )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            with process:  # closes its pipes
                kill_all(process)


def kill_all(process: subprocess.Popen[str]) -> None:
    """kill -9 of a process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def output_of(process: Process, *, code: int = 0, seconds: float | None = None) -> str:
    """All that a process prints until it ends, which must be with this exit code."""
    output, error = process.communicate(timeout=seconds)
    assert process.returncode == code, output + error
    return output + error


def until(
    condition: Callable[[], object],
    process: subprocess.Popen[str] | None = None,
    *,
    seconds: float = DEADLINE,
) -> None:
    """Wait for a condition, as long as the process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the condition was never met"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; an orphan that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of an address of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class TrackingServer:
    """A real `mlflow server` on a TCP port of this machine; it runs inside the `with` block.

    It keeps the artifacts as well, and can be killed and started again at the same address.
    """

    database: str
    """The URL of its backend store, with the password."""
    folder: Path
    """It writes artifacts and its log in here."""
    host: str = "127.0.0.1"
    port: int = 0
    """Any free one, unless given; the same after a restart."""
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
        """The value for MLFLOW_TRACKING_URI."""
        return f"http://{self.host}:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers: the first start creates tables."""
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
            process = self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.folder,
                start_new_session=True,  # its processes end together, and not by our Ctrl-C
            )
        until(lambda: process.poll() is not None or self._answers())
        if process.poll() is not None:
            raise RuntimeError(f"the MLflow server does not start:\n{self.log[-2000:]}")

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


def with_driver(url: str) -> str:
    """The URL of a PostgreSQL database as SQLAlchemy needs it; any other URL as it is."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
