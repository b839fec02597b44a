"""A store whose databases are lost or replaced: one line, and nothing begins anew by itself."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sweeps.store.database_files import RECORDED, FileState, query, state_of
from sweeps.store.store import Store
from tests.sweeps.conftest import Command
from tests.sweeps.test_dry_run import with_hot_journal


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def gone(file: Path) -> None:
    file.unlink()


def without_tables(file: Path) -> None:
    """SQLite's own idea of an empty database: a header, no tables."""
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM")


def of_another_program(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE recipes (id INTEGER, text TEXT)")


def the_other_half(file: Path) -> None:
    """Both files under the wrong names."""
    other = file.with_name({"optuna.db": "mlflow.db", "mlflow.db": "optuna.db"}[file.name])
    file.write_bytes(other.read_bytes())


LOST = {emptied: "is empty", gone: "is missing", without_tables: "is empty"}
FOREIGN = {of_another_program: "not a database of", the_other_half: "not a database of"}
COMMANDS = {
    "optuna.db": ["run", "doctor", "doctor --dry-run", "status", "trials", "export", "reproduce"],
    "mlflow.db": ["run", "doctor", "doctor --dry-run", "reproduce"],
}


def command_line(words: str, store: Store, study: Path) -> list[str]:
    name, *options = words.split()
    line = [name, *options, "--store", str(store.folder)]
    if name == "run":
        return [*line, "--study", str(study), "--workers", "1"]
    return line if name in ("doctor", "status") else [*line, "--study", "tiny"]


def content(store: Store) -> dict[str, bytes]:
    """Of every file."""
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files if path.suffix != ".lock"}


@pytest.mark.parametrize("database", ["optuna.db", "mlflow.db"])
@pytest.mark.parametrize(("damage", "message"), [*(LOST | FOREIGN).items()])
def test_a_lost_or_foreign_database_is_one_line_and_nothing_restarts(
    command: Command,
    finished: Store,
    tiny_file: Path,
    database: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    damage(finished.folder / database)
    before = content(finished)
    for words in COMMANDS[database]:
        done = command(*command_line(words, finished, tiny_file))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), words
        assert f"{finished.folder.resolve() / database} " in done.stderr
        assert message in done.stderr
        assert "restore a copy of it" in done.stderr
    assert content(finished) == before


def test_without_mlflows_half_the_scores_stay_readable(command: Command, finished: Store) -> None:
    (finished.folder / "mlflow.db").unlink()
    assert "tiny: 2 finished" in command("status", "--store", finished.folder).stdout
    done = command("export", "--study", "tiny", "--store", finished.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (finished.folder / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("database", "damage"),
    [("optuna.db", damage) for damage in LOST] + [("mlflow.db", emptied)],  # which takes seconds
)
def test_a_store_without_sweeps_is_completed(
    store: Store, database: str, damage: Callable[[Path], None]
) -> None:
    damage(store.folder / database)
    assert state_of(store.folder / database) in (FileState.EMPTY, FileState.MISSING)
    store.create()
    assert state_of(store.folder / database) == FileState.COMPLETE
    assert store.study_names() == []


def test_a_database_that_was_put_back_is_read_again(finished: Store, empty: Path) -> None:
    assert finished.study_names() == ["tiny"]
    assert [experiment.name for experiment in finished.runs().search_experiments()] == [
        "tiny",
        "Default",
    ]
    databases = {name: (finished.folder / name).read_bytes() for name in RECORDED}
    for name in databases:
        (finished.folder / name).unlink()
        shutil.copyfile(empty / name, finished.folder / name)
    assert finished.study_names() == []
    assert [experiment.name for experiment in finished.runs().search_experiments()] == ["Default"]
    for name, value in databases.items():
        (finished.folder / name).unlink()
        (finished.folder / name).write_bytes(value)
    assert finished.study_names() == ["tiny"]
    assert [experiment.name for experiment in finished.runs().search_experiments()] == [
        "tiny",
        "Default",
    ]


def test_the_journal_of_a_dead_writer_is_undone_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "optuna.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        for table in ("studies", "trials", "version_info"):
            connection.execute(f"CREATE TABLE {table} (text TEXT)")
        connection.executemany("INSERT INTO studies VALUES (?)", [("then" * 500,)] * 200)
    with_hot_journal(file, "UPDATE studies SET text = 'now'")
    assert state_of(file) == FileState.COMPLETE
    assert set(query(file, "SELECT text FROM studies")) == {("then" * 500,)}
