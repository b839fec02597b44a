"""Where the story of a trial is written: one MLflow run."""

from __future__ import annotations

import os
import time
import traceback
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import mlflow
import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from lander.agent import Divergence
from lander.checkpoint import save
from lander.dotted import flatten, to_toml
from lander.env import env_spec
from lander.evaluation import checkpoint_seeds, final_seeds
from lander.gif import save_landing
from lander.metrics import EVAL_RETURN, FINAL_RETURN
from lander.policy import DeterministicActor
from lander.resolve import Resolved
from lander.trainer import Progress, TrainResult
from sweeps.endings import SUPERSEDING, ending
from sweeps.errors import one_line, redacted
from sweeps.record.entries import Point
from sweeps.record.files import set_aside
from sweeps.record.outbox import POINTS_LIMIT, Outbox, spool_of
from sweeps.record.provenance import package_version
from sweeps.schema import (
    CANDIDATE,
    CHECKPOINT_SEEDS,
    CONFIG_FILE,
    FINAL_SEEDS,
    LANDING_GIF,
    MODEL,
    PARENT_RUN,
    POLICY_FILE,
    REASON,
    RECORD_KEY,
    RETRY_OF,
    ROLE,
    RUN_ID,
    SCORE,
    SECONDS,
    SEED_CURVES_FILE,
    SUPERSEDED,
    TEST_SEED_INDEX,
    TRACEBACK_FILE,
    TRAINING_SEEDS,
    TRIAL_NUMBER,
    TRIAL_STATE,
    WARNING,
    Ending,
    Reason,
    Role,
    TimePart,
    extremes,
    run_name,
    seed_folder,
)
from sweeps.scores import mean
from sweeps.store.store import Store


class Recorder(Protocol):
    """One trial's record; the objective writes to nothing else.

    `seed` is the place of a training among the trial's: 0, 1, ..
    """

    def config(self, configs: Sequence[Resolved]) -> None:
        """The config with each training seed, once, before training."""

    def progress(self, progress: Progress, *, seed: int) -> None:
        """One point of every curve of a training."""

    def result(self, result: TrainResult, *, seed: int) -> None:
        """Final numbers and weights of a training."""

    def summary(self, results: Sequence[TrainResult], *, score: float) -> None:
        """What stands for the whole trial, GIF and model among it, once, at the end."""


@dataclass
class MlflowRecorder:
    """Writes to the spool of one MLflow run, in batches."""

    spool: Outbox
    seconds: defaultdict[TimePart, float] = field(default_factory=lambda: defaultdict(float))
    """Time by what it went into besides training, recorded with the run."""
    warnings: list[str] = field(default_factory=list)
    """What could not be made, recorded with the run."""
    _started: float = field(default_factory=time.perf_counter)
    _pending: list[Point] = field(default_factory=list)
    _latest: dict[str, Point] = field(default_factory=dict)
    """The last point of each curve."""
    _params: dict[str, str] = field(default_factory=dict)
    _seeds: int = 1
    """Trainings of the trial."""
    _evaluated: defaultdict[int, list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By checkpoint: environment steps and mean return of each training."""

    def config(self, configs: Sequence[Resolved]) -> None:
        self._seeds = len(configs)
        with self._timed(TimePart.MLFLOW):
            config, idle = configs[0].config, configs[0].idle
            self._params = {
                name: str(value)
                for name, value in flatten(config).items()
                if value is not None and name not in idle  # it would only mislead
            }
            seeds = {
                TRAINING_SEEDS: ", ".join(str(each.config.seed) for each in configs),
                CHECKPOINT_SEEDS: shown(checkpoint_seeds(config)),
                FINAL_SEEDS: shown(final_seeds(config)),
            }
            self.spool.write("batch", params=self._params, tags=seeds)
            self.file(CONFIG_FILE).write_text(to_toml(config))
            self.spool.write("file", path=CONFIG_FILE)
            self.flush()

    def progress(self, progress: Progress, *, seed: int) -> None:
        with self._timed(TimePart.MLFLOW):
            place = seed_folder(seed, of=self._seeds)
            self.metrics(progress.metrics, step=progress.env_steps, under=place)
            if progress.evaluation is not None:
                point = progress.env_steps, progress.evaluation.return_mean
                self._evaluated[progress.checkpoint].append(point)
                self.seconds[TimePart.EVALUATION] += progress.evaluation.seconds
                self.flush()  # so that the UI follows the trial, one batch per checkpoint

    def result(self, result: TrainResult, *, seed: int) -> None:
        self.seconds[TimePart.EVALUATION] += result.final.seconds + result.final_sampled.seconds
        place = seed_folder(seed, of=self._seeds)
        with self._timed(TimePart.MLFLOW):
            self.metrics(result.metrics, step=result.env_steps, under=place)
            save(self.file(place + POLICY_FILE), result.policy.state_dict(), result.config)
            self.spool.write("file", path=place + POLICY_FILE)
            self.flush()

    def summary(self, results: Sequence[TrainResult], *, score: float) -> None:
        typical = median_of(results)
        with self._timed(TimePart.MLFLOW):
            self.metrics({SCORE: score}, step=0)
        with self._timed(TimePart.GIF), tolerated(self.warnings, LANDING_GIF):
            self._picture(typical)
        if len(results) > 1:
            with self._timed(TimePart.MLFLOW):
                self._seeds_together(results)
        with self._timed(TimePart.MODEL), tolerated(self.warnings, "the model"):
            self.model(typical)

    def _picture(self, result: TrainResult) -> None:
        """The first final episode, if it can be drawn."""
        path = self.file(LANDING_GIF)
        trouble = save_landing(path, result.config.env, result.final)
        if trouble is not None:
            self.warnings.append(trouble)
        if path.is_file():
            self.spool.write("file", path=LANDING_GIF)

    def _seeds_together(self, results: Sequence[TrainResult]) -> None:
        """Under the plain names the mean over training seeds, beside it their extremes."""
        points = [evaluated for _, evaluated in sorted(self._evaluated.items())]
        for point in points:
            steps, returns = zip(*point, strict=True)
            self.metrics(spread(EVAL_RETURN, returns), step=max(steps))
        finals = [result.metrics for result in results]
        means = {name: mean([final[name] for final in finals]) for name in finals[0]}
        outer = spread(FINAL_RETURN, [result.final.return_mean for result in results])
        self.metrics(means | outer, step=max(result.env_steps for result in results))
        with tolerated(self.warnings, SEED_CURVES_FILE):
            from sweeps.charts.seeds import seed_curves  # and matplotlib: most workers never draw

            env = results[0].config.env
            seed_curves(points, env=env).savefig(self.file(SEED_CURVES_FILE))
            self.spool.write("file", path=SEED_CURVES_FILE)

    def metrics(self, metrics: Mapping[str, float], *, step: int, under: str = "") -> None:
        """Keep a point of each curve for the next `flush`."""
        now = int(time.time() * 1000)
        for name, value in metrics.items():
            self._latest[under + name] = point = (under + name, value, now, step)
            self._pending.append(point)
        if len(self._pending) >= POINTS_LIMIT:  # there may be any number of updates to a checkpoint
            self.spool.points(self._pending)
            self._pending.clear()

    def flush(self) -> bool:
        """Write what is pending; whether MLflow has all of it."""
        self.spool.points(self._pending)
        self._pending.clear()
        return self.spool.deliver()

    def model(self, result: TrainResult) -> None:
        """The policy as a LoggedModel of the run: raw observations in, env actions out."""
        spec = env_spec(result.config.env)
        mlflow.pytorch.save_model(
            DeterministicActor(result.policy),
            self.file(MODEL),
            # two rows, or the export would fix the batch at one, as it fixes the type; requirements
            # given, or they are inferred for seconds
            input_example=np.zeros((2, spec.obs_dim), dtype=spec.obs_dtype),
            pip_requirements=[f"torch=={package_version('torch')}"],
        )
        points = [point for point in self._latest.values() if point[-1] == result.env_steps]
        self.spool.write(
            "model", path=MODEL, params=self._params, points=points, step=result.env_steps
        )

    def close(self, tags: Mapping[str, str], *, status: str) -> None:
        """The last of it, in MLflow's word for how it ended."""
        told = {f"{SECONDS}.{part}": f"{self.seconds[part]:.3f}" for part in TimePart}
        told[SECONDS] = f"{time.perf_counter() - self._started:.3f}"
        if self.warnings:
            told[WARNING] = "; ".join(self.warnings)
        self.flush()
        self.spool.write("batch", tags={**tags, **told})
        self.spool.write("end", status=status, time=int(time.time() * 1000))
        self.spool.sync()  # before the trial counts as complete
        if self.spool.deliver():
            self.spool.settle()  # or `sweeps.record.entries.delivery` sees to it

    def abandon(self, trial: FrozenTrial) -> None:
        """The last of the record of a trial that others have closed, in their words.

        `sweeps.record.entries.delivery` hands it over, if it is still there.
        """
        if not self.spool.is_whole:
            self.spool.remove()  # they have handed it over, and what came later belongs to nothing
            return
        how = ending(trial)
        tags = {TRIAL_STATE: trial.state.name}
        if trial.state == TrialState.FAIL:
            tags[REASON] = str(trial.user_attrs.get(REASON, Reason.LOST))
        if how in SUPERSEDING:
            tags[SUPERSEDED] = how
        broken_off = (Ending.PRUNED, Ending.INTERRUPTED)
        status = "FINISHED" if how == Ending.FINISHED else "FAILED"
        status = "KILLED" if how in broken_off else status
        with suppress(FileNotFoundError):
            self.spool.write("batch", tags=tags)
            self.spool.write("end", status=status, time=int(time.time() * 1000))

    def file(self, path: str) -> Path:
        """Where to put an artifact of that name."""
        place = self.spool.folder / path
        place.parent.mkdir(exist_ok=True)
        return place

    @contextmanager
    def _timed(self, part: TimePart) -> Generator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - started


@contextmanager
def tolerated(warnings: list[str], what: str) -> Generator[None]:
    """What is made in here adorns a record: that it is missing is a warning, and no more."""
    try:
        yield
    except Exception as error:
        warnings.append(f"{what} is missing: {one_line(error)}")


def is_taken_away(trial: optuna.Trial) -> bool:
    """Whether others have closed a trial while it ran here, as it gave no sign of life."""
    return trial.storage.get_trial(trial._trial_id).state.is_finished()


@contextmanager
def trial_run(
    trial: optuna.Trial,
    *,
    store: Store,
    experiment_id: str,
    parent_run_id: str,
    role: Role,
    tags: Mapping[str, str],
) -> Generator[MlflowRecorder]:
    """Open the run of a trial; close it in the state that the trial ends in.

    COMPLETE: FINISHED. PRUNED, or interrupted: KILLED. FAIL: FAILED, with the reason as a tag.

    Where others have closed it meanwhile, its record ends with what they said of it.
    """
    given: dict[str, str] = {
        name: str(trial.user_attrs[name])
        for name in (RETRY_OF, CANDIDATE, TEST_SEED_INDEX)
        if name in trial.user_attrs
    }
    folder = spool_of(store, trial.study.study_name, trial.number)
    if os.path.lexists(folder):  # a trial begins once: not this one's
        set_aside(folder, folder.name, "it is of an earlier sweep")
    spool = Outbox(folder, store.runs(), link=partial(trial.set_user_attr, RUN_ID))
    start = int(time.time() * 1000)
    recorder = MlflowRecorder(spool)
    status, state, reason = "FAILED", "FAIL", ""
    own_tags: dict[str, str] = {
        ROLE: str(role),
        PARENT_RUN: parent_run_id,
        TRIAL_NUMBER: str(trial.number),
        RECORD_KEY: spool.key(start),
    }
    try:
        spool.write(
            "run",
            experiment_id=experiment_id,
            name=run_name(role, trial.number),
            start=start,
            tags={**own_tags, **given, **tags},
        )
        spool.deliver()
        yield recorder
        status, state = "FINISHED", "COMPLETE"
    except optuna.TrialPruned:
        status, state = "KILLED", "PRUNED"
        raise
    except Divergence as error:
        reason = f"{Reason.DIVERGED}: {error}"
        raise
    except Exception as error:
        if not is_taken_away(trial):  # which shows in many ways: its record may be gone as well
            reason = one_line(error)
            recorder.file(TRACEBACK_FILE).write_text(redacted(traceback.format_exc()))
            spool.write("file", path=TRACEBACK_FILE)
        raise
    except BaseException:
        status, reason = "KILLED", Reason.INTERRUPTED
        raise
    finally:
        if is_taken_away(trial):
            recorder.abandon(trial.storage.get_trial(trial._trial_id))
        else:
            last = {TRIAL_STATE: state}
            if reason == Reason.INTERRUPTED:
                last[SUPERSEDED] = Ending.INTERRUPTED
            if reason:
                last[REASON] = reason
                with suppress(UpdateFinishedTrialError):
                    trial.set_user_attr(REASON, reason)
            recorder.close(last, status=status)


def median_of(results: Sequence[TrainResult]) -> TrainResult:
    """The training in the middle, of two the worse: what to expect, not what luck can do."""
    by_score = sorted(results, key=lambda result: result.final.return_mean)
    return by_score[(len(results) - 1) // 2]


def spread(metric: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and extremes over training seeds."""
    lowest, highest = extremes(metric)
    return {metric: mean(values), lowest: min(values), highest: max(values)}


def shown(seeds: range) -> str:
    """A range of seeds for people: first..last."""
    return f"{seeds[0]}..{seeds[-1]}"
