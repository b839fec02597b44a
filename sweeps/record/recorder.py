"""What a trial records: config, curves, weights, GIF and model, written to its outbox."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from optuna.trial import FrozenTrial, TrialState

from lander.checkpoint import save
from lander.config import EnvConfig
from lander.dotted import flatten, to_toml
from lander.evaluation import Evaluation
from lander.film import save_landing
from lander.lunar import training_physics
from lander.metrics import EVAL_RETURN, FINAL_RETURN
from lander.policy import ActorCritic
from lander.resolve import Resolved
from lander.seeds import checkpoint_seeds, final_seeds
from lander.trainer import Progress, TrainResult
from sweeps.errors import one_line
from sweeps.record.entries import Batch, File, Point, SavedModel
from sweeps.record.meter import Meter
from sweeps.record.model import save_model
from sweeps.record.outbox import POINTS_LIMIT, Outbox
from sweeps.schema import (
    CHECKPOINT_SEEDS,
    CONFIG_FILE,
    COST_CPU,
    COST_HELPED,
    COST_SECONDS,
    COST_STEPS,
    FINAL_SEEDS,
    LANDING_GIF,
    MODEL,
    PHYSICS,
    POLICY_FILE,
    REASON,
    SCORE,
    SECONDS,
    SEED_CURVES_FILE,
    TRACEBACK_FILE,
    TRAINING_SEEDS,
    WARNING,
    Reason,
    TimePart,
    extremes,
    seed_folder,
)
from sweeps.scores import mean, median_index


class Recorder(Protocol):
    """The record of one trial; an objective writes to nothing else.

    `seed` is the index of a training in its trial: 0, 1, ..
    """

    def config(self, configs: Sequence[Resolved]) -> None:
        """Before the first training: the resolved config, once with each training seed."""

    def progress(self, progress: Progress, *, seed: int) -> None:
        """After an update: one point of every curve of a training."""

    def helped(self, seconds: float, cpu_seconds: float) -> None:
        """Before the progress of a training that another worker has done: the time that this
        saved, and the processor time that it took."""

    def result(self, result: TrainResult, *, seed: int) -> None:
        """After a training: its final numbers and weights."""

    def pruned(self, policy: ActorCritic, evaluation: Evaluation, *, seed: int) -> None:
        """Where the pruner ends a training: its weights and a film, as they are now."""

    def summary(self, results: Sequence[TrainResult], *, score: float) -> None:
        """After the last training: the score, and the GIF and model of the whole trial."""


@dataclass
class MlflowRecorder:
    """Writes the record of a trial to an outbox, in batches."""

    outbox: Outbox
    title: str = "trial"
    """The trial's name in its film."""
    seconds: defaultdict[TimePart, float] = field(default_factory=lambda: defaultdict(float))
    """What time was spent on besides training, recorded with the run."""
    meter: Meter = field(default_factory=Meter)
    warnings: list[str] = field(default_factory=list)
    """Which artifacts are missing, and why, recorded with the run."""
    _started: float = field(default_factory=time.perf_counter)
    _pending: list[Point] = field(default_factory=list)
    _latest: dict[str, Point] = field(default_factory=dict)
    """The last point of each curve."""
    _params: dict[str, str] = field(default_factory=dict)
    _configs: Sequence[Resolved] = ()
    """One for each training of the trial."""
    _steps: dict[int, int] = field(default_factory=dict)
    """Environment steps of each training so far."""
    _helped: list[tuple[float, float]] = field(default_factory=list)
    """Seconds saved and processor time of each training that another worker has done."""
    _evaluated: defaultdict[int, list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By checkpoint: environment steps and mean return of each training."""

    def config(self, configs: Sequence[Resolved]) -> None:
        self._configs = configs
        with self._timed(TimePart.MLFLOW):
            config, idle = configs[0].config, configs[0].idle
            self._params = {
                name: str(value)
                for name, value in flatten(config).items()
                if value is not None and name not in idle  # an idle field would mislead
            }
            tags = {
                TRAINING_SEEDS: ", ".join(str(each.config.seed) for each in configs),
                CHECKPOINT_SEEDS: first_to_last(checkpoint_seeds(config)),
                FINAL_SEEDS: first_to_last(final_seeds(config)),
                PHYSICS: training_physics(config.env),
            }
            self.outbox.write(Batch(params=self._params, tags=tags))
            self.file(CONFIG_FILE).write_text(to_toml(config))
            self.outbox.write(File(CONFIG_FILE))

    def progress(self, progress: Progress, *, seed: int) -> None:
        self._steps[seed] = progress.env_steps
        with self._timed(TimePart.MLFLOW):
            folder = seed_folder(seed, of=len(self._configs))
            self.metrics(progress.metrics, step=progress.env_steps, under=folder)
            if progress.evaluation is not None:
                point = progress.env_steps, progress.evaluation.return_mean
                self._evaluated[progress.checkpoint].append(point)
                self.seconds[TimePart.EVALUATION] += progress.evaluation.seconds
                self._write_points()
            if self.outbox.is_due:  # so that the UI follows the trial
                self.flush()

    def helped(self, seconds: float, cpu_seconds: float) -> None:
        self._helped.append((seconds, cpu_seconds))

    def result(self, result: TrainResult, *, seed: int) -> None:
        self.seconds[TimePart.EVALUATION] += result.final.seconds + result.final_sampled.seconds
        folder = seed_folder(seed, of=len(self._configs))
        with self._timed(TimePart.MLFLOW):
            self.metrics(result.metrics, step=result.env_steps, under=folder)
            self._weights(result.policy, seed=seed)
            self._write_points()

    def pruned(self, policy: ActorCritic, evaluation: Evaluation, *, seed: int) -> None:
        with self._timed(TimePart.MLFLOW):
            self._weights(policy, seed=seed)
        title = f"{self.title}, pruned at {evaluation.return_mean:.1f}"
        self._film(evaluation, self._configs[seed].config.env, title=title)

    def _weights(self, policy: ActorCritic, *, seed: int) -> None:
        """The weights of a training."""
        name = seed_folder(seed, of=len(self._configs)) + POLICY_FILE
        save(self.file(name), policy.state_dict(), self._configs[seed].config)
        self.outbox.write(File(name))

    def summary(self, results: Sequence[TrainResult], *, score: float) -> None:
        median = median_index([result.final.return_mean for result in results])
        typical = results[median]
        with self._timed(TimePart.MLFLOW):
            self.metrics({SCORE: score}, step=0)
        title = f"{self.title}, score {score:.1f}"
        self._film(typical.final, typical.config.env, title=title)
        if len(results) > 1:
            with self._timed(TimePart.MLFLOW):
                self._seeds_together(results)
        with self._timed(TimePart.MODEL), tolerated(self.warnings, "the model"):
            self._model(typical, seed=median)

    def _film(self, evaluation: Evaluation, env: EnvConfig, *, title: str) -> None:
        """The first episode, if the environment can draw it."""
        with self._timed(TimePart.GIF), tolerated(self.warnings, LANDING_GIF):
            path = self.file(LANDING_GIF)
            trouble = save_landing(path, env, evaluation, title=title)
            if trouble is not None:
                self.warnings.append(trouble)
            if path.is_file():
                self.outbox.write(File(LANDING_GIF))

    def _seeds_together(self, results: Sequence[TrainResult]) -> None:
        """The mean over training seeds under the plain names, and the extremes beside it."""
        points = [evaluated for _, evaluated in sorted(self._evaluated.items())]
        for point in points:
            steps, returns = zip(*point, strict=True)
            self.metrics(spread(EVAL_RETURN, returns), step=max(steps))
        finals = [result.metrics for result in results]
        means = {name: mean([final[name] for final in finals]) for name in finals[0]}
        outer = spread(FINAL_RETURN, [result.final.return_mean for result in results])
        self.metrics(means | outer, step=max(result.env_steps for result in results))
        with tolerated(self.warnings, SEED_CURVES_FILE):
            from sweeps.charts.seeds import seed_curves  # loads matplotlib; most workers never draw

            env = results[0].config.env
            seed_curves(points, env=env).savefig(self.file(SEED_CURVES_FILE))
            self.outbox.write(File(SEED_CURVES_FILE))

    def _model(self, result: TrainResult, *, seed: int) -> None:
        """The policy of a training as a LoggedModel of the run, with its last numbers and the score
        of the trial."""
        folder = seed_folder(seed, of=len(self._configs))
        save_model(self.file(folder + POLICY_FILE), self.file(MODEL))
        points = [
            point
            for name, point in self._latest.items()
            if name == SCORE or point[-1] == result.env_steps
        ]
        self.outbox.write(SavedModel(MODEL, self._params, tuple(points), result.env_steps))

    def metrics(self, metrics: Mapping[str, float], *, step: int, under: str = "") -> None:
        """Keep a point of each curve for the next `flush`."""
        now = int(time.time() * 1000)
        for name, value in metrics.items():
            self._latest[under + name] = point = (under + name, value, now, step)
            self._pending.append(point)
        if len(self._pending) >= POINTS_LIMIT:  # there may be any number of updates to a checkpoint
            self._write_points()

    def flush(self) -> bool:
        """Write what is pending and deliver it; whether MLflow has all of it."""
        self._write_points()
        return self.outbox.deliver()

    def _write_points(self) -> None:
        self.outbox.points(self._pending)
        self._pending.clear()

    def traceback(self, text: str) -> None:
        """Record where a trial failed."""
        self.file(TRACEBACK_FILE).write_text(text)
        self.outbox.write(File(TRACEBACK_FILE))

    @property
    def cost(self) -> dict[str, float]:
        """What the trial has spent until now, by the names of its metrics."""
        cost = {COST_STEPS: sum(self._steps.values()), **self.meter.read()}
        if self._helped:
            saved, cpu = map(sum, zip(*self._helped, strict=True))
            cost[COST_CPU] = round(cost[COST_CPU] + cpu, 3)
            cost[COST_HELPED] = round(saved, 3)
        return cost

    def close(self, state: TrialState, reason: str, *, cost: Mapping[str, float]) -> None:
        """End the record and deliver it; if MLflow does not answer, `deliver_all` does later."""
        tags = {f"{SECONDS}.{part}": f"{self.seconds[part]:.3f}" for part in TimePart}
        took = time.perf_counter() - self._started
        tags[SECONDS] = f"{took:.3f}"
        self.metrics({COST_SECONDS: round(took, 3), **cost}, step=0)
        if self.warnings:
            tags[WARNING] = "; ".join(self.warnings)
        self._write_points()
        self.outbox.end(state, reason, tags)
        self.outbox.sync()  # before the trial counts as complete
        if self.outbox.deliver():
            self.outbox.clean_up()

    def abandon(self, trial: FrozenTrial) -> None:
        """End the record of a trial that another process has closed, as that process noted.

        `deliver_all` delivers what it has not delivered yet.
        """
        if not self.outbox.is_whole:
            self.outbox.remove()  # it was delivered; what was written since belongs to no run
            return
        failed = trial.state == TrialState.FAIL
        reason = str(trial.user_attrs.get(REASON, Reason.LOST)) if failed else ""
        with suppress(FileNotFoundError):
            self.outbox.end(trial.state, reason)

    def file(self, path: str) -> Path:
        """Where to write an artifact of this name; to record it, write a `File` to the outbox."""
        target = self.outbox.folder / path
        target.parent.mkdir(exist_ok=True)
        return target

    @contextmanager
    def _timed(self, part: TimePart) -> Generator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - started


@contextmanager
def tolerated(warnings: list[str], what: str) -> Generator[None]:
    """Note a failure in this block as a warning: an optional artifact must not fail the trial."""
    try:
        yield
    except Exception as error:
        warnings.append(f"{what} is missing: {one_line(error)}")


def spread(metric: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and extremes over training seeds."""
    lowest, highest = extremes(metric)
    return {metric: mean(values), lowest: min(values), highest: max(values)}


def first_to_last(seeds: range) -> str:
    """A range of seeds as text: first..last."""
    return f"{seeds[0]}..{seeds[-1]}"
