"""Publishes a sweep in MLflow: charts, the registered best policy, and a summary on its run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zlib import crc32

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from lander.terminal import say
from sweeps.endings import SETTLED, SUPERSEDING, ending
from sweeps.publish.best_policy import metrics, publish_best_policy
from sweeps.publish.health import health_of
from sweeps.publish.keeping import freed, remove, surplus
from sweeps.publish.notes import Leaderboard, trial_note
from sweeps.publish.page import describe
from sweeps.record.delivery import drain
from sweeps.record.recorder import tolerated
from sweeps.schema import (
    BEST_EXPECTED,
    BEST_EXPECTED_ERROR,
    BEST_GIF,
    BEST_POLICY,
    BEST_SCORE,
    BEST_TRIAL,
    COPIED_FROM,
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    LANDING_GIF,
    NOTE,
    PROMISED_RETURN,
    RANK,
    RUN_ID,
    SCORE,
    SHOWN_EXPECTED,
    SHOWN_NOTE,
    SHOWN_SCORE,
    TRIALS,
    WARNING,
)
from sweeps.store.best_policy import recorded_policy
from sweeps.store.retry import RETRY_SECONDS
from sweeps.sweep import Sweep, open_sweep

DECIMALS: Final = 1
"""Of the returns in the run table, which shows all digits of a metric."""


def publish(sweep: Sweep, *, patience: float = RETRY_SECONDS, fly: bool = True) -> bool:
    """Deliver what is left, then publish; whether every record of a trial is delivered.

    Without `fly` only policies that have flown before are compared.

    What cannot be made is skipped with a warning: the scores do not depend on it. If MLflow does
    not answer within `patience` seconds, nothing is published.
    """
    delivered = drain(sweep.store, seconds=patience, later="run the same command again")
    if not delivered and not mlflow_answers(sweep):
        return False
    with sweep.store.publication_lock:  # two processes would each register the best policy
        warnings, running = publish_all(sweep, fly=fly)
        if running and not sweep.read_trials().running:  # another host has just ended the last one
            warnings, _ = publish_all(sweep, fly=fly)
        for warning in warnings:
            warn(warning)
    return delivered


def show_beginning(sweep: Sweep) -> None:
    """Let MLflow's UI show a sweep whose trials begin; if that fails, `publish` does it later."""
    with tolerated([], "the page"):
        describe(sweep.store.runs(), sweep, Leaderboard(sweep.read_trials()))


def mlflow_answers(sweep: Sweep) -> bool:
    """Whether MLflow can be reached now."""
    try:
        return bool(sweep.store.runs().get_run(sweep.run_id).info.run_id)
    except (MlflowException, OSError):
        return False


def publish_all(sweep: Sweep, *, fly: bool) -> tuple[list[str], int]:
    """Publish, while MLflow answers; a warning for everything that could not be made, and how many
    trials other commands were running, which are not in it."""
    warnings = list[str]()
    sweep = open_sweep(sweep.store, sweep.study.name)  # by now every trial knows its run
    client, trials = sweep.store.runs(), sweep.read_trials()
    board = Leaderboard(trials)
    best = board.best_recorded
    if board.rows and board.rows[0] != best:
        warnings.append(
            f"trial {board.rows[0].trial.number}, the best, has no run in MLflow: another one is "
            "published"
        )
    with tolerated(warnings, "what a run shows"):
        show_trials(client, sweep, board)
    with tolerated(warnings, "a figure"), TemporaryDirectory() as folder:
        from sweeps.charts.search import write_figures  # takes seconds, while workers could train

        for path in write_figures(sweep.study, trials.counted, Path(folder)):
            client.log_artifact(sweep.run_id, str(path))
    if best is not None:
        best_run = str(best.trial.user_attrs[RUN_ID])
        with tolerated(warnings, "the best policy in the registry"):
            best_policy = publish_best_policy(client, sweep, trials, warnings, fly=fly)
            best_run = best_run if best_policy is None else best_policy.run_id
        with tolerated(warnings, BEST_GIF), TemporaryDirectory() as folder:
            gif = client.download_artifacts(best_run, LANDING_GIF, folder)
            client.log_artifact(sweep.run_id, str(Path(gif).rename(Path(folder) / BEST_GIF)))
    with tolerated(warnings, "the removal of weights"):
        keep_best(client, sweep, board)
    with tolerated(warnings, "the summary"):
        summarise(client, sweep, board, warnings)
    return warnings, trials.running


def keep_best(client: MlflowClient, sweep: Sweep, board: Leaderboard) -> None:
    """Remove the weights that the study does not keep."""
    weights = surplus(client, sweep, board)
    for one in weights:
        remove(client, sweep, one)
    if weights:
        say(f"removed {freed(weights, keep=sweep.study.settings.keep)}")


def warn(text: str) -> None:
    """Print a warning in one line."""
    say(f"sweeps: warning: {text}", error=True)


def summarise(
    client: MlflowClient, sweep: Sweep, board: Leaderboard, warnings: Sequence[str]
) -> None:
    """Record the best score and the number of trials by ending; close the parent run."""
    best, policy, trials = board.best_recorded, recorded_policy(sweep.optuna), board.trials
    numbers, tags = dict[str, float](), dict[str, str]()
    if best is not None:
        numbers |= {
            BEST_SCORE: best.trial.values[0],
            BEST_EXPECTED: best.likely.value,
            BEST_EXPECTED_ERROR: best.likely.error,
        }
        tags[BEST_TRIAL] = str(best.trial.number)
    if policy is not None:
        numbers |= metrics(policy)
        tags[BEST_POLICY] = str(policy)
    count = Counter(map(ending, trials.all))
    tags |= {TRIALS + how: str(count[how]) for how in (*SETTLED, *SUPERSEDING)}
    before = client.get_run(sweep.run_id).data
    if warnings or WARNING in before.tags:
        tags[WARNING] = "; ".join(warnings)
    new = {name: value for name, value in numbers.items() if before.metrics.get(name) != value}
    points = points_of(new, step=trials.ended)
    client.log_batch(sweep.run_id, points, tags=[RunTag(*tag) for tag in tags.items()])
    health = None
    with tolerated([], "health"):
        health = health_of(sweep, trials)
    describe(client, sweep, board, health)
    if not trials.running:  # nor resumed meanwhile: that takes the lock held here
        client.set_terminated(sweep.run_id, "FINISHED" if trials.over else "KILLED")


def show_trials(client: MlflowClient, sweep: Sweep, board: Leaderboard) -> None:
    """Let the run of every trial that has ended show where it stands, in numbers and in words; that
    of a copy shows where it stands in the sweep that trained it.

    Only what has changed is recorded, in one call for each run.
    """
    for trial in board.trials.all:
        attributes = trial.user_attrs
        if trial.state.is_finished() and RUN_ID in attributes and COPIED_FROM not in attributes:
            show_trial(client, sweep, board, trial)


def show_trial(client: MlflowClient, sweep: Sweep, board: Leaderboard, trial: FrozenTrial) -> None:
    """`show_trials` for one of them; trials with the same parameters show the same numbers, those
    of the last."""
    note = trial_note(sweep, board, trial)
    shown: dict[str, object] = {SHOWN_NOTE: f"{crc32(note.encode()):08x}"}
    score, ranked = dict[str, float](), dict[str, float]()
    if trial.state == TrialState.COMPLETE:
        (last, likely), rank = board.row(trial), board.rank(trial)
        score = {SCORE: last.values[0]}
        ranked = {
            EXPECTED_RETURN: round(likely.value, DECIMALS),
            EXPECTED_ERROR: round(likely.error, DECIMALS),
            PROMISED_RETURN: round(likely.promised, DECIMALS),
            RANK: rank,
        }
        shown |= {SHOWN_SCORE: score[SCORE], SHOWN_EXPECTED: f"{likely}, rank {rank}"}
    new = {name: value for name, value in shown.items() if trial.user_attrs.get(name) != value}
    points = points_of(score if SHOWN_SCORE in new else {}, step=0)
    points += points_of(ranked if SHOWN_EXPECTED in new else {}, step=board.trials.ended)
    tags = [RunTag(NOTE, note)] if SHOWN_NOTE in new else []
    if new:
        client.log_batch(str(trial.user_attrs[RUN_ID]), points, tags=tags)
    for name, value in new.items():
        sweep.store.trials().set_late_attr(trial, name, value)


def points_of(numbers: Mapping[str, float], *, step: int) -> list[Metric]:
    """Metrics at this moment; NaN is left out."""
    now = int(time.time() * 1000)
    return [Metric(key, value, now, step) for key, value in numbers.items() if value == value]
