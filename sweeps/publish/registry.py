"""The policies of a sweep in MLflow's registry: models:/STUDY@best and models:/STUDY@confirmed.

An alias names one version; a version is the model of one run, and its description says what was
shown of it on which episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from lander.errors import ConfigError
from lander.metrics import FINAL_RETURN
from sweeps.publish.card import HEADING, confirmation_of, tuning_card
from sweeps.publish.markdown import code
from sweeps.publish.notes import picture
from sweeps.schema import (
    BEST_ALIAS,
    BEST_GIF,
    CONFIRMED_ALIAS,
    FORK,
    LANDING_GIF,
    RUN_ID,
    SWEEP_ID,
    TRAINING,
    TRIAL_NUMBER,
)
from sweeps.store import presence
from sweeps.store.presence import UNKNOWN, Presence
from sweeps.sweep import Sweep

NOBODY: Final = "none"
"""Value of the tag `WINNER` while no configuration is confirmed."""


def move_alias(
    client: MlflowClient,
    sweep: Sweep,
    *,
    run_id: str,
    alias: str,
    description: str,
    tags: Mapping[str, str] | None = None,
    model_id: str | None = None,
) -> None:
    """Let models:/STUDY@ALIAS be the model of this run, with this description, a landing, its
    tuning card and these tags of its version; doing so again changes nothing.

    The version that the alias named before says so, unless another alias names it.

    `model_id` names the model if it is not the one that the run was recorded with. Hold
    `Store.publication_lock`: two processes would each register it.

    Raises:
        ConfigError: the run has no model, or the registered one belongs to another sweep.
    """
    name = sweep.study.name
    model = registered_model(client, name)
    if model_id is None:
        logged = require_model(client, sweep, run_id=run_id)
    else:
        logged = client.get_logged_model(model_id)
    if model is None:
        model = client.create_registered_model(
            name, tags=owner(sweep), description=registered_note(sweep)
        )
    require_own(sweep, model)
    for key, value in owner(sweep).items():
        if key not in model.tags:
            client.set_registered_model_tag(name, key, value)
    version = registered_version(
        client,
        sweep,
        run_id=run_id,
        model=logged,
        description="\n\n".join(
            [description, picture("a landing", run_id, LANDING_GIF), card_of_run(sweep, run_id)]
        ),
        tags={**origin_tags(client, run_id), **owner(sweep), **(tags or {})},
    )
    before = model.aliases.get(alias)
    if str(before) != str(version.version):
        client.set_registered_model_alias(name, alias, version.version)
        others = [named for other, named in model.aliases.items() if other != alias]
        if before is not None and before not in others:
            retire(client, name, str(before), alias=alias, successor=str(version.version))


def card_of_run(sweep: Sweep, run_id: str) -> str:
    """The tuning card of the configuration that a run of a sweep or its confirmation trained."""
    confirmation = confirmation_of(sweep)
    every = [*sweep.read_trials().all, *(confirmation.read_trials().all if confirmation else [])]
    own = (trial for trial in every if trial.user_attrs.get(RUN_ID) == run_id)
    return tuning_card(sweep, next(own, None))


def refresh_cards(client: MlflowClient, sweep: Sweep) -> None:
    """Let the versions that an alias names show the tuning card as it is now: a confirmation
    changes it. Hold `Store.publication_lock`."""
    model = registered_model(client, sweep.study.name)
    if model is None:
        return
    require_own(sweep, model)
    for number in set(model.aliases.values()):
        version = client.get_model_version(model.name, number)
        before, heading, _ = (version.description or "").partition(f"\n\n{HEADING}")
        if heading:
            text = f"{before}\n\n{card_of_run(sweep, str(version.run_id))}"
            describe_version(client, version, description=text, tags={})


def registered_note(sweep: Sweep) -> str:
    """The description of the registered model of a study, which no later version makes wrong."""
    name = sweep.study.name
    parts = [
        f"Policies of study {name}: raw observations in, env actions out.",
        picture("a landing of the best policy", sweep.run_id, BEST_GIF),
        code(f'model = mlflow.pytorch.load_model("models:/{name}@{BEST_ALIAS}")'),
        f"`@{BEST_ALIAS}` flew best on fresh episodes. `@{CONFIRMED_ALIAS}` appears once a "
        "confirmation proves a configuration better, and is a policy of that one. Each version "
        "says how it was chosen.",
    ]
    return "\n\n".join(parts)


def retire(client: MlflowClient, name: str, version: str, *, alias: str, successor: str) -> None:
    """Say of a version what it is without the alias that another one has now."""
    run_id = client.get_model_version(name, version).run_id
    text = f"It was models:/{name}@{alias} before version {successor}."
    if run_id and presence.find_run(client, run_id).presence != Presence.GONE:
        text = f"{origin_text(client, run_id)}. {text}"
    client.update_model_version(name, version, text)


def remove_alias(client: MlflowClient, sweep: Sweep, *, alias: str) -> bool:
    """Remove models:/STUDY@ALIAS; whether it existed. The version that it named stays.

    Raises:
        ConfigError: the registered model belongs to another sweep.
    """
    model = registered_model(client, sweep.study.name)
    if model is None or alias not in model.aliases:
        return False
    require_own(sweep, model)
    client.delete_registered_model_alias(sweep.study.name, alias)
    return True


def registered_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """The registered model of a study, if there is one."""
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != UNKNOWN:
            raise
        return None


def owner(sweep: Sweep) -> dict[str, str]:
    """The tag that distinguishes the models of two sweeps with the same name."""
    identity = sweep.optuna.user_attrs.get(SWEEP_ID)
    return {} if identity is None else {SWEEP_ID: str(identity)}


def require_own(sweep: Sweep, model: RegisteredModel) -> None:
    """Raise ConfigError if another sweep with this name on the same server registered it."""
    if SWEEP_ID in model.tags and model.tags[SWEEP_ID] != sweep.optuna.user_attrs.get(SWEEP_ID):
        raise ConfigError(
            f"models:/{model.name} in the registry belongs to another sweep of this name: "
            "its alias is left as it is"
        )


def registered_version(
    client: MlflowClient,
    sweep: Sweep,
    *,
    run_id: str,
    model: LoggedModel,
    description: str,
    tags: Mapping[str, str],
) -> ModelVersion:
    """The version of a run's model, registered unless an earlier attempt did."""
    for version in versions(client, sweep):
        if version.source == model.model_uri:
            describe_version(client, version, description=description, tags=tags)
            return version
    return client.create_model_version(
        sweep.study.name,
        model.model_uri,
        run_id=run_id,
        model_id=model.model_id,
        tags=dict(tags),
        description=description,
    )


def describe_version(
    client: MlflowClient, version: ModelVersion, *, description: str, tags: Mapping[str, str]
) -> None:
    """Give a version this description and these tags, where it has others."""
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)
    if version.description != description:
        client.update_model_version(version.name, version.version, description)


def require_model(client: MlflowClient, sweep: Sweep, *, run_id: str) -> LoggedModel:
    """The model that a run was recorded with.

    Raises:
        ConfigError: it has none.
    """
    for model in models_of(client, sweep, run_id=run_id):
        if TRAINING not in model.tags:
            return model
    raise ConfigError(f"run {run_id} has no model in its record")


def models_of(client: MlflowClient, sweep: Sweep, *, run_id: str) -> list[LoggedModel]:
    """The models of the run of a trial; that of a copied trial is in another experiment."""
    query = f"source_run_id = '{run_id}'"
    models = list(client.search_logged_models([sweep.experiment_id], filter_string=query))
    if not models and FORK in sweep.optuna.user_attrs:
        elsewhere = client.get_run(run_id).info.experiment_id
        models = list(client.search_logged_models([elsewhere], filter_string=query))
    return models


def versions(client: MlflowClient, sweep: Sweep) -> list[ModelVersion]:
    """All versions of the registered model of a study."""
    return list(client.search_model_versions(f"name = '{sweep.study.name}'"))


def origin_tags(client: MlflowClient, run_id: str) -> dict[str, str]:
    """The tags of a version whose model comes from this run."""
    tags = client.get_run(run_id).data.tags
    return {TRIAL_NUMBER: tags[TRIAL_NUMBER]} if TRIAL_NUMBER in tags else {}


def origin_text(client: MlflowClient, run_id: str) -> str:
    """What is known of a run's policy without any comparison."""
    run = client.get_run(run_id)
    text, value = f"The policy of {run.info.run_name}", run.data.metrics.get(FINAL_RETURN)
    return text if value is None else f"{text}: {FINAL_RETURN} {value:.1f}"


def is_described(version: ModelVersion) -> bool:
    """Whether it has a description."""
    return bool(version.description)


def describe_by_origin(client: MlflowClient, sweep: Sweep, version: ModelVersion) -> None:
    """Add the tags and the description that a version of an earlier program lacks."""
    run_id = str(version.run_id)
    tags = {**origin_tags(client, run_id), **owner(sweep)}
    describe_version(client, version, description=origin_text(client, run_id), tags=tags)
