"""Connections to a SQLite file end when another file is put under its name.

Both databases are opened once per process, and their pools keep connections: without this, a copy
put back while a notebook is open would be read by nobody, and the file it replaced still written.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, exc

OPENED = "sweeps.file"
"""Key of a pooled connection's own facts: path and identity of the file that it opened."""


def watch_file(engine: Engine) -> None:
    """Look at the file whenever a connection of this engine is made or used again."""
    if engine.dialect.name == "sqlite" and not event.contains(engine, "connect", note_file):
        engine.dispose()  # of connections whose file nobody has looked at
        event.listen(engine, "connect", note_file)
        event.listen(engine, "checkout", require_same_file)


def note_file(connection: Any, record: Any) -> None:
    """Remember which file a new connection opened."""
    if isinstance(connection, sqlite3.Connection):
        rows = connection.execute("PRAGMA database_list").fetchall()
        path = next((row[2] for row in rows if row[1] == "main"), "")
        record.info[OPENED] = path, identity(path)


def require_same_file(_connection: Any, record: Any, _proxy: Any) -> None:
    """Let the pool open the file anew if it is another one.

    Raises:
        sqlite3.OperationalError: it is gone; to open it would create an empty one.
        DisconnectionError: it was replaced.
    """
    path, opened = record.info.get(OPENED, ("", None))
    now = identity(path)
    if now == opened:
        return
    if now is None:
        raise sqlite3.OperationalError(f"{path} is gone")
    raise exc.DisconnectionError(f"{path} was replaced")


def identity(path: str) -> tuple[int, int] | None:
    """Tells one file from another of the same name; None if there is none, or only in memory."""
    try:
        found = Path(path).stat() if path else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)
