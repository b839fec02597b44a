"""Says what is wrong with a database that cannot be read, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import URL, exc

from lander.fields import ConfigError
from sweeps.halves import TABLE_NAMES, ask
from sweeps.patience import is_silence, told

PASSING: Final = (sqlite3.OperationalError, exc.OperationalError)
"""Locked, or no room: nothing is wrong with the file."""
BROKEN: Final = (sqlite3.DatabaseError, exc.DatabaseError)


@contextmanager
def readable(url: URL, *, upgrade: str) -> Generator[None]:
    """What fails inside because the database is damaged, or of another version, is told so.

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
        if url.get_backend_name() == "sqlite" or is_silence(error):
            raise
        raise ConfigError(f"{url} is no database to use: {told(error)}") from None
    except BROKEN as error:
        why = str(getattr(error, "orig", error))
        if url.get_backend_name() != "sqlite":
            raise ConfigError(f"{url} is no database to use: {told(error)}") from None
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
