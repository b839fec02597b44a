"""A small sweep that has been run, published and kept, and ways to disturb it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

import sweeps.__main__
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.run.worker import work
from sweeps.store.store import Store, quiet
from sweeps.study.study import read_study
from tests.processes import without_report
from tests.studies import TINY

quiet()  # again: tests/conftest.py did it before MLflow was imported here


@dataclass(frozen=True)
class Done:
    """The exit code and the output of a command."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `python -m sweeps` in this process."""

    def run(*args: str | Path) -> Done:
        capsys.readouterr()
        _, *words = without_report("sweeps", *map(str, args))
        code = sweeps.__main__.main(words)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def kept(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the store of a finished sweep, and an untouched copy of it."""
    folder = tmp_path_factory.mktemp("tiny")
    store = Store(Path(shutil.copytree(empty, folder / "store")))
    sweep = start_sweep(read_study(TINY, source="tiny.toml"), store, trials=None, command=["run"])
    work(store, "tiny", index=0, seconds=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.charts.search.write_figures", lambda *_: [])
        publish(sweep)
    return store.folder, Path(shutil.copytree(store.folder, folder / "copy"))


@pytest.fixture
def finished(kept: tuple[Path, Path]) -> Store:
    """That store, restored in its folder from the copy."""
    folder, copy = kept
    shutil.rmtree(folder)
    return Store(Path(shutil.copytree(copy, folder)))


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def calls_of_creation() -> list[tuple[Any, str]]:
    """Every call that writes a sweep to Optuna, or reads it from or writes it to MLflow."""
    names = [name for name in vars(MlflowClient) if not name.startswith("_")]
    methods = [(MlflowClient, name) for name in names if callable(getattr(MlflowClient, name))]
    return [
        *methods,
        (optuna, "create_study"),
        (optuna.Study, "set_user_attr"),
        (optuna.Study, "add_trial"),
    ]


@contextmanager
def at_each_call(before: Callable[[str], None], after: Callable[[str], None]) -> Generator[None]:
    """Inside the block, run a function before and after each of these calls."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in calls_of_creation():
            patch.setattr(owner, name, wrapped(getattr(owner, name), name, before, after))
        yield


def wrapped(
    original: Callable[..., Any],
    name: str,
    before: Callable[[str], None],
    after: Callable[[str], None],
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        before(name)
        result = original(*args, **kwargs)
        after(name)
        return result

    return call


class InterruptAfter:
    """Raises Ctrl-C after one of a sequence of calls, before the next one."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, _: str) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def was_interrupted(call: Callable[[], object], at: int | InterruptAfter) -> bool:
    """Interrupt a function after that call; False if it made fewer."""
    try:
        with at_each_call(lambda _: None, InterruptAfter(at) if isinstance(at, int) else at):
            call()
    except KeyboardInterrupt:
        return True
    return False
