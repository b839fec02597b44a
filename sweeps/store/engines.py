"""SQLAlchemy's engines of both databases: their options, and when their connections end.

A process opens each database once, and its pool keeps the connections. They are given back while
somebody waits for a server, and end when another file is put under the name of a SQLite database:
else nobody would read a copy that was put back while a notebook is open, and the replaced file
would still be written.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, event, exc

LOCK_SECONDS: Final = 60
"""How long to wait for another process that writes to a SQLite file."""
POSTGRESQL: Final = {
    "connect_timeout": 10,
    "application_name": "sweeps",
    # a host that was cut off, or whose server was, notices within half a minute
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    # heartbeats are compared across hosts, whose clients may be set to other time zones; and the
    # server notices a host that was cut off, whose locks it would else keep for two hours
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 "
    "-c tcp_keepalives_count=3 -c tcp_user_timeout=30s -c timezone=UTC",
}
"""Parameters of a connection to a server."""
MLFLOW_TIMEOUT: Final = "busy_timeout = 20000"
"""Part of the statement that MLflow executes before every transaction on a SQLite file."""
OPENED: Final = "sweeps.file"
"""Key under which a pooled connection keeps the path and identity of the file that it opened."""
OPEN_ENGINES: Final[WeakSet[Engine]] = WeakSet()
"""Engines of Optuna's databases that this process opened."""


def engine_options(url: URL) -> dict[str, Any]:
    """Arguments of `create_engine`. A process has few connections: there may be hundreds of
    processes, and PostgreSQL takes a hundred connections unless configured otherwise."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": LOCK_SECONDS}}
    pool = {"pool_size": 1, "max_overflow": 2, "pool_timeout": 60, "pool_pre_ping": True}
    return {**pool, "connect_args": POSTGRESQL}


def give_back_connections(url: URL | None = None) -> None:
    """Close the idle connections to Optuna's database, or to all that are open: a busy server may
    have no others left, while each of its clients waits for a second one."""
    for engine in list(OPEN_ENGINES):
        if url in (None, engine.url):
            engine.dispose()


def extend_busy_timeout(engine: Engine) -> None:
    """Let an engine of MLflow's wait `LOCK_SECONDS` for a lock: MLflow sets 20 seconds, and no
    option of it changes that."""
    if not event.contains(engine, "before_cursor_execute", replace_timeout):
        event.listen(engine, "before_cursor_execute", replace_timeout, retval=True)


def replace_timeout(
    _connection: Connection,
    _cursor: object,
    statement: str,
    parameters: Any,
    _context: object,
    _many: bool,
) -> tuple[str, Any]:
    """MLflow's statement with a longer timeout; any other statement unchanged."""
    return statement.replace(MLFLOW_TIMEOUT, f"busy_timeout = {LOCK_SECONDS}000"), parameters


def watch_file(engine: Engine) -> None:
    """Check the file of a SQLite engine whenever a connection is made or used again."""
    if engine.dialect.name == "sqlite" and not event.contains(engine, "connect", note_file):
        engine.dispose()  # connections whose file nobody has noted
        event.listen(engine, "connect", note_file)
        event.listen(engine, "checkout", require_same_file)


def note_file(connection: Any, record: Any) -> None:
    """Remember which file a new connection opened."""
    if isinstance(connection, sqlite3.Connection):
        rows = connection.execute("PRAGMA database_list").fetchall()
        path = next((row[2] for row in rows if row[1] == "main"), "")
        record.info[OPENED] = path, file_identity(path)


def require_same_file(_connection: Any, record: Any, _proxy: Any) -> None:
    """Make the pool open a file that was replaced.

    Raises:
        sqlite3.OperationalError: the file is gone; opening it would create an empty one.
        DisconnectionError: it was replaced; SQLAlchemy then connects anew.
    """
    path, opened = record.info.get(OPENED, ("", None))
    now = file_identity(path)
    if now == opened:
        return
    if now is None:
        raise sqlite3.OperationalError(f"{path} is gone")
    raise exc.DisconnectionError(f"{path} was replaced")


def file_identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file, which tell it from another of the same name; None if it is
    missing, or only in memory."""
    try:
        status = Path(path).stat() if path else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)
