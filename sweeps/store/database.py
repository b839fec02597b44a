"""Where Optuna's database is: a file in the store, or the server that SWEEPS_STORAGE names."""

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
from sweeps.store.database_files import TABLE_NAMES, ask
from sweeps.store.retry import is_transient, message_of, retrying

STORAGE_ENV: Final = "SWEEPS_STORAGE"
"""Environment variable; its password stays out of command lines."""
TRACKING_ENV: Final = "MLFLOW_TRACKING_URI"
"""Environment variable that names a server of MLflow."""
PORTS: Final = range(1, 2**16)
LOCK_SECONDS: Final = 60
"""How long to wait for somebody else who writes to a SQLite file."""
CONNECTION: Final = {
    "connect_timeout": 10,
    "application_name": "sweeps",
    # a host that was cut off, or whose server was, notices within half a minute
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    # heartbeats are compared across hosts, whose clients may be set to other time zones; a host
    # that was cut off is noticed by the server too, which would else keep its locks for two hours
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 "
    "-c tcp_keepalives_count=3 -c tcp_user_timeout=30s -c timezone=UTC",
}


def storage_url(file: Path) -> URL:
    """Of a database: this file, unless a server is named.

    Raises:
        ConfigError: SWEEPS_STORAGE is no address of a PostgreSQL database, or the driver is
            missing.
    """
    named = os.environ.get(STORAGE_ENV, "")
    if not named:
        return sqlite_url(file)
    try:
        found = make_url(named)
    except (ArgumentError, ValueError):  # the second one for a port that is no number
        found = URL.create("nothing")  # what was given may hold a password
    port = 1 if found.port is None else found.port
    if found.get_backend_name() != "postgresql" or not found.database or port not in PORTS:
        raise ConfigError(
            f"{STORAGE_ENV} must be postgresql://HOST/DATABASE, before HOST the user, a colon, the "
            "password and an @, behind it a colon and the port if that is not 5432"
        )
    if find_spec("psycopg") is None:
        raise ConfigError(f"{STORAGE_ENV} needs psycopg: .venv/bin/pip install '.[cluster]'")
    return found.set(drivername="postgresql+psycopg")


def tracking_server(file: Path) -> str | None:
    """The address of the MLflow server that is named, if one is; MLflow itself names `file`, once
    it has opened that.

    Raises:
        ConfigError: MLFLOW_TRACKING_URI is no address of a server.
    """
    named = os.environ.get(TRACKING_ENV, "")
    if not named or named.startswith("sqlite:"):
        return None
    try:
        found = urlsplit(named)
        right = found.scheme in ("http", "https") and found.hostname and found.port != 0
    except ValueError:
        right = False
    if not right or not named.isprintable() or " " in named:
        raise ConfigError(
            f"{TRACKING_ENV} must be http://HOST:PORT or https://HOST of an MLflow server, got "
            f"{named!r}: unset it to record in {file.parent}"
        )
    return named


def sqlite_url(file: Path) -> URL:
    """Of a SQLite database."""
    return URL.create("sqlite", database=str(file.resolve()))


def engine_options(url: URL) -> dict[str, Any]:
    """For SQLAlchemy's engine. A process has few connections: there may be hundreds of processes,
    and PostgreSQL takes a hundred connections unless configured otherwise."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": LOCK_SECONDS}}
    pool = {"pool_size": 1, "max_overflow": 2, "pool_timeout": 60, "pool_pre_ping": True}
    return {**pool, "connect_args": CONNECTION}


def lock(url: URL, name: str = "") -> AbstractContextManager[object]:
    """A mutex across processes, on a server across hosts; released when its holder dies.

    One of another name is another mutex.
    """
    if url.get_backend_name() == "sqlite":
        return FileLock(f"{url.database}.{name}.lock" if name else f"{url.database}.lock")
    return server_lock(url, name)


@contextmanager
def server_lock(url: URL, name: str) -> Generator[None]:
    """PostgreSQL's advisory lock, held as long as a connection of its own is."""
    options = {**CONNECTION, "options": f"{CONNECTION['options']} -c lock_timeout=10s"}
    engine = create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options
    )
    connection = take(engine, lock_key(name))
    try:
        yield
    finally:
        connection.close()


@retrying
def take(engine: Engine, key: int) -> Any:
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
    """Tells our locks apart from those of others in the same database, and from each other."""
    text = f"lander sweeps {name}".strip()
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


PASSING: Final = (sqlite3.OperationalError, exc.OperationalError)
"""Locked, or no room: nothing is wrong with the file."""
BROKEN: Final = (sqlite3.DatabaseError, exc.DatabaseError)


@contextmanager
def explaining_errors(url: URL, *, upgrade: str) -> Generator[None]:
    """What fails inside because the database is damaged, or of another version, is explained.

    Raises:
        ConfigError: with the remedy; `upgrade` is the command that brings a database up to date.
    """
    file = Path(url.database or "")
    try:
        if url.get_backend_name() == "sqlite" and file.is_file():
            with suppress(*PASSING):
                ask(file, TABLE_NAMES, "ro")
        yield
    except PASSING as error:
        if url.get_backend_name() == "sqlite" or is_transient(error):
            raise
        raise ConfigError(f"{url} is no database to use: {message_of(error)}") from None
    except BROKEN as error:
        why = str(getattr(error, "orig", error))
        if url.get_backend_name() != "sqlite":
            raise ConfigError(f"{url} is no database to use: {message_of(error)}") from None
        raise ConfigError(
            f"{file} is damaged ({why}): put a copy of it in its place, or move the store aside "
            "and start anew"
        ) from None
    except Exception as error:  # each library has a class of its own for this
        if "schema" not in str(error):
            raise
        if url.get_backend_name() != "sqlite":
            upgrade = f"if it is not MLflow's, which needs a database of its own: {upgrade}"
        raise ConfigError(
            f"{url} was written by another version: install that (tags of the runs name it), or, "
            f"with a copy made, {upgrade} {url}"
        ) from None
