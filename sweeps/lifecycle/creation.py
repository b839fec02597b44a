"""Creates a sweep in both databases; the next command completes an interrupted creation.

Optuna's study comes first, with a random id. The experiment and the run are tagged with that id:
the next attempt recognises them by it, and it distinguishes sweeps of the same name on one server.
The id of the run is recorded last: without it a study is only partly created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import optuna
from mlflow import MlflowClient
from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from lander.dotted import flatten, to_toml
from lander.errors import ConfigError
from lander.terminal import say
from sweeps.record.provenance import environment, source_tags
from sweeps.schema import (
    ARTIFACTS_URI,
    BASE,
    BASE_FILE,
    DEFINITION,
    EXPERIMENT_ID,
    FORK,
    FORKED_FROM,
    ROLE,
    RUN_ID,
    SCORE,
    SWEEP_ID,
    Role,
)
from sweeps.store.database_files import OPTUNA_FILE
from sweeps.store.mlflow_errors import required_id
from sweeps.store.presence import UNKNOWN, Entity, presence_of
from sweeps.store.store import Store
from sweeps.store.trial_cache import TrialCache
from sweeps.study.study import Study


def is_created(store: Store, name: str) -> bool:
    """Whether a sweep is in the store, and its creation was not interrupted."""
    if name not in store.study_names():
        return False
    return RUN_ID in store.load_study(name, anywhere=True).user_attrs


def role(study: Study) -> Role:
    """The role of the run of the whole sweep."""
    return Role.CONFIRMATION if study.confirms else Role.STUDY


def create(
    study: Study,
    store: Store,
    *,
    command: Sequence[str],
    trials: Sequence[FrozenTrial] = (),
    fork: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """Create the Optuna study, the MLflow experiment and the run of the sweep, linked together.

    A sweep and its confirmation share an experiment. The first of its trials are `trials`, waiting
    or ended; of a `fork` it is recorded which sweep they are from.

    Raises:
        ConfigError: another sweep or tool has made an experiment or model of that name.
    """
    client, name = store.runs(), study.settings.name
    confirmed = study.confirms and name in store.study_names()
    shared = store.load_study(name).user_attrs if confirmed else {}
    identity = str(shared.get(SWEEP_ID) or own_id(store, name) or uuid4().hex)
    if not study.confirms:
        require_free(client, store, name, identity)
    created = optuna.create_study(
        study_name=study.name,
        storage=TrialCache(store.trials()),
        direction="maximize",
        load_if_exists=True,
    )
    created.set_metric_names([SCORE])
    created.set_user_attr(SWEEP_ID, identity)
    created.set_user_attr(DEFINITION, study.text)
    created.set_user_attr(BASE, flatten(study.base))
    created.set_user_attr(ARTIFACTS_URI, store.artifacts_uri)
    if fork is not None:
        created.set_user_attr(FORK, dict(fork))
    experiment_id = str(shared.get(EXPERIMENT_ID) or own_experiment(client, store, name, identity))
    created.set_user_attr(EXPERIMENT_ID, experiment_id)
    run_id = own_run(client, study, experiment_id, identity, command=command)
    if fork is not None:
        client.set_tag(run_id, FORKED_FROM, fork["sweep"])
    client.log_text(run_id, study.text, DEFINITION)
    client.log_text(run_id, to_toml(study.base), BASE_FILE)
    for trial in trials[len(created.get_trials(deepcopy=False)) :]:  # those not added yet
        created.add_trial(trial)
    created.set_user_attr(RUN_ID, run_id)
    return created


def own_id(store: Store, name: str) -> str | None:
    """The id of a sweep whose creation was interrupted; None if there is none."""
    if name not in store.study_names():
        return None
    return store.load_study(name, anywhere=True).user_attrs.get(SWEEP_ID)


def require_free(client: MlflowClient, store: Store, name: str, identity: str) -> None:
    """Raise ConfigError if a new sweep would mix its records with those of another one."""
    experiment = experiment_named(client, name)
    if experiment is not None and experiment.lifecycle_stage != "active":
        trashed = Entity(
            "experiment", experiment.experiment_id, presence_of(experiment.lifecycle_stage)
        )
        raise ConfigError(
            f"an experiment {name} is in MLflow's trash: give the study another name, or restore "
            f"it: {trashed.command(store)}"
        )
    if experiment is not None and not store.tracked_remotely:
        uri = str(experiment.artifact_location)
        if not uri.startswith(f"{store.artifacts_uri}/"):
            raise ConfigError(
                f"MLflow has an experiment {name} whose artifacts are not in {store.folder} but "
                f"in {uri}: give the study another name"
            )
    owner = None if experiment is None else experiment.tags.get(SWEEP_ID)
    if owner == identity:
        return
    if experiment is not None and (owner is not None or has_trials(client, experiment)):
        raise ConfigError(belongs_to_another(store, name))
    if registered(client, name):
        raise ConfigError(
            f"MLflow's registry has a model {name} from elsewhere: give the study another name"
        )


def experiment_named(client: MlflowClient, name: str) -> Experiment | None:
    """MLflow's experiment of that name, deleted ones included; None if there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        required_id(experiment.experiment_id)
    return experiment


def belongs_to_another(store: Store, name: str) -> str:
    """The message about an experiment that may be another sweep's, with the remedy."""
    if store.tracked_remotely:
        return (
            f"experiment {name} on the tracking server belongs to another sweep: give the study "
            f"another name, or continue that sweep with its own store or {OPTUNA_FILE}"
        )
    return (
        f"MLflow holds records of a sweep {name} which {store.file(OPTUNA_FILE)} does not know: "
        "restore a copy of that database, give the study another name, or move the store aside and "
        "start a new one"
    )


def has_trials(client: MlflowClient, experiment: Experiment) -> bool:
    """Whether an experiment has runs of trials."""
    query = f"tags.`{ROLE}` = '{Role.TRIAL}'"
    ids = [experiment.experiment_id]
    return bool(client.search_runs(ids, query, ViewType.ALL, max_results=1))


def registered(client: MlflowClient, name: str) -> bool:
    """Whether MLflow's registry has a model of that name."""
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        return False
    return True


def own_experiment(client: MlflowClient, store: Store, name: str, identity: str) -> str:
    """The id of a sweep's experiment, which is created and tagged unless it is already."""
    experiment = experiment_named(client, name)
    if experiment is None:
        uri = None if store.tracked_remotely else f"{store.artifacts_uri}/{name}"
        return required_id(client.create_experiment(name, uri, tags={SWEEP_ID: identity}))
    if SWEEP_ID not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, SWEEP_ID, identity)
    return experiment.experiment_id


def own_run(
    client: MlflowClient,
    study: Study,
    experiment_id: str,
    identity: str,
    *,
    command: Sequence[str],
) -> str:
    """The id of the run of the whole sweep, created unless an earlier attempt did."""
    query = f"tags.`{SWEEP_ID}` = '{identity}' and tags.`{ROLE}` = '{role(study)}'"
    earlier = client.search_runs([experiment_id], query, max_results=1)
    if earlier:
        return str(earlier[0].info.run_id)
    tags = {ROLE: role(study), SWEEP_ID: identity, **environment(), **source_tags(command)}
    return required_id(client.create_run(experiment_id, run_name=study.name, tags=tags).info.run_id)


def identify(store: Store, study: optuna.Study) -> None:
    """Give an id to a sweep of an older version; warn if another sweep has the same experiment."""
    if SWEEP_ID not in study.user_attrs:
        study.set_user_attr(SWEEP_ID, uuid4().hex)
    client, experiment_id = store.runs(), str(study.user_attrs[EXPERIMENT_ID])
    owner = client.get_experiment(experiment_id).tags.get(SWEEP_ID)
    if owner is None:
        client.set_experiment_tag(experiment_id, SWEEP_ID, study.user_attrs[SWEEP_ID])
    elif owner != study.user_attrs[SWEEP_ID]:
        say(
            f"sweeps: warning: experiment {study.study_name} also belongs to another sweep: its "
            "table shows the trials of both",
            error=True,
        )
