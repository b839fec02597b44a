"""The receipt: retrains a trial from its own MLflow record and compares every number."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
from lander.metrics import EVAL_RETURN, EVAL_STD, FINALS
from lander.terminal import say
from lander.trainer import Progress, train
from lander.trust import UNKNOWN, Origin
from sweeps.endings import is_divergence
from sweeps.record.provenance import differences, environment, source_tags
from sweeps.schema import (
    CONFIG_FILE,
    PARENT_RUN,
    REASON,
    REPLAY_OF,
    ROLE,
    RUN_ID,
    TRAINING_SEEDS,
    TRIAL_NUMBER,
    VERDICT,
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

CHECKPOINT_METRICS = (EVAL_RETURN, EVAL_STD)


@dataclass(frozen=True)
class Receipt:
    """A trial's recorded numbers, in the order in which training makes them."""

    run: Run
    configs: tuple[TrainConfig, ...]
    """The config under each of its training seeds."""
    recorded: dict[tuple[str, int], float]
    """(metric, env steps) -> value: every checkpoint, then the final evaluation, by training."""

    @property
    def ending(self) -> str:
        """How it ended, if not at the end of its budget."""
        reason = self.run.data.tags.get(REASON, "")
        return reason if is_divergence(reason) else ""


class AllCompared(Exception):
    """A pruned trial has been replayed up to its last recorded checkpoint."""


def read_receipt(client: MlflowClient, run_id: str, *, origin: Origin = UNKNOWN) -> Receipt:
    """What MLflow holds of a run; nothing else is needed.

    Raises:
        ConfigError: the record is incomplete, or its environment needs a consent that `origin`
            does not have.
    """
    if presence.find_run(client, run_id).presence == Presence.GONE:
        raise ConfigError(f"run {run_id} is gone from MLflow: nothing but its score is left")
    run = client.get_run(run_id)
    try:
        with TemporaryDirectory() as folder:
            text = Path(client.download_artifacts(run_id, CONFIG_FILE, folder)).read_text()
    except Exception as error:  # MLflow raises many kinds for a missing artifact
        require_space(Path(gettempdir()), cause=error)
        name = run.info.run_name
        raise ConfigError(f"{name} has no {CONFIG_FILE} in its record: {error}") from None
    config = from_toml(text, source=f"{run.info.run_name}/{CONFIG_FILE}")
    origin.require(flatten(config))
    seeds = run.data.tags.get(TRAINING_SEEDS, str(config.seed)).split(", ")
    configs = tuple(replace(config, seed=int(seed)) for seed in seeds)
    recorded: dict[tuple[str, int], float] = {}
    for place in places(configs):
        for name in (place + metric for metric in (*CHECKPOINT_METRICS, *FINALS)):
            if name in run.data.metrics:
                for point in client.get_metric_history(run_id, name):
                    recorded[name, point.step] = point.value
    if not recorded and not is_divergence(run.data.tags.get(REASON, "")):
        raise ConfigError(f"{run.info.run_name} has no evaluation to compare with")
    return Receipt(run, configs, recorded)


def places(configs: tuple[TrainConfig, ...]) -> list[str]:
    """What stands before the names of each training's metrics."""
    return [seed_folder(seed, of=len(configs)) for seed in range(len(configs))]


def reproduce(
    store: Store, study_name: str, which: str, *, say: Callable[[str], None] = say
) -> bool:
    """Retrain a trial, print recorded against replayed, log the replay; True if all bit-equal."""
    sweep = open_sweep(store, study_name)
    trial = find_started(sweep.optuna, which)
    if RUN_ID not in trial.user_attrs:
        raise ConfigError(f"trial {trial.number} has no record in MLflow: {why_unrecorded(trial)}")
    require_recorded(store, sweep.optuna)  # the replay is recorded beside it
    client = store.runs()
    receipt = read_receipt(client, str(trial.user_attrs[RUN_ID]), origin=store.origin)
    run, seeds = receipt.run, [config.seed for config in receipt.configs]
    say(
        f"{study_name} trial {trial.number} ({trial.state.name.lower()}): retraining "
        f"{receipt.configs[0].env.id} from run {run.info.run_id}, "
        f"seed {', '.join(map(str, seeds))}"
    )
    replayed, ending = replay(receipt, say=say)
    problems = [
        f"{name} at {step} steps: recorded {recorded!r}, replayed {replayed.get((name, step))!r}"
        for (name, step), recorded in receipt.recorded.items()
        if replayed.get((name, step)) != recorded
    ]
    if ending != receipt.ending:
        problems.append(f"ending: recorded {receipt.ending!r}, replayed {ending!r}")
    log_replay(client, receipt, replayed, passed=not problems)
    if not problems:
        say(f"PASS: {len(receipt.recorded)} recorded numbers, every one bit-equal")
        return True
    say(f"FAIL: first difference: {problems[0]} ({len(problems)} in all)")
    changed = differences(run.data.tags)
    say(f"not the same as then: {'; '.join(changed)}" if changed else "same versions, same CPU")
    return False


def why_unrecorded(trial: FrozenTrial) -> str:
    """Of a trial that has begun."""
    if WORKER in trial.user_attrs:
        return "python -m sweeps doctor delivers what its worker left"
    return "another tool added it"


def replay(
    receipt: Receipt, *, say: Callable[[str], None]
) -> tuple[dict[tuple[str, int], float], str]:
    """Train the recorded config; the same numbers anew, and how it ended if not well."""
    replayed: dict[tuple[str, int], float] = {}

    def compare(place: str, name: str, step: int, value: float) -> None:
        name = place + name
        replayed[name, step] = value
        recorded = receipt.recorded.get((name, step))
        then = "nothing" if recorded is None else f"{recorded:.6f}"
        verdict = "equal" if recorded == value else "DIFFERENT"
        say(f"{step:>10,}  {name:<26} recorded {then:>14}  replayed {value:>14.6f}  {verdict}")

    for place, config in zip(places(receipt.configs), receipt.configs, strict=True):
        ended = any(name.startswith(f"{place}final/") for name, _ in receipt.recorded)
        evaluated = [step for name, step in receipt.recorded if name.startswith(f"{place}eval/")]
        if not evaluated and not receipt.ending:
            break  # pruned before this training
        last = None if ended or receipt.ending else max(evaluated)
        try:
            retrain(config, until=last, tell=partial(compare, place))
        except Divergence as error:
            return replayed, f"{Reason.DIVERGED}: {error}"
    return replayed, ""


def retrain(
    config: TrainConfig, *, until: int | None, tell: Callable[[str, int, float], None]
) -> None:
    """Train, and tell of every checkpoint and the final numbers; `until` a checkpoint's steps."""

    def on_update(progress: Progress) -> None:
        if progress.evaluation is None:
            return
        for name in CHECKPOINT_METRICS:
            tell(name, progress.env_steps, progress.metrics[name])
        if progress.env_steps == until:
            raise AllCompared

    try:
        result = train(config, on_update=on_update)
    except AllCompared:
        return
    for name, value in result.metrics.items():
        tell(name, result.env_steps, value)


def log_replay(
    client: MlflowClient,
    receipt: Receipt,
    replayed: dict[tuple[str, int], float],
    *,
    passed: bool,
) -> None:
    """A run beside the original: its numbers, the verdict, and a link to what it replays."""
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
            **environment(),
            **source_tags(sys.argv[1:]),
        },
    )
    now = run.info.start_time
    points = [Metric(name, value, now, step) for (name, step), value in replayed.items()]
    client.log_batch(run.info.run_id, metrics=points)
    client.set_terminated(run.info.run_id, "FINISHED" if passed else "FAILED")
