"""Too little room, of whatever kind, is one line under every command: before it trains, or instead
of a traceback."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from mlflow.exceptions import MlflowException

import analysis.__main__
import sweeps.__main__
from lander.errors import ConfigError
from sweeps.commands import copy_pictures
from sweeps.lifecycle.start import start_sweep
from sweeps.store.disk import (
    MIN_FREE_BYTES,
    MIN_FREE_FILES,
    is_full,
    reporting_full_disk,
    shortage_on,
    stopping_when_full,
)
from sweeps.store.store import Store
from sweeps.study.study import read_study
from tests.studies import MINI

Full = Callable[[], None]


def statvfs(
    *, free: int = 2 * MIN_FREE_BYTES, files: int = 10**6, free_files: int = 10**6
) -> object:
    """What the system reports of a disk."""
    disk = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_files=files, f_favail=free_files)
    return lambda _: disk


@contextmanager
def largest_file(size: int) -> Generator[None]:
    """ulimit -f, for as long as this lasts."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# what is measured


@pytest.mark.parametrize(
    ("disk", "lack"),
    [
        (statvfs(), ""),
        (statvfs(free=MIN_FREE_BYTES), ""),
        (statvfs(free=MIN_FREE_BYTES - 4096), "less than 10 MB are left"),
        (statvfs(free_files=MIN_FREE_FILES), ""),
        (statvfs(free_files=MIN_FREE_FILES - 1), "less than 500 files more fit on it (df -i)"),
        (statvfs(files=0, free_files=0), ""),  # as btrfs reports
    ],
)
def test_a_disk_lacks_room_in_bytes_or_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: object, lack: str
) -> None:
    monkeypatch.setattr(os, "statvfs", disk)
    assert shortage_on(tmp_path / "not" / "there").endswith(lack)
    assert bool(shortage_on(tmp_path)) == is_full(tmp_path) == bool(lack)


@pytest.mark.parametrize(
    ("left", "full"), [(MIN_FREE_BYTES, False), (MIN_FREE_BYTES - 1, True), (0, True)]
)
def test_files_that_may_not_grow_lack_room_too(tmp_path: Path, left: int, full: bool) -> None:
    (tmp_path / "mlflow.db").write_bytes(bytes(5000))
    with largest_file(5000 + left):
        assert ("ulimit -f" in shortage_on(tmp_path)) == full


# what an error says


def caused(cause: Exception) -> Exception:
    """As MLflow raises what it met."""
    error = MlflowException("it failed")
    error.__cause__ = cause
    return error


def sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left", "/x/file"), "the disk of /x/file is full"),
        (OSError(errno.EDQUOT, "Quota exceeded", "/x/file"), "the quota is used up"),
        (OSError(errno.EFBIG, "File too large", "/x/file"), "see ulimit -f"),
        (sqlite(sqlite3.SQLITE_FULL), "cannot be written, as if it were full"),
        (sqlite(sqlite3.SQLITE_IOERR_WRITE), "cannot be written, as if it were full"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_that_comes_of_a_full_disk_is_reported_as_that(
    tmp_path: Path, error: Exception, words: str, wrapped: bool
) -> None:
    error = caused(error) if wrapped else error
    with pytest.raises(RuntimeError) as raised, reporting_full_disk(tmp_path):
        raise error
    assert words in str(raised.value)
    assert str(raised.value).endswith(": make room, then run the same command to resume")

    def objective(trial: optuna.Trial) -> float:
        raise error

    with pytest.raises(SystemExit, match=words):  # the worker ends, not the trial
        stopping_when_full(tmp_path, objective)(optuna.create_study().ask())


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied"), sqlite(sqlite3.SQLITE_BUSY), KeyError()]
)
def test_another_error_stays_what_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, reporting_full_disk(tmp_path):
        raise error
    assert raised.value is error


def test_wrong_input_is_wrong_input_on_a_full_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", statvfs(free=0))
    with pytest.raises(ConfigError), reporting_full_disk(tmp_path):
        raise ConfigError("no such study")


def test_mlflow_prints_nothing_of_its_own_about_a_disk_that_takes_no_more(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    client = store.runs()
    client.search_experiments()
    with (
        largest_file(1),
        pytest.raises(RuntimeError, match="ulimit"),
        reporting_full_disk(store.folder),
    ):
        client.create_experiment("x")
    assert capfd.readouterr() == ("", "")
    client.create_experiment("x")


# every command


@pytest.fixture
def begun(store: Store, tmp_path: Path) -> Store:
    """A sweep of which nothing has been trained yet."""
    (tmp_path / "mini.toml").write_text(MINI)
    start_sweep(read_study(MINI, source="mini.toml"), store, trials=2, command=["run"])
    return store


TRAINING = [
    (sweeps.__main__.main, "run"),
    (sweeps.__main__.main, "work"),
    (sweeps.__main__.main, "reproduce"),
    (analysis.__main__.main, "confirm"),
    (analysis.__main__.main, "notebooks"),
]
READING = [
    (sweeps.__main__.main, "status"),
    (sweeps.__main__.main, "trials"),
    (sweeps.__main__.main, "export"),
    (sweeps.__main__.main, "figures"),
    (sweeps.__main__.main, "ui"),
    (sweeps.__main__.main, "dashboard"),
    (sweeps.__main__.main, "doctor"),
    (analysis.__main__.main, "report"),
]


def arguments(command: str, store: Store) -> list[str]:
    study = [] if command in ("status", "ui", "dashboard", "doctor") else ["--study", "mini"]
    if command == "run":
        study = ["--study", str(store.folder.parent / "mini.toml")]
    out = ["--out", str(store.folder.parent / "out")] if command == "figures" else []
    return [command, "--store", str(store.folder), *study, *out]


def lack_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", statvfs(free=0))


def lack_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", statvfs(free_files=0))


def may_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (200_000, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)


@pytest.mark.parametrize("lack", [lack_bytes, lack_files, may_not_grow])
@pytest.mark.parametrize(("main", "command"), TRAINING)
def test_a_command_that_trains_does_not_begin_where_there_is_no_room(
    begun: Store,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    command: str,
    lack: Callable[[pytest.MonkeyPatch], None],
) -> None:
    files = {path: path.stat().st_mtime_ns for path in begun.folder.rglob("*")}
    lack(monkeypatch)
    assert main(arguments(command, begun)) == 1
    output, error = capfd.readouterr()
    (line,) = error.splitlines()
    assert output == ""
    assert str(begun.folder) in line
    assert line.endswith(": make room, then run the same command to resume")
    assert files == {path: path.stat().st_mtime_ns for path in begun.folder.rglob("*")}


@pytest.mark.parametrize(("main", "command"), READING)
def test_a_command_that_fails_for_want_of_room_says_so_in_one_line(
    begun: Store,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    command: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise caused(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(Store, "trials", fail)
    assert main(arguments(command, begun)) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert f"the disk of {begun.folder} is full: make room" in line


# pictures


def test_figures_copies_existing_pictures_and_names_the_missing_one(
    begun: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = start_sweep(read_study(MINI, source="mini.toml"), begun, trials=2, command=["run"])
    client = begun.runs()
    for name in ("history.png", "slices.png", "best.gif"):
        client.log_text(sweep.run_id, name, name)
    listed = client.list_artifacts(sweep.run_id)
    (begun.artifacts / "mini" / sweep.run_id / "artifacts" / "history.png").unlink()
    monkeypatch.setattr("mlflow.MlflowClient.list_artifacts", lambda *_: listed)
    assert sweeps.__main__.main(arguments("figures", begun)) == 1
    output, error = capsys.readouterr()
    assert sorted(Path(line).name for line in output.splitlines()) == ["best.gif", "slices.png"]
    (line,) = error.splitlines()
    assert line.startswith("sweeps: warning: history.png of mini cannot be copied: MlflowException")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"best.gif", "slices.png"}


def test_figures_says_that_a_sweep_has_none_yet(
    begun: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = start_sweep(read_study(MINI, source="mini.toml"), begun, trials=2, command=["run"])
    assert not copy_pictures(sweep, tmp_path)
    assert "the run of mini has no pictures" in capsys.readouterr().err
