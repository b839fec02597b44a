"""What became of a sweep's experiment and run in MLflow: they are there, in its trash, or gone."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum
from typing import Final

import optuna
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException

from lander.errors import ConfigError
from sweeps.hints import hint
from sweeps.schema import EXPERIMENT_ID, RUN_ID
from sweeps.store.mlflow_errors import is_retryable, required_id
from sweeps.store.store import Store

UNKNOWN: Final = "RESOURCE_DOES_NOT_EXIST"


class Presence(Enum):
    """Whether MLflow has something."""

    ACTIVE = "active"
    DELETED = "in MLflow's trash"
    """It is kept, hidden and read-only, and can be restored."""
    GONE = "gone from MLflow"


@dataclass(frozen=True)
class Entity:
    """An experiment or a run."""

    kind: str
    id: str
    presence: Presence

    def restore(self, client: MlflowClient) -> None:
        """Take it out of the trash; an experiment with all its runs."""
        if self.kind == "experiment":
            client.restore_experiment(self.id)
        else:
            client.restore_run(self.id)

    def command(self, store: Store) -> str:
        """The same, to be typed."""
        words = ["mlflow", f"{self.kind}s", "restore"]
        words += ["--experiment-id" if self.kind == "experiment" else "--run-id", self.id]
        place = "" if store.tracked_remotely else f"MLFLOW_TRACKING_URI={store.tracking_uri} "
        return place + shlex.join(words)


def experiment(client: MlflowClient, experiment_id: str) -> Entity:
    """An experiment by its id."""
    try:
        found: Experiment | None = client.get_experiment(experiment_id)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        found = None
    return Entity("experiment", experiment_id, presence(found.lifecycle_stage if found else None))


def run(client: MlflowClient, run_id: str) -> Entity:
    """A run by its id."""
    try:
        found: Run | None = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        found = None
    return Entity("run", run_id, presence(found.info.lifecycle_stage if found else None))


def presence(stage: str | None) -> Presence:
    """In our words what MLflow says of something; None if it does not know it."""
    if stage is None:
        return Presence.GONE
    return Presence.ACTIVE if required_id(stage) == "active" else Presence.DELETED


def absent(store: Store, study: optuna.Study) -> Entity | None:
    """What of a sweep nobody can write to: its experiment, else its run. None if all is there."""
    client = store.runs()
    needed = experiment(client, str(study.user_attrs[EXPERIMENT_ID]))
    if needed.presence == Presence.ACTIVE:
        needed = run(client, str(study.user_attrs[RUN_ID]))
    return None if needed.presence == Presence.ACTIVE else needed


def described(store: Store, study: optuna.Study, entity: Entity) -> str:
    """What is absent, in one line with the remedy."""
    name = study.study_name
    what = f"the {entity.kind} of {name} is {entity.presence.value}"
    if entity.presence == Presence.DELETED:
        doctor = hint("doctor", store.folder)
        return f"{what}: to restore it: {doctor}, or {entity.command(store)}"
    return (
        f"{what} ({entity.kind} {entity.id}): put a copy of MLflow's database back, or give the "
        f"study another name: with --warm-start {name} it begins with the best trials of this one"
    )


def require_recorded_if_reachable(store: Store, study: optuna.Study) -> None:
    """As `require_recorded`, of an MLflow that answers: without one, a worker trains all the same.

    Raises:
        ConfigError: the experiment or the run of the sweep is deleted or gone.
    """
    try:
        require_recorded(store, study)
    except ConfigError:
        raise
    except Exception as error:
        if not is_retryable(error):
            raise


def require_recorded(store: Store, study: optuna.Study) -> None:
    """Raise ConfigError if the experiment or the run of a sweep is deleted or gone."""
    entity = absent(store, study)
    if entity is not None:
        raise ConfigError(described(store, study, entity))
