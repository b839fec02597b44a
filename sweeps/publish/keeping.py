"""Removes the weights that a study does not keep; all else that is recorded of a trial stays.

What is to be removed is noted with the trial first: if the removal is interrupted, the next attempt
completes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from optuna.trial import FrozenTrial

from lander.terminal import counted
from sweeps.publish.notes import Leaderboard
from sweeps.schema import COPIED_FROM, POLICY_FILE, REMOVED, RUN_ID, seed_folder
from sweeps.store.best_policy import recorded_policy
from sweeps.store.mlflow_client import delete_artifact
from sweeps.store.mlflow_errors import required_id
from sweeps.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights in the record of a trial."""

    trial: FrozenTrial
    addresses: tuple[str, ...]
    """Of their files, and of the folders of models."""
    size: int
    """Bytes in them, without those of an earlier attempt."""


def surplus(client: MlflowClient, sweep: Sweep, board: Leaderboard) -> list[Weights]:
    """The weights that the study does not keep; none while trials are running."""
    keep, policy = sweep.study.settings.keep, recorded_policy(sweep.optuna)
    if keep is None or board.trials.running or not board.rows:
        return []
    kept = {one.trial.user_attrs.get(RUN_ID) for one in board.rows[:keep]}
    kept |= {one.trial.user_attrs.get(RUN_ID) for one in [board.base] if one is not None}
    kept |= set() if policy is None else {policy.run_id}
    ended = [  # the run of a copy is another sweep's
        trial
        for trial in board.trials.all
        if trial.state.is_finished() and COPIED_FROM not in trial.user_attrs
    ]
    others = [
        trial
        for trial in ended
        if trial.user_attrs.get(RUN_ID) not in (None, *kept) and trial.user_attrs.get(REMOVED) != []
    ]
    weights = [weights_of(client, sweep, trial) for trial in others if not in_use(client, trial)]
    return [one for one in weights if one.addresses]


def in_use(client: MlflowClient, trial: FrozenTrial) -> bool:
    """Whether any registered model has a version from this trial's run."""
    query = f"run_id = '{trial.user_attrs[RUN_ID]}'"
    return bool(client.search_model_versions(query, max_results=1))


def weights_of(client: MlflowClient, sweep: Sweep, trial: FrozenTrial) -> Weights:
    """The weights of a trial, as far as they exist."""
    begun, run_id = trial.user_attrs.get(REMOVED), str(trial.user_attrs[RUN_ID])
    if begun is not None:
        return Weights(trial, tuple(begun), 0)
    seeds, root = sweep.study.settings.seeds_per_trial, client.get_run(run_id).info.artifact_uri
    files = {
        file.path: file.file_size or 0
        for seed in range(seeds)
        for file in client.list_artifacts(run_id, seed_folder(seed, of=seeds).strip("/") or None)
    }
    named = [name for name in files if name.rpartition("/")[2] == POLICY_FILE]
    models = models_of(client, sweep, run_id)
    addresses = [f"{root}/{name}" for name in named] + [one.artifact_location for one in models]
    size = sum(files[name] for name in named) + sum(sizes(client, models))
    return Weights(trial, tuple(addresses), size)


def models_of(client: MlflowClient, sweep: Sweep, run_id: str) -> list[LoggedModel]:
    """The models of a run."""
    query = f"source_run_id = '{run_id}'"
    return list(client.search_logged_models([sweep.experiment_id], query))


def sizes(client: MlflowClient, models: Iterable[LoggedModel]) -> Iterator[int]:
    """The bytes in each file of some models."""
    for model in models:
        folders: list[str | None] = [None]
        for folder in folders:
            for file in client.list_logged_model_artifacts(required_id(model.model_id), folder):
                if file.is_dir:
                    folders.append(file.path)
                else:
                    yield file.file_size or 0


def remove(client: MlflowClient, sweep: Sweep, weights: Weights) -> None:
    """Remove the weights of a trial, its models with them. Hold `Store.publication_lock`."""
    storage, trial = sweep.store.trials(), weights.trial
    storage.set_late_attr(trial, REMOVED, list(weights.addresses))
    for model in models_of(client, sweep, str(trial.user_attrs[RUN_ID])):
        client.delete_logged_model(required_id(model.model_id))
    for address in weights.addresses:
        delete_artifact(client, address)
    storage.set_late_attr(trial, REMOVED, [])


def freed(weights: Iterable[Weights], *, keep: int | None) -> str:
    """What the removal of some weights is, in words."""
    several = list(weights)
    megabytes = sum(one.size for one in several) / 2**20
    trials = counted(len(several), "trial")
    return f"the weights of {trials}, beyond keep = {keep}: {megabytes:.1f} MB"
