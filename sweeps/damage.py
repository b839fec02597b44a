"""Says what is wrong with a database that cannot be read, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import exc

from lander.fields import ConfigError

PASSING: Final = (sqlite3.OperationalError, exc.OperationalError)
"""Locked, or no room: nothing is wrong with the file."""
BROKEN: Final = (sqlite3.DatabaseError, exc.DatabaseError)


@contextmanager
def readable(file: Path, *, upgrade: str) -> Generator[None]:
    """What fails inside because the database is damaged, or of another version, is told so.

    Raises:
        ConfigError: with the remedy; `upgrade` is the command that brings a database up to date.
    """
    try:
        if file.is_file():
            with closing(sqlite3.connect(file)) as connection, suppress(*PASSING):
                connection.execute("SELECT name FROM sqlite_master").fetchall()
        yield
    except PASSING:
        raise
    except BROKEN as error:
        why = str(getattr(error, "orig", error))
        raise ConfigError(
            f"{file} is damaged ({why}): put a copy of it in its place, or move the store aside "
            "and start anew"
        ) from None
    except Exception as error:  # each library has a class of its own for this
        if "schema" not in str(error):
            raise
        raise ConfigError(
            f"{file} was written by another version: install that (tags of the runs name it), or, "
            f"with a copy made, {upgrade} sqlite:///{file}"
        ) from None
