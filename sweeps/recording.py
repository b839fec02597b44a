"""Where the story of a trial is written: one MLflow run."""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import mlflow
import numpy as np
import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.models import Model

from lander import DeterministicActor, Divergence, Progress, TrainConfig, TrainResult
from lander.checkpoint import save
from lander.env import spaces
from lander.evaluation import CHECKPOINT_SEED, FINAL_SEED, seed_range
from lander.fields import flatten, to_toml
from lander.gif import save_landing
from lander.options import inactive
from sweeps.provenance import package_version
from sweeps.storage import this_worker

ROLE = "sweeps.role"
REASON = "sweeps.reason"
STATE = "optuna.state"
SECONDS = "sweeps.seconds"
"""Tag: how long a trial took. With a dot and one of `PARTS` behind it: how long that did."""
PARTS = ("evaluation", "mlflow", "gif", "model")
"""What of a trial's time is not training."""
NUMBER = "optuna.trial_number"
PARENT = "mlflow.parentRunId"
RUN_ID = "mlflow.run_id"
"""Optuna user attribute of a study and of a trial: its MLflow run."""
WORKER = "sweeps.worker"
"""Optuna user attribute of a trial: who runs it."""
RETRY_OF = "sweeps.retry_of"
"""Optuna user attribute of a trial: the number of the lost trial whose place and seed it takes."""
INTERRUPTED = "interrupted"
DIVERGED = "diverged"

CONFIG = "config.toml"
POLICY = "policy.pt"
GIF = "landing.gif"
MODEL = "policy"

BATCH_LIMIT = 1000
"""Metrics that MLflow takes in one call."""


class Recorder(Protocol):
    """One trial's record; the objective writes to nothing else."""

    def config(self, config: TrainConfig) -> None:
        """The resolved config, once, before training."""

    def progress(self, progress: Progress) -> None:
        """One point of every curve."""

    def result(self, result: TrainResult) -> None:
        """Final numbers, weights, GIF and model, once, after training."""


@dataclass
class MlflowRecorder:
    """Writes to one MLflow run, in batches: a call per metric would cost 4 ms each."""

    client: MlflowClient
    run_id: str
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Time by what it went into besides training, recorded with the run."""
    _pending: list[Metric] = field(default_factory=list)

    def config(self, config: TrainConfig) -> None:
        with self._timed("mlflow"):
            values = flatten(config)
            idle = inactive(values)  # a number that did nothing would only mislead
            params = [
                Param(name, str(value))
                for name, value in values.items()
                if value is not None and name not in idle
            ]
            seeds = {
                "seeds.training": str(config.seed),
                "seeds.checkpoint": shown(seed_range(CHECKPOINT_SEED, config.eval_episodes)),
                "seeds.final": shown(seed_range(FINAL_SEED, config.final_episodes)),
            }
            self.client.log_batch(self.run_id, params=params, tags=as_tags(seeds))
            self.client.log_text(self.run_id, to_toml(config), CONFIG)

    def progress(self, progress: Progress) -> None:
        with self._timed("mlflow"):
            self.metrics(progress.metrics, step=progress.env_steps)
            if progress.evaluation is not None:
                self.seconds["evaluation"] += progress.evaluation.seconds
                self.flush()  # so that the UI follows the trial, one batch per checkpoint

    def result(self, result: TrainResult) -> None:
        self.seconds["evaluation"] += result.final.seconds + result.final_sampled.seconds
        steps = result.env_steps
        with TemporaryDirectory() as folder:
            weights, gif = Path(folder) / POLICY, Path(folder) / GIF
            with self._timed("gif"):
                save_landing(gif, result.config.env.id, result.final)
            with self._timed("mlflow"):
                self.metrics(result.metrics, step=steps)
                self.flush()
                save(weights, result.policy.state_dict(), result.config)
                self.client.log_artifact(self.run_id, str(weights))
                self.client.log_artifact(self.run_id, str(gif))
        with self._timed("model"):
            self.model(result, step=steps)

    def metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Keep a point of each curve for the next `flush`."""
        now = int(time.time() * 1000)
        self._pending += [Metric(name, value, now, step) for name, value in metrics.items()]

    def flush(self) -> None:
        """Write what is pending."""
        while self._pending:
            self.client.log_batch(self.run_id, metrics=self._pending[:BATCH_LIMIT])
            del self._pending[:BATCH_LIMIT]

    def model(self, result: TrainResult, *, step: int) -> None:
        """The policy as a LoggedModel of the run: raw observations in, env actions out."""
        run = self.client.get_run(self.run_id)
        obs_dim, _ = spaces(result.config.env.id)
        logged = self.client.create_logged_model(
            run.info.experiment_id, MODEL, source_run_id=self.run_id, params=run.data.params
        )
        Model.log(
            artifact_path=None,
            flavor=mlflow.pytorch,
            name=MODEL,
            run_id=self.run_id,
            model_id=logged.model_id,
            step=step,
            pytorch_model=DeterministicActor(result.policy),
            # two rows, or the export would fix the batch at one; requirements given, or they are
            # inferred for seconds
            input_example=np.zeros((2, obs_dim), dtype=np.float32),
            pip_requirements=[f"torch=={package_version('torch')}"],
        )

    @contextmanager
    def _timed(self, part: str) -> Generator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - started


@contextmanager
def trial_run(
    trial: optuna.Trial,
    *,
    client: MlflowClient,
    experiment_id: str,
    parent_run_id: str,
    tags: Mapping[str, str],
) -> Generator[MlflowRecorder]:
    """Open the run of a trial; close it in the state that the trial ends in.

    COMPLETE: FINISHED. PRUNED, or interrupted: KILLED. FAIL: FAILED, with the reason as a tag.
    """
    run = client.create_run(
        experiment_id,
        run_name=f"trial-{trial.number:04d}",
        tags={ROLE: "trial", PARENT: parent_run_id, NUMBER: str(trial.number), **tags},
    )
    run_id = run.info.run_id
    trial.set_user_attr(RUN_ID, run_id)
    trial.set_user_attr(WORKER, this_worker())
    recorder = MlflowRecorder(client, run_id)
    started = time.perf_counter()
    status, state, reason = "FAILED", "FAIL", ""
    try:
        yield recorder
        status, state = "FINISHED", "COMPLETE"
    except optuna.TrialPruned:
        status, state = "KILLED", "PRUNED"
        raise
    except Divergence as error:
        reason = f"{DIVERGED}: {error}"
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        with suppress(Exception):  # the reason stands even where its traceback cannot be stored
            client.log_text(run_id, traceback.format_exc(), "traceback.txt")
        raise
    except BaseException:
        status, reason = "KILLED", INTERRUPTED
        raise
    finally:
        recorder.flush()
        last = {STATE: state}
        if reason:
            last[REASON] = reason[:500]
            trial.set_user_attr(REASON, last[REASON])
        last[SECONDS] = f"{time.perf_counter() - started:.3f}"
        for part in PARTS:
            last[f"{SECONDS}.{part}"] = f"{recorder.seconds[part]:.3f}"
        client.log_batch(run_id, tags=as_tags(last))
        client.set_terminated(run_id, status)


def as_tags(values: Mapping[str, str]) -> list[RunTag]:
    """Tags as `log_batch` takes them: one call for all costs what one costs."""
    return [RunTag(name, value) for name, value in values.items()]


def shown(seeds: range) -> str:
    """A range of seeds for people: first..last."""
    return f"{seeds[0]}..{seeds[-1]}"
