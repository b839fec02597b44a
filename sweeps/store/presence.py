"""Whether MLflow still has the experiment and the run of a sweep: active, in its trash, or gone."""

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
"""MLflow's error code for an id that it does not know."""


class Presence(Enum):
    """Whether MLflow has an experiment or a run."""

    ACTIVE = "active"
    DELETED = "in MLflow's trash"
    """It is kept, hidden and read-only, and can be restored."""
    GONE = "gone from MLflow"


@dataclass(frozen=True)
class Entity:
    """An experiment or a run of MLflow's."""

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
        """The shell command that restores it."""
        words = ["mlflow", f"{self.kind}s", "restore"]
        words += ["--experiment-id" if self.kind == "experiment" else "--run-id", self.id]
        uri = "" if store.tracked_remotely else f"MLFLOW_TRACKING_URI={store.tracking_uri} "
        return uri + shlex.join(words)


def find_experiment(client: MlflowClient, experiment_id: str) -> Entity:
    """An experiment by its id, whatever became of it."""
    try:
        experiment: Experiment | None = client.get_experiment(experiment_id)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        experiment = None
    stage = experiment.lifecycle_stage if experiment else None
    return Entity("experiment", experiment_id, presence_of(stage))


def find_run(client: MlflowClient, run_id: str) -> Entity:
    """A run by its id, whatever became of it."""
    try:
        run: Run | None = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        run = None
    return Entity("run", run_id, presence_of(run.info.lifecycle_stage if run else None))


def presence_of(stage: str | None) -> Presence:
    """The presence of an entity in that lifecycle stage of MLflow's; None if it has no such id."""
    if stage is None:
        return Presence.GONE
    return Presence.ACTIVE if required_id(stage) == "active" else Presence.DELETED


def missing_entity(store: Store, study: optuna.Study) -> Entity | None:
    """The experiment of a sweep, or else its run, if nothing can be written to it; None if both
    are active."""
    client = store.runs()
    entity = find_experiment(client, str(study.user_attrs[EXPERIMENT_ID]))
    if entity.presence == Presence.ACTIVE:
        entity = find_run(client, str(study.user_attrs[RUN_ID]))
    return None if entity.presence == Presence.ACTIVE else entity


def explain_missing(store: Store, study: optuna.Study, entity: Entity) -> str:
    """One line about a sweep's missing experiment or run, with the remedy."""
    name = study.study_name
    what = f"the {entity.kind} of {name} is {entity.presence.value}"
    if entity.presence == Presence.DELETED:
        doctor = hint("doctor", store.folder)
        return f"{what}: to restore it: {doctor}, or {entity.command(store)}"
    return (
        f"{what} ({entity.kind} {entity.id}): restore a copy of MLflow's database, or give the "
        f"study another name: with --warm-start {name} it begins with the best trials of this one"
    )


def require_recorded(store: Store, study: optuna.Study) -> None:
    """Raise ConfigError if the experiment or the run of a sweep is deleted or gone."""
    entity = missing_entity(store, study)
    if entity is not None:
        raise ConfigError(explain_missing(store, study, entity))


def require_recorded_if_reachable(store: Store, study: optuna.Study) -> None:
    """`require_recorded`, unless MLflow does not answer: a worker trains without it all the same.

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
