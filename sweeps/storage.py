"""Opens the two stores of a folder: Optuna's database of trials and MLflow's of runs.

Two databases, because both libraries migrate their schema with Alembic and would collide in one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import BaseFileLock, FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialUserAttributeModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from lander.fields import ConfigError, unknown
from sweeps.damage import readable
from sweeps.scores import best_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


WINNER = "sweeps.winner"
"""Optuna user attribute of a study: the number of the trial that was confirmed as its best."""

PLACE = "sweeps.artifacts"
"""Optuna user attribute of a study: address of the folder with the artifacts of its runs."""
WORKER = "sweeps.worker"
"""Optuna user attribute of a trial: who runs it."""

LOCK_SECONDS = 60
"""How long to wait for somebody else who writes to a database."""


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


class NoTrialLeft(Exception):
    """Every trial of the budget is taken."""


class SlotStorage(RDBStorage):
    """Hands out only trials that were put there before: an exact total for any number of workers.

    `python -m sweeps run` creates every trial of the budget in state WAITING. Optuna's `ask` takes
    a waiting trial in one atomic step, and would create a new one when none is left: here that
    ends the worker instead.

    A trial is taken and signed under a lock, so that whoever holds the lock next can tell that an
    unsigned trial lost its worker.
    """

    def __init__(self, file: Path, *, lock: BaseFileLock) -> None:
        super().__init__(
            f"sqlite:///{file}",
            engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}},
            heartbeat_interval=60,
            grace_period=180,
        )
        self._lock = lock

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state != TrialState.RUNNING:
            return super().set_trial_state_values(trial_id, state, values)
        with self._lock:
            taken = super().set_trial_state_values(trial_id, state, values)
            if taken:
                self.set_trial_user_attr(trial_id, WORKER, this_worker())
            return taken

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is None:
            raise NoTrialLeft
        return super()._create_new_trial(study_id, template_trial)

    def set_late_attr(self, trial_id: int, key: str, value: str) -> None:
        """An attribute that is there for good, also of a trial that has ended: Optuna itself
        would refuse that."""
        with Session(self.engine) as session, session.begin():
            session.add(
                TrialUserAttributeModel(trial_id=trial_id, key=key, value_json=json.dumps(value))
            )


@dataclass(frozen=True)
class Store:
    """A folder that holds everything recorded."""

    folder: Path

    @property
    def tracking_uri(self) -> str:
        """MLflow's database, or the server that MLFLOW_TRACKING_URI names."""
        named = os.environ.get("MLFLOW_TRACKING_URI", "")  # of a database it may be MLflow's own
        if named.startswith(("http://", "https://")):
            return named
        return f"sqlite:///{self.folder.resolve() / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return self.folder.resolve() / "artifacts"

    @property
    def lock(self) -> BaseFileLock:
        """For what must not be done by two at once; the system frees it when its holder dies."""
        return FileLock(self.folder.resolve() / "optuna.db.lock")

    def trials(self) -> SlotStorage:
        """Optuna's database; created if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of Optuna.
        """
        file = self.folder.resolve() / "optuna.db"
        with readable(file, upgrade="optuna storage upgrade --storage"):
            return SlotStorage(file, lock=self.lock)

    def runs(self) -> MlflowClient:
        """A client of MLflow's database; created if it is missing.

        Raises:
            ConfigError: it is damaged, or of another version of MLflow.
        """
        import mlflow  # here: it takes seconds to load, and whoever counts trials has no use for it

        # models and the registry look at the process-wide address, whatever client asks
        mlflow.set_tracking_uri(self.tracking_uri)
        with readable(self.folder.resolve() / "mlflow.db", upgrade="mlflow db upgrade"):
            return mlflow.MlflowClient(tracking_uri=self.tracking_uri)

    def create(self) -> None:
        """Both databases, before any worker could race for them.

        They are made aside, so that what is there is whole whenever this is broken off.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create --store {self.folder}: {error.strerror}") from None
        aside = Store(self.folder / ".new")
        with self.lock:
            if not self.exists:
                shutil.rmtree(aside.folder, ignore_errors=True)
                aside.folder.mkdir()
                aside.trials()
                aside.runs().search_experiments(max_results=1)
                for database in aside.folder.glob("*.db"):
                    if not (self.folder / database.name).exists():
                        database.rename(self.folder / database.name)
                shutil.rmtree(aside.folder)
        self.trials()
        self.runs().search_experiments(max_results=1)

    @property
    def exists(self) -> bool:
        return (self.folder / "optuna.db").is_file() and (
            self.tracking_uri.startswith("http") or (self.folder / "mlflow.db").is_file()
        )

    def study_names(self) -> list[str]:
        """Studies in the store, oldest first."""
        return optuna.get_all_study_names(self.trials()) if self.exists else []

    def load_study(self, name: str, *, anywhere: bool = False) -> optuna.Study:
        """A study that was started in this store.

        Raises:
            ConfigError: there is none of that name, or it was started in another folder, unless
                it may be `anywhere`.
        """
        names = self.study_names()
        if not names:
            raise ConfigError(f"no sweep in {self.folder} yet: start one with make sweep")
        if name not in names:
            raise ConfigError(unknown(f"study in {self.folder}", name, names))
        found = optuna.load_study(study_name=name, storage=self.trials())
        here = self.artifacts.as_uri()
        before = found.user_attrs.get(PLACE, here)
        if before != here and not anywhere:
            raise ConfigError(
                f"{self.folder} was moved, its artifacts were written to {before}: "
                f"python -m sweeps doctor --store {self.folder} makes it at home here"
            )
        return found


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
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)


def this_worker() -> str:
    """Names this process among those that share the store: host, process id and its start."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(str(os.getpid()))}"


def is_gone(worker: str) -> bool:
    """That worker ran on this host and has ended. Of other hosts only their heartbeat tells."""
    host, _, process = worker.partition(":")
    pid, _, started = process.partition(":")
    return host == socket.gethostname() and _started(pid) != started


def _started(pid: str) -> str:
    """When a process started, in clock ticks after boot; "" if there is none (or no /proc)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""
