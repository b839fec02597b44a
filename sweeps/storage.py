"""Opens the two stores of a folder: Optuna's database of trials and MLflow's of runs.

Two databases, because both libraries migrate their schema with Alembic and would collide in one.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial
from sqlalchemy import URL, Connection, Engine, event, make_url

from lander.fields import ConfigError, unknown
from lander.inside import inside
from lander.trust import Origin
from sweeps.address import LOCK_SECONDS, TRACKING, address, lock, of_file, tracking_server
from sweeps.budget import BudgetStorage, open_storage
from sweeps.damage import readable
from sweeps.hints import hint, no_sweep
from sweeps.replaced import watch_files
from sweeps.scores import best_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


WINNER = "sweeps.winner"
"""Optuna user attribute of a study: the number of the trial that was confirmed as its best."""

PLACE = "sweeps.artifacts"
"""Optuna user attribute of a study: `Store.place` when it was started."""
OPTUNA_FILE, MLFLOW_FILE = "optuna.db", "mlflow.db"

watch_files()


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def wait_as_long(
    _connection: Connection,
    _cursor: object,
    statement: str,
    parameters: Any,
    _context: object,
    _many: bool,
) -> tuple[str, Any]:
    """MLflow would give up after 20 s, and can be told otherwise only here."""
    waiting = statement.replace("busy_timeout = 20000", f"busy_timeout = {LOCK_SECONDS}000")
    return waiting, parameters


@dataclass(frozen=True)
class Store:
    """A folder that holds everything recorded."""

    folder: Path

    @property
    def address(self) -> URL:
        """Of Optuna's database."""
        return address(self.file(OPTUNA_FILE))

    def file(self, name: str) -> Path:
        """A database that no server keeps.

        Raises:
            ConfigError: it is a link that leads out of the folder.
        """
        return inside(self.folder, self.folder.resolve() / name).resolve()

    @property
    def origin(self) -> Origin:
        """For what consent is kept: its folder, or the server that keeps the studies."""
        url = self.address
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
    def place(self) -> str:
        """What an address of artifacts begins with."""
        return "a tracking server" if self.tracked_remotely else self.artifacts.as_uri()

    @property
    def files(self) -> list[Path]:
        """The databases that no server keeps."""
        trials = self.address.get_backend_name() == "sqlite"
        found = {OPTUNA_FILE: trials, MLFLOW_FILE: not self.tracked_remotely}
        return [self.file(name) for name, here in found.items() if here]

    @property
    def lock(self) -> AbstractContextManager[object]:
        """For what must not be done by two at once, on whatever hosts they are."""
        return lock(self.address)

    @property
    def publication_lock(self) -> AbstractContextManager[object]:
        """For figures and the registry, which take long: workers go on taking trials meanwhile.

        `lock` may be taken inside, never the other way round.
        """
        return lock(self.address, "publication")

    def trials(self) -> BudgetStorage:
        """Optuna's database; created if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of Optuna.
        """
        with readable(self.address, upgrade="optuna storage upgrade --storage"):
            return open_storage(self.address)

    def runs(self) -> MlflowClient:
        """A client of MLflow's database; created if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of MLflow.
        """
        import mlflow  # here: it takes seconds to load, and whoever counts trials has no use for it

        # models and the registry look at the process-wide address, whatever client asks
        held = os.environ.get(TRACKING)
        mlflow.set_tracking_uri(self.tracking_uri)
        os.environ.pop(TRACKING, None)  # where MLflow has put it, for its own children
        if held is not None:
            os.environ[TRACKING] = held
        if self.tracked_remotely:
            return mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        from sweeps.confined import ConfinedClient

        with readable(make_url(self.tracking_uri), upgrade="mlflow db upgrade"):
            return ConfinedClient(self.tracking_uri, self.folder)

    def create(self) -> None:
        """Its databases, before any worker could race for them.

        They are made aside, so that what is there is whole whenever this is broken off.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create --store {self.folder}: {error.strerror}") from None
        aside = self.folder.resolve() / ".new"
        with self.lock:
            if not self.exists:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
                for database in self.files:
                    if not database.exists():
                        create_database(aside / database.name)
                        (aside / database.name).rename(database)
                shutil.rmtree(aside)
            self.trials()
            self.runs().search_experiments(max_results=1)

    @property
    def exists(self) -> bool:
        """Its databases are there; a server is asked when it is needed."""
        return all(file.is_file() for file in self.files)

    def study_names(self) -> list[str]:
        """Studies in the store, oldest first."""
        if not self.exists and self.address.get_backend_name() == "sqlite":
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
        before = str(found.user_attrs.get(PLACE, self.place))
        if before == self.place or anywhere:
            return found
        if before.startswith("file:") and self.place.startswith("file:"):
            raise ConfigError(
                f"{self.folder} was moved, its artifacts were written to {before}: "
                f"{hint('doctor', self.folder)} updates its paths"
            )
        raise ConfigError(
            f"{name} is recorded at {before}, not at {self.place}: set or unset "
            "MLFLOW_TRACKING_URI accordingly"
        )


def create_database(file: Path) -> None:
    """Optuna's or MLflow's, as the name says; nothing is left open."""
    if file.name == OPTUNA_FILE:
        BudgetStorage(of_file(file)).engine.dispose()
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


def quiet() -> None:
    """Optuna and MLflow tell every step on stderr; the sweep has a table of its own.

    To be called after MLflow is imported, if it is: the import sets the level of its logger.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, and some samplers
    for name in ("mlflow", "alembic", "urllib3"):  # what they log as an error they raise as well
        logging.getLogger(name).setLevel(logging.CRITICAL)
