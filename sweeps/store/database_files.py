"""The two database files of a store: whether each is there, whose it is, and what it holds.

Neither Optuna nor MLflow may open a file before it was examined here: both fill an empty file, and
the database of any other program, with tables of their own.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Final

from lander.errors import ConfigError
from sweeps.schema import RUN_ID

OPTUNA_FILE, MLFLOW_FILE = "optuna.db", "mlflow.db"
TABLES: Final = {
    OPTUNA_FILE: {"studies", "trials", "version_info"},
    MLFLOW_FILE: {"experiments", "runs", "alembic_version"},
}
"""By which a database is known for Optuna's or MLflow's."""
LIBRARIES: Final = {OPTUNA_FILE: "Optuna", MLFLOW_FILE: "MLflow"}
OTHERS: Final = {OPTUNA_FILE: MLFLOW_FILE, MLFLOW_FILE: OPTUNA_FILE}
RECORDED: Final = {
    OPTUNA_FILE: "SELECT DISTINCT study_name FROM studies JOIN study_user_attributes "
    f"USING (study_id) WHERE key = '{RUN_ID}' ORDER BY 1",
    MLFLOW_FILE: "SELECT DISTINCT experiments.name FROM experiments JOIN runs "
    "USING (experiment_id) ORDER BY 1",
}
"""Names of the sweeps whose records the other one must hold."""
TABLE_NAMES: Final = "SELECT name FROM sqlite_master"
WAL: Final = b"\x02\x02"
"""In the header of a file in that journal mode, to read which SQLite writes beside it."""


class FileState(Enum):
    """What a database file is."""

    MISSING = "missing"
    EMPTY = "empty"
    """It has no tables: to Optuna and MLflow a database that they have yet to fill."""
    FOREIGN = "foreign"
    WHOLE = "whole"


def state_of(file: Path) -> FileState:
    """What a file of that name is.

    Raises:
        sqlite3.DatabaseError: it is damaged, or no SQLite file.
    """
    if not file.is_file():
        return FileState.MISSING
    if not file.stat().st_size:
        return FileState.EMPTY
    tables = {str(name) for (name,) in rows(file, TABLE_NAMES)}
    if not tables:
        return FileState.EMPTY
    return FileState.WHOLE if TABLES[file.name] <= tables else FileState.FOREIGN


def require_usable(file: Path) -> FileState:
    """What a file is, if that is what its name says, or nothing was lost that it held.

    Raises:
        ConfigError: with the remedy.
        sqlite3.DatabaseError: it is damaged, or no SQLite file.
    """
    found, other = state_of(file), file.with_name(OTHERS[file.name])
    remedy = "put a copy of it back, or move the store aside and start anew"
    if found == FileState.FOREIGN:
        raise ConfigError(
            f"{file} is an SQLite file, but not a database of {LIBRARIES[file.name]}: {remedy}"
        )
    if found == FileState.WHOLE or state_of(other) != FileState.WHOLE:
        return found
    lost = [str(name) for (name,) in rows(other, RECORDED[other.name])]
    if lost:
        raise ConfigError(
            f"{file} is {found.value}, but {other.name} beside it holds {', '.join(lost)}: {remedy}"
        )
    return found


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    """What a database answers to a question."""
    try:
        return ask(file, query, "ro")
    except sqlite3.OperationalError:  # nothing can be read before a dead writer's journal is undone
        return ask(file, query, "rw")


def ask(file: Path, query: str, mode: str) -> list[tuple[object, ...]]:
    """The same, by a connection of that mode."""
    with closing(connect(file, mode)) as connection:
        return connection.execute(query).fetchall()


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """A connection that may write or not, and does not create the file."""
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode={mode}", uri=True, timeout=60)


def copy_database(file: Path, to: Path) -> None:
    """As it is at one moment, whoever writes to it meanwhile; the file itself stays untouched.

    Raises:
        sqlite3.DatabaseError: it is damaged, or no SQLite file.
    """
    with file.open("rb") as header:
        wal = header.read(20)[18:] == WAL
    if not wal:
        try:
            with closing(connect(file, "ro")) as source, closing(sqlite3.connect(to)) as target:
                source.backup(target)
            return
        except sqlite3.OperationalError:  # a dead writer's journal would have to be rolled back:
            pass  # that happens to the copy
    for end in ("", "-journal", "-wal"):
        part = file.with_name(file.name + end)
        if part.is_file():
            shutil.copyfile(part, to.with_name(to.name + end))
