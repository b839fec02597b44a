"""Opens MLflow's half of a store: a client of its database or of its server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow import MlflowClient
from sqlalchemy import Connection, Engine, event

from sweeps.store.confined import ConfinedClient
from sweeps.store.database import LOCK_SECONDS, TRACKING
from sweeps.store.replaced import watch_file

BUSY: Final = "busy_timeout = 20000"
"""What MLflow says to SQLite before every transaction."""
OPENED: Final[dict[str, MlflowClient]] = {}
"""Address of a database file -> a client of it."""


def open_server(uri: str) -> MlflowClient:
    """A client of the server at an address."""
    look_at(uri)
    return MlflowClient(tracking_uri=uri)


def open_file(uri: str, *, folder: Path) -> MlflowClient:
    """A client of the database in a file, confined to the folder of its store."""
    look_at(uri)
    OPENED[uri] = client = ConfinedClient(uri, folder)
    for engine in engines(client):
        watch_file(engine)
        if not event.contains(engine, "before_cursor_execute", wait_as_long):
            event.listen(engine, "before_cursor_execute", wait_as_long, retval=True)
    return client


def look_at(uri: str) -> None:
    """Models and the registry look at the process-wide address, whatever client asks."""
    held = os.environ.get(TRACKING)
    mlflow.set_tracking_uri(uri)
    os.environ.pop(TRACKING, None)  # where MLflow has put it, for its own children
    if held is not None:
        os.environ[TRACKING] = held


def disconnect(uri: str) -> None:
    """Give back the connections to a database file: MLflow keeps them for good."""
    if uri in OPENED:
        for engine in engines(OPENED.pop(uri)):
            engine.dispose()


def engines(client: MlflowClient) -> list[Engine]:
    """Of MLflow's two stores in one database: runs, and registered models."""
    stores = client._tracking_client.store, client._get_registry_client().store
    return [store.engine for store in stores]


def wait_as_long(
    _connection: Connection,
    _cursor: object,
    statement: str,
    parameters: Any,
    _context: object,
    _many: bool,
) -> tuple[str, Any]:
    """MLflow would give up after 20 s, and can be told otherwise only here."""
    return statement.replace(BUSY, f"busy_timeout = {LOCK_SECONDS}000"), parameters
