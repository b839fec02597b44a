"""The trained policies in the record of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from optuna.trial import FrozenTrial

from lander.checkpoint import load
from lander.config import TrainConfig
from lander.errors import ConfigError
from lander.policy import ActorCritic
from sweeps.hints import hint
from sweeps.schema import POLICY_FILE, REMOVED, RUN_ID, seed_folder
from sweeps.scores import final_means, median_index
from sweeps.sweep import Sweep


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    """A trained policy and its origin."""

    policy: ActorCritic
    config: TrainConfig
    trial: int
    training: int
    """Which of the trial's trainings, from 0."""


def policy_of(sweep: Sweep, trial: FrozenTrial, *, training: int | None = None) -> TrainedPolicy:
    """The policy of a finished trial, from one of its trainings or from its median one.

    Raises:
        ConfigError: the weights are missing, or were not written by this program.
    """
    if REMOVED in trial.user_attrs:
        again = hint("export", sweep.store.folder, study=sweep.study.name, trial=trial.number)
        raise ConfigError(
            f"the weights of trial {trial.number} were removed, as [study] keep says; {again} "
            "prints the config that trains them again"
        )
    if training is None:
        training = median_training(trial)
    name = seed_folder(training, of=sweep.study.settings.seeds_per_trial) + POLICY_FILE
    with TemporaryDirectory() as folder:
        try:
            run_id = str(trial.user_attrs[RUN_ID])
            path = Path(sweep.store.runs().download_artifacts(run_id, name, folder))
        except Exception as error:  # MLflow raises many kinds for a missing artifact
            raise ConfigError(f"trial {trial.number} has no {name}: {error}") from None
        try:
            policy, config = load(path, origin=sweep.store.origin)
        except ConfigError as error:  # the temporary path means nothing to its reader
            raise ConfigError(str(error).replace(str(path), name)) from None
    return TrainedPolicy(policy, config, trial.number, training)


def median_training(trial: FrozenTrial) -> int:
    """The training of a finished trial whose policy is the model of its run."""
    return median_index(final_means(trial) or [0.0])
