"""The record of a trial in MLflow, as far as it can be trained again and compared."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from mlflow import MlflowClient
from mlflow.entities import Run

from lander.config import TrainConfig
from lander.dotted import flatten, from_toml
from lander.errors import ConfigError
from lander.metrics import EVAL_RETURN, EVAL_STD, FINALS
from lander.trust import UNKNOWN, Origin
from sweeps.endings import is_divergence
from sweeps.schema import CONFIG_FILE, REASON, TRAINING_SEEDS, seed_folder
from sweeps.store import presence
from sweeps.store.disk import require_space
from sweeps.store.presence import Presence

Numbers = dict[tuple[str, int], float]
"""Values by metric and environment steps, in the order in which training makes them."""
CHECKPOINT_METRICS = (EVAL_RETURN, EVAL_STD)


@dataclass(frozen=True)
class Receipt:
    """The record of a trial, as far as it can be trained again and compared."""

    run: Run
    configs: tuple[TrainConfig, ...]
    """The config with each of its training seeds."""
    numbers: Numbers
    """By training: every checkpoint, then the final evaluation."""

    @property
    def ending(self) -> str:
        """The reason if a training diverged; empty otherwise."""
        reason = self.run.data.tags.get(REASON, "")
        return reason if is_divergence(reason) else ""

    @property
    def prefixes(self) -> list[str]:
        """What the names of each training's metrics begin with."""
        return [seed_folder(seed, of=len(self.configs)) for seed in range(len(self.configs))]


def read_receipt(client: MlflowClient, run_id: str, *, origin: Origin = UNKNOWN) -> Receipt:
    """The record of a trial's run in MLflow; nothing else is needed to retrain it.

    Raises:
        ConfigError: the record is incomplete, or its environment needs a consent that `origin`
            does not have.
    """
    if presence.find_run(client, run_id).presence == Presence.GONE:
        raise ConfigError(f"run {run_id} is gone from MLflow: nothing but its score is left")
    run = client.get_run(run_id)
    config = read_config(client, run)
    origin.require(flatten(config))
    seeds = run.data.tags.get(TRAINING_SEEDS, str(config.seed)).split(", ")
    numbers: Numbers = {}
    receipt = Receipt(run, tuple(replace(config, seed=int(seed)) for seed in seeds), numbers)
    for prefix in receipt.prefixes:
        for name in (prefix + metric for metric in (*CHECKPOINT_METRICS, *FINALS)):
            if name in run.data.metrics:
                for point in client.get_metric_history(run_id, name):
                    numbers[name, point.step] = point.value
    if not numbers and not receipt.ending:
        raise ConfigError(f"{run.info.run_name} has no evaluation to compare with")
    return receipt


def read_config(client: MlflowClient, run: Run) -> TrainConfig:
    """The config among the artifacts of a run.

    Raises:
        ConfigError: it is missing, or cannot be read.
    """
    name = run.info.run_name
    try:
        with TemporaryDirectory() as folder:
            path = client.download_artifacts(run.info.run_id, CONFIG_FILE, folder)
            text = Path(path).read_text()
    except Exception as error:  # MLflow raises many kinds for a missing artifact
        require_space(Path(gettempdir()), cause=error)
        raise ConfigError(f"{name} has no {CONFIG_FILE} in its record: {error}") from None
    config = from_toml(text, source=f"{name}/{CONFIG_FILE}")
    if "sampled_episodes" not in tomllib.loads(text):  # recorded when all of them were
        return replace(config, sampled_episodes=config.final_episodes)
    return config


def differences(recorded: Numbers, replayed: Numbers) -> list[str]:
    """A line for every recorded number that the replay does not have to the last bit."""
    return [
        f"{name} at {step} steps: recorded {value!r}, replayed {replayed.get((name, step))!r}"
        for (name, step), value in recorded.items()
        if replayed.get((name, step)) != value
    ]
