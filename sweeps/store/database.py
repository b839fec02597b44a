"""The addresses of the two databases, the locks on Optuna's, and what their errors mean.

Optuna's database is a file in the store, or the PostgreSQL database that SWEEPS_STORAGE names.
MLflow's is a file in the store, or belongs to the server that MLFLOW_TRACKING_URI names.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from filelock import FileLock
from sqlalchemy import URL, Engine, create_engine, exc, func, make_url, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from lander.errors import ConfigError
from sweeps.hints import with_extra
from sweeps.store.database_files import require_readable
from sweeps.store.engines import POSTGRESQL
from sweeps.store.retry import is_transient, message_of, retrying

STORAGE_ENV: Final = "SWEEPS_STORAGE"
"""Environment variable, so that the password stays out of command lines."""
TRACKING_ENV: Final = "MLFLOW_TRACKING_URI"
PORTS: Final = range(1, 2**16)
PASSING: Final = (sqlite3.OperationalError, exc.OperationalError)
"""Errors of a file that is locked, or of a full disk: the file itself is in order."""
BROKEN: Final = (sqlite3.DatabaseError, exc.DatabaseError)
VERSION_WORD: Final = "schema"
"""Optuna and MLflow each raise an error class of their own for a database of another version; its
English message, which neither translates, has this word."""


def storage_url(file: Path) -> URL:
    """Address of Optuna's database: this file, unless SWEEPS_STORAGE names a server.

    Raises:
        ConfigError: SWEEPS_STORAGE is no address of a PostgreSQL database, or the driver is
            missing.
    """
    value = os.environ.get(STORAGE_ENV, "")
    if not value:
        return sqlite_url(file)
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):  # the second one for a port that is no number
        url = URL.create("nothing")  # the value is not shown: it may hold a password
    port = 1 if url.port is None else url.port
    if url.get_backend_name() != "postgresql" or not url.database or port not in PORTS:
        raise ConfigError(
            f"{STORAGE_ENV} must be postgresql://HOST/DATABASE, before HOST the user, a colon, the "
            "password and an @, behind it a colon and the port if that is not 5432"
        )
    if find_spec("psycopg") is None:
        raise ConfigError(f"{STORAGE_ENV} needs psycopg: {with_extra('cluster')}")
    return url.set(drivername="postgresql+psycopg")


def sqlite_url(file: Path) -> URL:
    """Address of a SQLite database."""
    return URL.create("sqlite", database=str(file.resolve()))


def tracking_server(file: Path) -> str | None:
    """Address of the MLflow server that MLFLOW_TRACKING_URI names; None if runs are recorded in
    `file`, which MLflow itself writes into that variable once it has opened it.

    Raises:
        ConfigError: MLFLOW_TRACKING_URI is no address of a server.
    """
    value = os.environ.get(TRACKING_ENV, "")
    if not value or value.startswith("sqlite:"):
        return None
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not value.isprintable() or " " in value:
        raise ConfigError(
            f"{TRACKING_ENV} must be http://HOST:PORT or https://HOST of an MLflow server, got "
            f"{value!r}: unset it to record in {file.parent}"
        )
    return value


def lock(url: URL, name: str = "") -> AbstractContextManager[object]:
    """A mutex across processes, and across hosts if the database is on a server; released if its
    holder dies. Each name is a mutex of its own."""
    if url.get_backend_name() == "sqlite":
        return FileLock(f"{url.database}.{name}.lock" if name else f"{url.database}.lock")
    return server_lock(url, name)


@contextmanager
def server_lock(url: URL, name: str) -> Generator[None]:
    """PostgreSQL's advisory lock, which lasts as long as the connection that took it."""
    options = {**POSTGRESQL, "options": f"{POSTGRESQL['options']} -c lock_timeout=10s"}
    engine = create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options
    )
    connection = connect_and_lock(engine, lock_key(name))
    try:
        yield
    finally:
        connection.close()


@retrying
def connect_and_lock(engine: Engine, key: int) -> Any:
    """A connection that holds a lock of its database."""
    connection = engine.connect()
    try:
        connection.execute(select(func.pg_advisory_lock(key)))
    except BaseException:
        connection.invalidate()
        connection.close()
        raise
    return connection


def lock_key(name: str) -> int:
    """The number of a lock, which no other program in the same database is likely to use."""
    text = f"lander sweeps {name}".strip()
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


@contextmanager
def explaining_errors(url: URL, *, upgrade: str) -> Generator[None]:
    """Turn "damaged database" and "schema of another version" errors into one line.

    Raises:
        ConfigError: with the remedy; `upgrade` is the command that brings a database up to date.
    """
    file = Path(url.database or "")
    try:
        if url.get_backend_name() == "sqlite" and file.is_file():
            with suppress(*PASSING):
                require_readable(file)
        yield
    except PASSING as error:
        if url.get_backend_name() == "sqlite" or is_transient(error):
            raise
        raise ConfigError(f"{url} cannot be used as a database: {message_of(error)}") from None
    except BROKEN as error:
        if url.get_backend_name() != "sqlite":
            raise ConfigError(f"{url} cannot be used as a database: {message_of(error)}") from None
        raise ConfigError(
            f"{file} is damaged ({getattr(error, 'orig', error)}): restore a copy of it, "
            "or move the store aside and start a new one"
        ) from None
    except Exception as error:
        if VERSION_WORD not in str(error):
            raise
        if url.get_backend_name() != "sqlite":
            upgrade = f"if it is not MLflow's, which needs a database of its own: {upgrade}"
        raise ConfigError(
            f"{url} was written by another version: install that (tags of the runs name it), or, "
            f"with a copy made, {upgrade} {url}"
        ) from None
