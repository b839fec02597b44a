"""Forks the workers of this machine from one process that has imported all that they need.

The imports take seconds and hundreds of megabytes. This process pays for them once, while its
supervisor creates the databases, and shares the memory with its workers. It opens no database and
starts no thread, so that none is inherited. Another child of it writes their models.

Supervisor and server exchange lines of JSON over two pipes. When the supervisor ends, however it
ends, so does the server; its workers notice that, close their trials and end.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
"""Signals that a whole process group may receive; only the supervisor and the workers obey them."""
IMPORTED: Final = (
    "sweeps.__main__",
    "sweeps.run.worker",
    # what Optuna and MLflow import to open a database
    "alembic.command",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""Modules that the workers share."""
ENVIRON: Final = {
    "OMP_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of pyarrow, which MLflow imports
}
"""What is read during the imports: a process forks safely as long as it has one thread."""


class ForkServer:
    """The supervisor's end of the pipes; the server itself ends with the `with` block."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()  # it may still be importing
            with suppress(BrokenPipeError), self._process:
                pass  # closes the pipes, and waits for it

    def begin(self) -> None:
        """Start the imports, unless they have begun; `fork` waits until they are done."""
        if self._process is not None:
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # the server inherits that
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | ENVIRON,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def fork(self, command: Sequence[str], *, log: Path, environ: Mapping[str, str]) -> int:
        """Run `python -m sweeps COMMAND` in a process of its own, a child of the server; its id.

        Its output is appended to `log`; `environ` is added to the environment of this process.

        Raises:
            RuntimeError: the server has ended; what it printed says why.
        """
        self.begin()
        answer = self._ask(
            {
                "command": command,
                "log": str(log.absolute()),
                "environ": dict(os.environ | environ),
                "folder": str(Path.cwd()),
            }
        )
        if not answer:
            raise RuntimeError("the process that starts workers broke down")
        return int(answer)

    def exit_code(self, pid: int) -> int | None:
        """How a worker ended, None while it runs; 1 if the server has ended, as it ends then."""
        answer = self._ask(pid)
        return json.loads(answer) if answer else 1

    def _ask(self, request: object) -> str:
        """The line that the server answers; empty if it has ended."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return ""
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
        except BrokenPipeError:
            return ""
        return process.stdout.readline()


def serve() -> None:
    """Answer each request, until the supervisor ends."""
    gc.disable()  # all that imports make is kept
    for module in IMPORTED:
        import_module(module)
    from sweeps.record.model import start_exporter  # here, as the supervisor's end needs none of it

    gc.enable()
    gc.collect()
    gc.freeze()  # a collection in a worker would copy all the pages that it looks at
    start_exporter()
    for line in sys.stdin:
        request = json.loads(line)
        answer = ended(request) if isinstance(request, int) else fork(**request)
        print(json.dumps(answer), flush=True)


def ended(pid: int) -> int | None:
    """The exit code of a worker; None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def fork(command: Sequence[str], log: str, environ: Mapping[str, str], folder: str) -> int:
    """Start a worker; its process id."""
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        work([*command, "--parent", str(server)], log=log, environ=environ, folder=folder)
    return pid


def work(command: Sequence[str], *, log: str, environ: Mapping[str, str], folder: str) -> NoReturn:
    """Be a worker: the rest of a forked process's life."""
    code = 1
    try:
        with Path(log).open("ab") as output, Path(os.devnull).open("rb") as nothing:
            for source, number in ((nothing, 0), (output, 1), (output, 2)):
                os.dup2(source.fileno(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.environ.update(environ)
        os.chdir(folder)
        sys.argv[1:] = command  # a run records it
        code = import_module("sweeps.__main__").main(command)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):  # of a full disk
            sys.stdout.flush()
            sys.stderr.flush()
        # to dismantle the interpreter would take longer than the last trial's record
        os._exit(code)


if __name__ == "__main__":
    serve()
