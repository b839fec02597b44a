"""Opens the two stores of a folder: Optuna's database of trials and MLflow's of runs.

Two databases, because both libraries migrate their schema with Alembic and would collide in one.
"""

from __future__ import annotations

import logging
import shutil
import sys
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial
from sqlalchemy import URL, make_url

from lander.errors import ConfigError, unknown
from lander.files import inside
from lander.trust import Origin
from sweeps.hints import hint, no_sweep
from sweeps.schema import ARTIFACTS_URI, WINNER
from sweeps.scores import best_of
from sweeps.store.database import explaining_errors, lock, sqlite_url, storage_url, tracking_server
from sweeps.store.database_files import (
    MLFLOW_FILE,
    OPTUNA_FILE,
    FileState,
    copy_database,
    require_usable,
)
from sweeps.store.retry import OPEN_ENGINES
from sweeps.store.trials import BudgetStorage, open_storage

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Store:
    """A folder that holds everything recorded."""

    folder: Path
    databases: Path | None = None
    """Where its database files are, if not in the folder itself: copies, to be looked at."""

    @property
    def trials_url(self) -> URL:
        """Of Optuna's database."""
        return storage_url(self.file(OPTUNA_FILE))

    def file(self, name: str) -> Path:
        """A database that no server keeps.

        Raises:
            ConfigError: it is a link that leads out of the folder.
        """
        folder = self.databases or self.folder
        return inside(folder, folder.resolve() / name).resolve()

    @property
    def origin(self) -> Origin:
        """For what consent is kept: its folder, or the server that keeps the studies."""
        url = self.trials_url
        if url.get_backend_name() == "sqlite":
            return Origin.folder(self.folder)
        hosts = {name: value for name, value in url.query.items() if name in ("host", "port")}
        shared = URL.create(
            url.drivername, host=url.host, port=url.port, database=url.database, query=hosts
        )
        return Origin(shared.render_as_string())

    @property
    def tracking_uri(self) -> str:
        """MLflow's database, or the server that MLFLOW_TRACKING_URI names."""
        file = self.file(MLFLOW_FILE)
        return tracking_server(file) or f"sqlite:///{file}"

    @property
    def tracked_remotely(self) -> bool:
        """MLflow is a server, which keeps the artifacts as well."""
        return not self.tracking_uri.startswith("sqlite:")

    @property
    def artifacts(self) -> Path:
        """Where they are, unless a server keeps them."""
        return self.folder.resolve() / "artifacts"

    @property
    def artifacts_uri(self) -> str:
        """What an address of artifacts begins with."""
        return "a tracking server" if self.tracked_remotely else self.artifacts.as_uri()

    @property
    def database_files(self) -> list[Path]:
        """The databases that no server keeps."""
        trials = self.trials_url.get_backend_name() == "sqlite"
        found = {OPTUNA_FILE: trials, MLFLOW_FILE: not self.tracked_remotely}
        return [self.file(name) for name, here in found.items() if here]

    @property
    def lock(self) -> AbstractContextManager[object]:
        """For what adds trials to a budget or takes one of them, on whatever hosts that happens.

        Every worker waits for it: whoever holds it asks Optuna's database, and nothing slower.
        """
        return lock(self.trials_url)

    @property
    def publication_lock(self) -> AbstractContextManager[object]:
        """For what two commands must not do at once and takes long: to create a sweep, to draw its
        figures, to register its policy. Workers go on taking trials meanwhile.

        `lock` may be taken inside, never the other way round.
        """
        return lock(self.trials_url, "publication")

    def trials(self) -> BudgetStorage:
        """Optuna's database; created if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of Optuna.
        """
        with explaining_errors(self.trials_url, upgrade="optuna storage upgrade --storage"):
            if self.trials_url.get_backend_name() == "sqlite":
                require_usable(self.file(OPTUNA_FILE))
            return open_storage(self.trials_url)

    def runs(self) -> MlflowClient:
        """A client of MLflow's database; created if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of MLflow.
        """
        # here: it takes seconds to load, and whoever counts trials has no use for it
        from sweeps.store.mlflow_client import open_file, open_server

        if self.tracked_remotely:
            return open_server(self.tracking_uri)
        with explaining_errors(make_url(self.tracking_uri), upgrade="mlflow db upgrade"):
            require_usable(self.file(MLFLOW_FILE))
            return open_file(self.tracking_uri, folder=self.folder)

    def close(self) -> None:
        """Give back the connections of this process to its database files."""
        for engine in list(OPEN_ENGINES):
            if engine.url == self.trials_url:
                engine.dispose()
        if "mlflow" in sys.modules:  # or nothing of it was opened
            from sweeps.store.mlflow_client import disconnect

            disconnect(self.tracking_uri)

    def create(self) -> None:
        """Its databases, before any worker could race for them.

        They are made aside, so that what is there is whole whenever this is broken off.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create --store {self.folder}: {error.strerror}") from None
        aside = self.folder.resolve() / ".new"
        with self.publication_lock:
            if not self.exists:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
                for database in self.database_files:
                    if self.state_of(database) != FileState.WHOLE:
                        create_database(aside / database.name)
                        (aside / database.name).rename(database)
                shutil.rmtree(aside)
            self.trials()
            self.runs().search_experiments(max_results=1)

    @property
    def exists(self) -> bool:
        """Its databases are there; a server is asked when it is needed.

        Raises:
            ConfigError: one is damaged or of another program, or lost while the other one is kept.
        """
        found = [self.state_of(file) for file in self.database_files]
        return all(half == FileState.WHOLE for half in found)

    def state_of(self, file: Path) -> FileState:
        """What one of its database files is.

        Raises:
            ConfigError: it is damaged or of another program, or lost while the other one is kept.
        """
        with explaining_errors(sqlite_url(file), upgrade=""):
            return require_usable(file)

    def study_names(self) -> list[str]:
        """Studies in the store, oldest first."""
        file = self.file(OPTUNA_FILE)
        if file in self.database_files and self.state_of(file) != FileState.WHOLE:
            return []  # to ask would create it
        return optuna.get_all_study_names(self.trials())

    def load_study(self, name: str, *, anywhere: bool = False) -> optuna.Study:
        """A study that was started in this store.

        Raises:
            ConfigError: there is none of that name, or it was started in another folder, unless
                it may be `anywhere`.
        """
        names = self.study_names()
        if not names:
            raise ConfigError(no_sweep(self.folder))
        if name not in names:
            raise ConfigError(unknown(f"study in {self.folder}", name, names))
        found = optuna.load_study(study_name=name, storage=self.trials())
        before = str(found.user_attrs.get(ARTIFACTS_URI, self.artifacts_uri))
        if before == self.artifacts_uri or anywhere:
            return found
        if before.startswith("file:") and self.artifacts_uri.startswith("file:"):
            raise ConfigError(
                f"{self.folder} was moved, its artifacts were written to {before}: "
                f"{hint('doctor', self.folder)} updates its paths"
            )
        raise ConfigError(
            f"{name} is recorded at {before}, not at {self.artifacts_uri}: set or unset "
            "MLFLOW_TRACKING_URI accordingly"
        )


@contextmanager
def snapshot(store: Store) -> Generator[Store]:
    """The same store with copies of its database files, so that whoever looks at it writes nothing
    there, not even a lock.

    Raises:
        ConfigError: a file is damaged.
    """
    with TemporaryDirectory() as place:
        folder = Path(place).resolve()
        seen = replace(store, databases=folder)
        try:
            for file in filter(Path.is_file, store.database_files):
                with explaining_errors(sqlite_url(file), upgrade=""):
                    copy_database(file, folder / file.name)
            yield seen
        except ConfigError as error:
            raise ConfigError(
                str(error).replace(str(folder), str(store.folder.resolve()))
            ) from None
        finally:
            seen.close()


def create_database(file: Path) -> None:
    """Optuna's or MLflow's, as the name says; nothing is left open."""
    if file.name == OPTUNA_FILE:
        BudgetStorage(sqlite_url(file)).engine.dispose()
        return
    import mlflow

    mlflow.MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments(max_results=1)


def find_trial(study: optuna.Study, which: str) -> FrozenTrial:
    """Trial "best", or by its number. Best is the confirmed one, or else the highest score.

    Raises:
        ConfigError: no such trial.
    """
    trials = study.get_trials(deepcopy=False)
    if which == "best":
        if WINNER in study.user_attrs:
            return trials[int(study.user_attrs[WINNER])]
        best = best_of(trials)
        if best is None:
            raise ConfigError(f"study {study.study_name} has no finished trial yet")
        return best
    if not which.isdecimal() or int(which) >= len(trials):
        last = len(trials) - 1
        raise ConfigError(f'trial must be "best" or a number from 0 to {last}, got "{which}"')
    return trials[int(which)]


def find_started(study: optuna.Study, which: str) -> FrozenTrial:
    """As `find_trial`, of one that has parameters.

    Raises:
        ConfigError: no such trial, or it waits to be run.
    """
    trial = find_trial(study, which)
    if trial.datetime_start is None:
        raise ConfigError(f"trial {trial.number} has not run yet")
    return trial


def quiet() -> None:
    """Optuna and MLflow tell every step on stderr; the sweep has a table of its own.

    To be called after MLflow is imported, if it is: the import sets the level of its logger.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, and some samplers
    for name in ("mlflow", "alembic", "urllib3"):  # what they log as an error they raise as well
        logging.getLogger(name).setLevel(logging.CRITICAL)
