"""Trains a recorded trial again, and records the replay beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Metric

from lander.agent import Divergence
from lander.config import TrainConfig
from lander.lunar import training_physics
from lander.trainer import Progress, train
from sweeps.record.provenance import environment, source_tags
from sweeps.reproduce.receipt import CHECKPOINT_METRICS, Numbers, Receipt
from sweeps.schema import (
    PARENT_RUN,
    PHYSICS,
    REPLAY_OF,
    ROLE,
    TRIAL_NUMBER,
    VERDICT,
    Reason,
    Role,
    Verdict,
    run_name,
)


class AllCompared(Exception):
    """A pruned trial has been replayed up to its last recorded checkpoint."""


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
    verdict: Verdict,
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
            VERDICT: verdict,
            PHYSICS: training_physics(receipt.configs[0].env),
            **environment(),
            **source_tags(sys.argv[1:]),
        },
    )
    now = run.info.start_time
    points = [Metric(name, value, now, step) for (name, step), value in replayed.items()]
    client.log_batch(run.info.run_id, metrics=points)
    client.set_terminated(run.info.run_id, "FAILED" if verdict == Verdict.FAIL else "FINISHED")
