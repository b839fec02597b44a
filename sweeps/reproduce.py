"""The receipt of a trial: retrains it from its own MLflow record and compares every number."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from optuna.trial import FrozenTrial

from lander.agent import Divergence
from lander.config import TrainConfig
from lander.dotted import flatten, from_toml
from lander.errors import ConfigError
from lander.lunar import training_physics
from lander.metrics import EVAL_RETURN, EVAL_STD, FINALS
from lander.terminal import say
from lander.trainer import Progress, train
from lander.trust import UNKNOWN, Origin
from sweeps.endings import is_divergence
from sweeps.hints import hint
from sweeps.record.provenance import (
    OURS,
    environment,
    environment_changes,
    package_version,
    source_tags,
)
from sweeps.schema import (
    COMMIT,
    CONFIG_FILE,
    PARENT_RUN,
    PHYSICS,
    REASON,
    REPLAY_OF,
    ROLE,
    RUN_ID,
    TRAINING_SEEDS,
    TRIAL_NUMBER,
    VERDICT,
    VERSION,
    WORKER,
    Reason,
    Role,
    Verdict,
    run_name,
    seed_folder,
)
from sweeps.store import presence
from sweeps.store.disk import require_space
from sweeps.store.presence import Presence, require_recorded
from sweeps.store.store import Store
from sweeps.store.trials import find_started
from sweeps.sweep import open_sweep

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


class AllCompared(Exception):
    """A pruned trial has been replayed up to its last recorded checkpoint."""


def reproduce(
    store: Store, study_name: str, which: str, *, say: Callable[[str], None] = say
) -> bool:
    """Retrain a trial, print recorded and replayed numbers, record the replay as a run.

    True if every number is equal to the last bit.

    Raises:
        ConfigError: the trial has no complete record.
    """
    sweep = open_sweep(store, study_name)
    trial = find_started(sweep.optuna, which)
    if RUN_ID not in trial.user_attrs:
        why = why_unrecorded(trial, store)
        raise ConfigError(f"trial {trial.number} has no record in MLflow: {why}")
    require_recorded(store, sweep.optuna)  # the run of the replay is created beside the trial's
    client = store.runs()
    receipt = read_receipt(client, str(trial.user_attrs[RUN_ID]), origin=store.origin)
    seeds = ", ".join(str(config.seed) for config in receipt.configs)
    say(
        f"{study_name} trial {trial.number} ({trial.state.name.lower()}): retraining "
        f"{receipt.configs[0].env.id} from run {receipt.run.info.run_id}, seed {seeds}"
    )
    for change in physics_change(receipt):
        say(f"{change}, which changes no number")
    replayed, ending = replay(receipt, say=say)
    problems = differences(receipt.numbers, replayed)
    if ending != receipt.ending:
        problems.append(f"ending: recorded {receipt.ending!r}, replayed {ending!r}")
    log_replay(client, receipt, replayed, passed=not problems)
    if not problems:
        say(f"PASS: {len(receipt.numbers)} recorded numbers, every one bit-equal")
        return True
    say(f"FAIL: first difference: {problems[0]} ({len(problems)} in all)")
    changes = environment_changes(receipt.run.data.tags) + physics_change(receipt)
    if changes:
        say(f"differs from the recorded environment: {'; '.join(changes)}")
        for line in older_version(receipt.run.data.tags):
            say(line)
    else:
        say("same versions and CPU as recorded")
    return False


def older_version(tags: Mapping[str, str]) -> list[str]:
    """A line that says where to reproduce a trial that another version of this package trained."""
    recorded, commit = tags.get(VERSION + OURS), tags.get(COMMIT)
    if recorded in (None, package_version(OURS)):
        return []
    source = f"commit {commit}" if commit else f"{OURS} {recorded}"
    return [f"{OURS} {recorded} computes other bits: to reproduce the trial, use {source}"]


def physics_change(receipt: Receipt) -> list[str]:
    """A line if the steps of training are computed by another here than in the record."""
    here = training_physics(receipt.configs[0].env)
    recorded = receipt.run.data.tags.get(PHYSICS, here)
    return [] if recorded == here else [f"{PHYSICS}: recorded {recorded}, here {here}"]


def why_unrecorded(trial: FrozenTrial, store: Store) -> str:
    """Why a trial that has begun has no run, and the remedy if there is one."""
    if trial.user_attrs.get(REASON) == Reason.WITHDRAWN:
        return "it was withdrawn before it ran"
    if WORKER in trial.user_attrs:
        return f"run {hint('doctor', store.folder)} to deliver what its worker recorded"
    return "another tool added it"


def differences(recorded: Numbers, replayed: Numbers) -> list[str]:
    """A line for every recorded number that the replay does not have to the last bit."""
    return [
        f"{name} at {step} steps: recorded {value!r}, replayed {replayed.get((name, step))!r}"
        for (name, step), value in recorded.items()
        if replayed.get((name, step)) != value
    ]


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


def replay(receipt: Receipt, *, say: Callable[[str], None]) -> tuple[Numbers, str]:
    """Train the recorded configs again; the same numbers, and the reason if a training diverged."""
    replayed: Numbers = {}

    def compare(prefix: str, metric: str, step: int, value: float) -> None:
        name = prefix + metric
        replayed[name, step] = value
        recorded = receipt.numbers.get((name, step))
        before = "nothing" if recorded is None else f"{recorded:.6f}"
        verdict = "equal" if recorded == value else "DIFFERENT"
        say(f"{step:>10,}  {name:<26} recorded {before:>14}  replayed {value:>14.6f}  {verdict}")

    for prefix, config in zip(receipt.prefixes, receipt.configs, strict=True):
        ended = any(name.startswith(f"{prefix}final/") for name, _ in receipt.numbers)
        evaluated = [step for name, step in receipt.numbers if name.startswith(f"{prefix}eval/")]
        if not evaluated and not receipt.ending:
            break  # the trial was pruned before this training
        last = None if ended or receipt.ending else max(evaluated)
        try:
            retrain(config, until=last, on_number=partial(compare, prefix))
        except Divergence as error:
            return replayed, f"{Reason.DIVERGED}: {error}"
    return replayed, ""


def retrain(
    config: TrainConfig, *, until: int | None, on_number: Callable[[str, int, float], None]
) -> None:
    """Train; call `on_number` with every number of the checkpoints and the final evaluation.

    `until`: stop after the checkpoint at so many environment steps.
    """

    def on_update(progress: Progress) -> None:
        if progress.evaluation is None:
            return
        for name in CHECKPOINT_METRICS:
            on_number(name, progress.env_steps, progress.metrics[name])
        if progress.env_steps == until:
            raise AllCompared

    try:
        result = train(config, on_update=on_update)
    except AllCompared:
        return
    for name, value in result.metrics.items():
        on_number(name, result.env_steps, value)


def log_replay(
    client: MlflowClient,
    receipt: Receipt,
    replayed: Numbers,
    *,
    passed: bool,
) -> None:
    """Record the replay as a run: its numbers, the verdict, and a link to the original."""
    tags = receipt.run.data.tags
    run = client.create_run(
        receipt.run.info.experiment_id,
        run_name=run_name(Role.REPLAY, int(tags[TRIAL_NUMBER])),
        tags={
            ROLE: Role.REPLAY,
            PARENT_RUN: tags[PARENT_RUN],
            TRIAL_NUMBER: tags[TRIAL_NUMBER],
            REPLAY_OF: receipt.run.info.run_id,
            VERDICT: Verdict.PASS if passed else Verdict.FAIL,
            PHYSICS: training_physics(receipt.configs[0].env),
            **environment(),
            **source_tags(sys.argv[1:]),
        },
    )
    now = run.info.start_time
    points = [Metric(name, value, now, step) for (name, step), value in replayed.items()]
    client.log_batch(run.info.run_id, metrics=points)
    client.set_terminated(run.info.run_id, "FINISHED" if passed else "FAILED")
