"""Opens the two stores of a folder: Optuna's database of trials and MLflow's of runs.

Two databases, because both libraries migrate their schema with Alembic and would collide in one.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from lander.fields import ConfigError, unknown
from sweeps.scores import best_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


WINNER = "sweeps.winner"
"""Optuna user attribute of a study: the number of the trial that was confirmed as its best."""


class NoTrialLeft(Exception):
    """Every trial of the budget is taken."""


class SlotStorage(RDBStorage):
    """Hands out only trials that were put there before: an exact total for any number of workers.

    `python -m sweeps run` creates every trial of the budget in state WAITING. Optuna's `ask` takes
    a waiting trial in one atomic step, and would create a new one when none is left: here that
    ends the worker instead.
    """

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is None:
            raise NoTrialLeft
        return super()._create_new_trial(study_id, template_trial)


@dataclass(frozen=True)
class Store:
    """A folder that holds everything recorded."""

    folder: Path

    @property
    def tracking_uri(self) -> str:
        """MLflow's database."""
        return f"sqlite:///{self.folder.resolve() / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return self.folder.resolve() / "artifacts"

    def trials(self) -> SlotStorage:
        """Optuna's database; created if it is missing."""
        return SlotStorage(
            f"sqlite:///{self.folder.resolve() / 'optuna.db'}",
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=60,
            grace_period=180,
        )

    def runs(self) -> MlflowClient:
        """A client of MLflow's database; created if it is missing."""
        import mlflow  # here: it takes seconds to load, and whoever counts trials has no use for it

        # models and the registry look at the process-wide address, whatever client asks
        mlflow.set_tracking_uri(self.tracking_uri)
        return mlflow.MlflowClient(tracking_uri=self.tracking_uri)

    def create(self) -> None:
        """Both databases, before any worker could race for them."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create --store {self.folder}: {error.strerror}") from None
        self.trials()
        self.runs().search_experiments(max_results=1)

    @property
    def exists(self) -> bool:
        return (self.folder / "optuna.db").is_file() and (self.folder / "mlflow.db").is_file()

    def study_names(self) -> list[str]:
        """Studies in the store, oldest first."""
        return optuna.get_all_study_names(self.trials()) if self.exists else []

    def load_study(self, name: str) -> optuna.Study:
        """A study that was started in this store.

        Raises:
            ConfigError: there is none of that name.
        """
        names = self.study_names()
        if not names:
            raise ConfigError(f"no sweep in {self.folder} yet: start one with make sweep")
        if name not in names:
            raise ConfigError(unknown(f"study in {self.folder}", name, names))
        return optuna.load_study(study_name=name, storage=self.trials())


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
    for name in ("mlflow", "alembic"):
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
