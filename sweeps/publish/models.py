"""The model of a training that is not the median one of its trial: its run has only the latter."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from lander.checkpoint import save
from sweeps.publish.flights import Candidate
from sweeps.publish.policies import median_training
from sweeps.record.mlflow_run import upload_model
from sweeps.record.model import save_model
from sweeps.schema import MODEL, POLICY_FILE, TRAINING
from sweeps.store.mlflow_errors import required_id


def model_of_training(client: MlflowClient, candidate: Candidate) -> str | None:
    """The id of a training's own model, logged unless it is; None for that of the median training,
    which its run was recorded with."""
    if candidate.training == median_training(candidate.trial):
        return None
    experiment, training = candidate.sweep.experiment_id, str(candidate.training)
    query = f"source_run_id = '{candidate.run_id}' and tags.`{TRAINING}` = '{training}'"
    models = list(client.search_logged_models([experiment], query))
    if models and models[0].status == "READY":
        return required_id(models[0].model_id)
    logged = models[0] if models else create_model(client, candidate)
    with TemporaryDirectory() as temporary:
        weights, folder = Path(temporary) / POLICY_FILE, Path(temporary) / MODEL
        save(weights, candidate.trained.policy.state_dict(), candidate.trained.config)
        save_model(weights, folder)
        upload_model(client, logged, folder, run_id=candidate.run_id)
    return required_id(logged.model_id)


def create_model(client: MlflowClient, candidate: Candidate) -> LoggedModel:
    """The model of a training, without its files."""
    return client.create_logged_model(
        candidate.sweep.experiment_id,
        f"{client.get_run(candidate.run_id).info.run_name}-training-{candidate.training}",
        source_run_id=candidate.run_id,
        tags={TRAINING: str(candidate.training)},
    )
