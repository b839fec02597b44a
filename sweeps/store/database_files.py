"""The two SQLite files of a store: whether each exists, which program wrote it, what it holds.

Neither Optuna nor MLflow may open a file that was not examined here: both fill an empty file, and
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
"""Tables that identify a database as Optuna's or MLflow's."""
LIBRARIES: Final = {OPTUNA_FILE: "Optuna", MLFLOW_FILE: "MLflow"}
OTHERS: Final = {OPTUNA_FILE: MLFLOW_FILE, MLFLOW_FILE: OPTUNA_FILE}
RECORDED: Final = {
    OPTUNA_FILE: "SELECT DISTINCT study_name FROM studies JOIN study_user_attributes "
    f"USING (study_id) WHERE key = '{RUN_ID}' ORDER BY 1",
    MLFLOW_FILE: "SELECT DISTINCT experiments.name FROM experiments JOIN runs "
    "USING (experiment_id) ORDER BY 1",
}
"""Query for the names of the sweeps in one file whose records the other file must hold too."""
TABLE_NAMES: Final = "SELECT name FROM sqlite_master"
WAL: Final = b"\x02\x02"
"""Bytes 18 and 19 of a file in write-ahead mode, where even a reader writes files beside it."""


class FileState(Enum):
    """What stands under the name of a database file."""

    MISSING = "missing"
    EMPTY = "empty"
    """No tables: a database that Optuna or MLflow would fill."""
    FOREIGN = "foreign"
    """Tables of another program."""
    COMPLETE = "complete"


def state_of(file: Path) -> FileState:
    """What a file with that name holds.

    Raises:
        sqlite3.DatabaseError: it is damaged, or no SQLite file.
    """
    if not file.is_file():
        return FileState.MISSING
    if not file.stat().st_size:
        return FileState.EMPTY
    tables = {str(name) for (name,) in query(file, TABLE_NAMES)}
    if not tables:
        return FileState.EMPTY
    return FileState.COMPLETE if TABLES[file.name] <= tables else FileState.FOREIGN


def require_usable(file: Path) -> FileState:
    """The state of a file that holds what its name says, or may be created without a loss.

    Raises:
        ConfigError: it is another program's, or lost while the other file holds sweeps; with the
            remedy.
        sqlite3.DatabaseError: it is damaged, or no SQLite file.
    """
    state, other = state_of(file), file.with_name(OTHERS[file.name])
    remedy = "restore a copy of it, or move the store aside and start a new one"
    if state == FileState.FOREIGN:
        raise ConfigError(
            f"{file} is an SQLite file, but not a database of {LIBRARIES[file.name]}: {remedy}"
        )
    if state == FileState.COMPLETE or state_of(other) != FileState.COMPLETE:
        return state
    lost = [str(name) for (name,) in query(other, RECORDED[other.name])]
    if lost:
        raise ConfigError(
            f"{file} is {state.value}, but {other.name} beside it holds {', '.join(lost)}: {remedy}"
        )
    return state


def require_readable(file: Path) -> None:
    """Raise sqlite3.DatabaseError if a file is no SQLite database, or damaged at its beginning."""
    execute(file, TABLE_NAMES, mode="ro")


def query(file: Path, statement: str) -> list[tuple[object, ...]]:
    """Rows that a database returns for a SELECT."""
    try:
        return execute(file, statement, mode="ro")
    except sqlite3.OperationalError:  # a dead writer's journal must be rolled back before reading
        return execute(file, statement, mode="rw")


def execute(file: Path, statement: str, *, mode: str) -> list[tuple[object, ...]]:
    """Rows of a statement on a connection of its own."""
    with closing(connect(file, mode)) as connection:
        return connection.execute(statement).fetchall()


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """A connection that only reads ("ro") or also writes ("rw"), and never creates the file."""
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode={mode}", uri=True, timeout=60)


def copy_database(file: Path, to: Path) -> None:
    """Copy a database as it is at one moment, even while others write to it; the file itself stays
    untouched.

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
