"""Where the story of a trial is written: one MLflow run."""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
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
from lander.evaluation import checkpoint_seeds, final_seeds
from lander.fields import flatten, to_toml
from lander.gif import save_landing
from lander.options import inactive
from sweeps.provenance import package_version
from sweeps.scores import mean
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
CANDIDATE = "sweeps.candidate"
"""Optuna user attribute of a confirmation's trial: the trial of the sweep that it trains again."""
TEST_SEED_INDEX = "sweeps.test_seed"
"""Optuna user attribute of a confirmation's trial: under which of the test seeds."""
INTERRUPTED = "interrupted"
DIVERGED = "diverged"

CONFIG = "config.toml"
POLICY = "policy.pt"
GIF = "landing.gif"
MODEL = "policy"
SEED_CURVES = "seeds.png"
TRAINING_SEEDS = "seeds.training"
"""Tag: every training seed of a trial."""

BATCH_LIMIT = 1000
"""Metrics that MLflow takes in one call."""


class Recorder(Protocol):
    """One trial's record; the objective writes to nothing else.

    `seed` is the place of a training among the trial's: 0, 1, ..
    """

    def config(self, configs: Sequence[TrainConfig]) -> None:
        """The resolved config with each training seed, once, before training."""

    def progress(self, progress: Progress, *, seed: int) -> None:
        """One point of every curve of a training."""

    def result(self, result: TrainResult, *, seed: int) -> None:
        """Final numbers and weights of a training."""

    def summary(self, results: Sequence[TrainResult]) -> None:
        """What stands for the whole trial, GIF and model among it, once, at the end."""


@dataclass
class MlflowRecorder:
    """Writes to one MLflow run, in batches: a call per metric would cost 4 ms each."""

    client: MlflowClient
    run_id: str
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Time by what it went into besides training, recorded with the run."""
    _pending: list[Metric] = field(default_factory=list)
    _seeds: int = 1
    """Trainings of the trial."""
    _evaluated: defaultdict[int, list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By checkpoint: environment steps and mean return of each training."""

    def config(self, configs: Sequence[TrainConfig]) -> None:
        self._seeds = len(configs)
        with self._timed("mlflow"):
            config = configs[0]
            values = flatten(config)
            idle = inactive(values)  # a number that did nothing would only mislead
            params = [
                Param(name, str(value))
                for name, value in values.items()
                if value is not None and name not in idle
            ]
            seeds = {
                TRAINING_SEEDS: ", ".join(str(config.seed) for config in configs),
                "seeds.checkpoint": shown(checkpoint_seeds(config)),
                "seeds.final": shown(final_seeds(config)),
            }
            self.client.log_batch(self.run_id, params=params, tags=as_tags(seeds))
            self.client.log_text(self.run_id, to_toml(config), CONFIG)

    def progress(self, progress: Progress, *, seed: int) -> None:
        with self._timed("mlflow"):
            place = seed_folder(seed, of=self._seeds)
            self.metrics(progress.metrics, step=progress.env_steps, under=place)
            if progress.evaluation is not None:
                point = progress.env_steps, progress.evaluation.return_mean
                self._evaluated[progress.checkpoint].append(point)
                self.seconds["evaluation"] += progress.evaluation.seconds
                self.flush()  # so that the UI follows the trial, one batch per checkpoint

    def result(self, result: TrainResult, *, seed: int) -> None:
        self.seconds["evaluation"] += result.final.seconds + result.final_sampled.seconds
        place = seed_folder(seed, of=self._seeds)
        with self._timed("mlflow"), TemporaryDirectory() as folder:
            self.metrics(result.metrics, step=result.env_steps, under=place)
            self.flush()
            weights = Path(folder) / POLICY
            save(weights, result.policy.state_dict(), result.config)
            self.client.log_artifact(self.run_id, str(weights), place.rstrip("/") or None)

    def summary(self, results: Sequence[TrainResult]) -> None:
        typical = median_of(results)
        with TemporaryDirectory() as folder:
            gif = Path(folder) / GIF
            with self._timed("gif"):
                save_landing(gif, typical.config.env.id, typical.final)
            with self._timed("mlflow"):
                self.client.log_artifact(self.run_id, str(gif))
                if len(results) > 1:
                    self._seeds_together(results)
        with self._timed("model"):
            self.model(typical, step=typical.env_steps)

    def _seeds_together(self, results: Sequence[TrainResult]) -> None:
        """Under the plain names the mean over training seeds, beside it their extremes."""
        from sweeps.curves import seed_curves  # and matplotlib: most workers never draw

        points = [evaluated for _, evaluated in sorted(self._evaluated.items())]
        for point in points:
            steps, returns = zip(*point, strict=True)
            self.metrics(spread("eval/return", returns), step=max(steps))
        finals = [result.metrics for result in results]
        means = {name: mean([final[name] for final in finals]) for name in finals[0]}
        extremes = spread("final/return", [result.final.return_mean for result in results])
        self.metrics(means | extremes, step=max(result.env_steps for result in results))
        self.flush()
        self.client.log_figure(self.run_id, seed_curves(points), SEED_CURVES)

    def metrics(self, metrics: Mapping[str, float], *, step: int, under: str = "") -> None:
        """Keep a point of each curve for the next `flush`."""
        now = int(time.time() * 1000)
        self._pending += [Metric(under + name, value, now, step) for name, value in metrics.items()]

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
    role: str,
    tags: Mapping[str, str],
) -> Generator[MlflowRecorder]:
    """Open the run of a trial; close it in the state that the trial ends in.

    COMPLETE: FINISHED. PRUNED, or interrupted: KILLED. FAIL: FAILED, with the reason as a tag.
    """
    given = {
        name: str(trial.user_attrs[name])
        for name in (RETRY_OF, CANDIDATE, TEST_SEED_INDEX)
        if name in trial.user_attrs
    }
    run = client.create_run(
        experiment_id,
        run_name=f"{role}-{trial.number:04d}",
        tags={ROLE: role, PARENT: parent_run_id, NUMBER: str(trial.number), **given, **tags},
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


def seed_folder(seed: int, *, of: int) -> str:
    """What stands before the names of a training's curves and files: nothing if it is the only
    one of its trial."""
    return f"seed_{seed}/" if of > 1 else ""


def median_of(results: Sequence[TrainResult]) -> TrainResult:
    """The training in the middle, of two the worse: what to expect, not what luck can do."""
    by_score = sorted(results, key=lambda result: result.final.return_mean)
    return by_score[(len(results) - 1) // 2]


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and extremes over training seeds."""
    return {f"{name}_mean": mean(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def as_tags(values: Mapping[str, str]) -> list[RunTag]:
    """Tags as `log_batch` takes them: one call for all costs what one costs."""
    return [RunTag(name, value) for name, value in values.items()]


def shown(seeds: range) -> str:
    """A range of seeds for people: first..last."""
    return f"{seeds[0]}..{seeds[-1]}"
