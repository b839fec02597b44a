"""A store: the folder, or the servers, where everything about some sweeps is recorded.

Two databases, Optuna's of trials and MLflow's of runs, because both libraries migrate their schema
with Alembic and would collide in one.
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
from sqlalchemy import URL, make_url

from lander.errors import ConfigError, unknown
from lander.files import inside
from lander.trust import Origin
from sweeps.hints import hint, no_sweep
from sweeps.schema import ARTIFACTS_URI
from sweeps.store.budget_storage import BudgetStorage, open_storage
from sweeps.store.database import explaining_errors, lock, sqlite_url, storage_url, tracking_server
from sweeps.store.database_files import (
    MLFLOW_FILE,
    OPTUNA_FILE,
    FileState,
    copy_database,
    require_usable,
)
from sweeps.store.engines import give_back_connections
from sweeps.store.trial_cache import TrialCache

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Store:
    """The folder that --store names, with its two databases; every command makes one.

    Nothing is opened or created before a method that says so.
    """

    folder: Path
    databases: Path | None = None
    """Folder of the database files if that is not `folder`: copies, which `snapshot` makes."""

    @property
    def trials_url(self) -> URL:
        """Address of Optuna's database."""
        return storage_url(self.file(OPTUNA_FILE))

    @property
    def tracking_uri(self) -> str:
        """Address of MLflow's database, or of the server that MLFLOW_TRACKING_URI names."""
        file = self.file(MLFLOW_FILE)
        return tracking_server(file) or f"sqlite:///{file}"

    @property
    def tracked_remotely(self) -> bool:
        """Whether runs and artifacts are kept by a server of MLflow's."""
        return not self.tracking_uri.startswith("sqlite:")

    def file(self, name: str) -> Path:
        """Path of a database that no server keeps.

        Raises:
            ConfigError: it is a link that leads out of the folder.
        """
        folder = self.databases or self.folder
        return inside(folder, folder.resolve() / name).resolve()

    @property
    def database_files(self) -> list[Path]:
        """The databases that no server keeps."""
        trials = self.trials_url.get_backend_name() == "sqlite"
        local = {OPTUNA_FILE: trials, MLFLOW_FILE: not self.tracked_remotely}
        return [self.file(name) for name, is_local in local.items() if is_local]

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts, unless a server keeps them."""
        return self.folder.resolve() / "artifacts"

    @property
    def artifacts_uri(self) -> str:
        """What the addresses of all artifacts begin with; of a server only that it is one."""
        return "a tracking server" if self.tracked_remotely else self.artifacts.as_uri()

    @property
    def origin(self) -> Origin:
        """What consent to load its files is bound to: the folder, or the server of the studies."""
        url = self.trials_url
        if url.get_backend_name() == "sqlite":
            return Origin.folder(self.folder)
        hosts = {name: value for name, value in url.query.items() if name in ("host", "port")}
        shared = URL.create(
            url.drivername, host=url.host, port=url.port, database=url.database, query=hosts
        )
        return Origin(shared.render_as_string())

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held by whoever adds trials to a budget or takes one of them, on any host.

        Every worker waits for it, so its holder asks Optuna's database and nothing slower.
        """
        return lock(self.trials_url)

    @property
    def publication_lock(self) -> AbstractContextManager[object]:
        """Held for long work that two commands must not do at once: creating a sweep, drawing its
        figures, registering its policy. Workers continue to take trials meanwhile.

        Its holder may take `lock`, never the other way round.
        """
        return lock(self.trials_url, "publication")

    def trials(self) -> BudgetStorage:
        """Open Optuna's database; create it if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of Optuna.
        """
        with explaining_errors(self.trials_url, upgrade="optuna storage upgrade --storage"):
            if self.trials_url.get_backend_name() == "sqlite":
                require_usable(self.file(OPTUNA_FILE))
            return open_storage(self.trials_url)

    def runs(self) -> MlflowClient:
        """Open MLflow's database; create it if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of MLflow.
        """
        # imported here: it takes seconds, and a command that only counts trials does without
        from sweeps.store.mlflow_client import open_file, open_server

        if self.tracked_remotely:
            return open_server(self.tracking_uri)
        with explaining_errors(make_url(self.tracking_uri), upgrade="mlflow db upgrade"):
            require_usable(self.file(MLFLOW_FILE))
            return open_file(self.tracking_uri, folder=self.folder)

    def close(self) -> None:
        """Give back this process's connections to the database files."""
        give_back_connections(self.trials_url)
        if "mlflow" in sys.modules:  # otherwise this process has opened no run
            from sweeps.store.mlflow_client import disconnect

            disconnect(self.tracking_uri)

    def create(self) -> None:
        """Create the databases, before several workers could do it at once.

        Each is made aside and renamed, so that it is complete even if this is interrupted.
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
                for file in self.database_files:
                    if self.state_of(file) != FileState.COMPLETE:
                        create_database(aside / file.name)
                        (aside / file.name).rename(file)
                shutil.rmtree(aside)
            self.trials()
            self.runs().search_experiments(max_results=1)

    @property
    def exists(self) -> bool:
        """Whether the database files are there and filled; a server is asked when it is needed.

        Raises:
            ConfigError: one is damaged or of another program, or lost while the other holds sweeps.
        """
        states = [self.state_of(file) for file in self.database_files]
        return all(state == FileState.COMPLETE for state in states)

    def state_of(self, file: Path) -> FileState:
        """What one of the database files holds.

        Raises:
            ConfigError: it is damaged or of another program, or lost while the other holds sweeps.
        """
        with explaining_errors(sqlite_url(file), upgrade=""):
            return require_usable(file)

    def study_names(self) -> list[str]:
        """Names of the studies in the store, oldest first."""
        file = self.file(OPTUNA_FILE)
        if file in self.database_files and self.state_of(file) != FileState.COMPLETE:
            return []  # opening the file would fill it
        return optuna.get_all_study_names(self.trials())

    def load_study(self, name: str, *, anywhere: bool = False) -> optuna.Study:
        """A study that was started in this store.

        Raises:
            ConfigError: there is none of that name, or its artifacts are elsewhere, unless they
                may be `anywhere`.
        """
        names = self.study_names()
        if not names:
            raise ConfigError(no_sweep(self.folder))
        if name not in names:
            raise ConfigError(unknown(f"study in {self.folder}", name, names))
        study = optuna.load_study(study_name=name, storage=TrialCache(self.trials()))
        before = str(study.user_attrs.get(ARTIFACTS_URI, self.artifacts_uri))
        if before == self.artifacts_uri or anywhere:
            return study
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
    """The same store with copies of its database files, so that a command that only looks writes
    nothing there, not even a lock.

    Raises:
        ConfigError: a file is damaged.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        copied = replace(store, databases=folder)
        try:
            for file in filter(Path.is_file, store.database_files):
                with explaining_errors(sqlite_url(file), upgrade=""):
                    copy_database(file, folder / file.name)
            yield copied
        except ConfigError as error:
            message = str(error).replace(str(folder), str(store.folder.resolve()))
            raise ConfigError(message) from None
        finally:
            copied.close()


def create_database(file: Path) -> None:
    """Create Optuna's or MLflow's database, as the name of the file says, and close it."""
    if file.name == OPTUNA_FILE:
        BudgetStorage(sqlite_url(file)).engine.dispose()
        return
    import mlflow  # takes seconds, as in `runs`

    mlflow.MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments(max_results=1)


def quiet() -> None:
    """Keep the log messages of Optuna and MLflow off the terminal: the sweep has its own table.

    Call it after MLflow is imported, if it is: the import sets the level of its logger.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, and some samplers
    for name in ("mlflow", "alembic", "urllib3"):  # what they log as an error they raise as well
        logging.getLogger(name).setLevel(logging.CRITICAL)
