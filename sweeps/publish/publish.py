"""Publishes a sweep in MLflow: charts, the registered best policy, and a summary on its run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from optuna.trial import TrialState

from lander.terminal import say
from sweeps.endings import SETTLED, SUPERSEDING, ending
from sweeps.publish.best_policy import metrics, publish_best_policy
from sweeps.publish.page import best_recorded, describe
from sweeps.record.delivery import drain
from sweeps.record.recorder import tolerated
from sweeps.schema import (
    BEST_EXPECTED,
    BEST_EXPECTED_ERROR,
    BEST_GIF,
    BEST_POLICY,
    BEST_SCORE,
    BEST_TRIAL,
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    LANDING_GIF,
    RUN_ID,
    SCORE,
    SHOWN_EXPECTED,
    SHOWN_SCORE,
    TRIALS,
    WARNING,
)
from sweeps.scores import expected, parameters
from sweeps.store.best_policy import recorded_policy
from sweeps.store.retry import RETRY_SECONDS
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.sweep import Sweep, open_sweep


def publish(sweep: Sweep, *, patience: float = RETRY_SECONDS) -> bool:
    """Deliver what is left, then publish; whether every record of a trial is delivered.

    What cannot be made is skipped with a warning: the scores do not depend on it. If MLflow does
    not answer within `patience` seconds, nothing is published.
    """
    delivered = drain(sweep.store, seconds=patience, later="run the same command again")
    if not delivered and not mlflow_answers(sweep):
        return False
    with sweep.store.publication_lock:  # two processes would each register the best policy
        warnings, running = publish_all(sweep)
        if running and not sweep.read_trials().running:  # another host has just ended the last one
            warnings, _ = publish_all(sweep)
        for warning in warnings:
            warn(warning)
    return delivered


def mlflow_answers(sweep: Sweep) -> bool:
    """Whether MLflow can be reached now."""
    try:
        return bool(sweep.store.runs().get_run(sweep.run_id).info.run_id)
    except (MlflowException, OSError):
        return False


def publish_all(sweep: Sweep) -> tuple[list[str], int]:
    """Publish, while MLflow answers; a warning for everything that could not be made, and how many
    trials other commands were running, which are not in it."""
    warnings = list[str]()
    sweep = open_sweep(sweep.store, sweep.study.name)  # by now every trial knows its run
    client, trials = sweep.store.runs(), sweep.read_trials()
    best = best_recorded(trials)
    if trials.best is not None and (best is None or trials.best != best.trial):
        warnings.append(
            f"trial {trials.best.number}, the best, has no run in MLflow: another one is published"
        )
    with tolerated(warnings, "a score"):
        correct_scores(client, sweep.store, trials)
    with tolerated(warnings, "a figure"), TemporaryDirectory() as folder:
        from sweeps.charts.search import write_figures  # takes seconds, while workers could train

        for path in write_figures(sweep.study, trials.counted, Path(folder)):
            client.log_artifact(sweep.run_id, str(path))
    if best is not None:
        best_run = str(best.trial.user_attrs[RUN_ID])
        with tolerated(warnings, "the best policy in the registry"):
            best_policy = publish_best_policy(client, sweep, trials, warnings)
            best_run = best_run if best_policy is None else best_policy.run_id
        with tolerated(warnings, BEST_GIF), TemporaryDirectory() as folder:
            gif = client.download_artifacts(best_run, LANDING_GIF, folder)
            client.log_artifact(sweep.run_id, str(Path(gif).rename(Path(folder) / BEST_GIF)))
    with tolerated(warnings, "the summary"):
        summarise(client, sweep, trials, warnings)
    return warnings, trials.running


def warn(text: str) -> None:
    """Print a warning in one line."""
    say(f"sweeps: warning: {text}", error=True)


def summarise(client: MlflowClient, sweep: Sweep, trials: Trials, warnings: Sequence[str]) -> None:
    """Record the best score and the number of trials by ending; close the parent run."""
    best = best_recorded(trials)
    if best is not None:
        log_numbers(
            client,
            sweep.run_id,
            {
                BEST_SCORE: best.trial.values[0],
                BEST_EXPECTED: best.likely.value,
                BEST_EXPECTED_ERROR: best.likely.error,
            },
            step=len(trials.all),
        )
        client.set_tag(sweep.run_id, BEST_TRIAL, str(best.trial.number))
    policy = recorded_policy(sweep.optuna)
    if policy is not None:
        log_numbers(client, sweep.run_id, metrics(policy), step=len(trials.all))
        client.set_tag(sweep.run_id, BEST_POLICY, str(policy))
    count = Counter(map(ending, trials.all))
    for how in (*SETTLED, *SUPERSEDING):
        client.set_tag(sweep.run_id, TRIALS + how, str(count[how]))
    describe(client, sweep, trials)
    if warnings or WARNING in client.get_run(sweep.run_id).data.tags:
        client.set_tag(sweep.run_id, WARNING, "; ".join(warnings))
    if not trials.running:  # nor resumed meanwhile: that takes the lock held here
        client.set_terminated(sweep.run_id, "KILLED" if trials.left else "FINISHED")


def correct_scores(client: MlflowClient, store: Store, trials: Trials) -> None:
    """Let all runs with the same parameters show the score of their last trial, and what to expect.

    That score is computed from all their trainings, what to expect from all trials; so MLflow's
    table begins with the best trial. Runs that an earlier version recorded without them get them.
    """
    same = {parameters(one.trial): one for one in expected(trials.all)}
    for trial in trials.all:
        if trial.state != TrialState.COMPLETE or RUN_ID not in trial.user_attrs:
            continue
        score, likely = same[parameters(trial)].trial.values[0], same[parameters(trial)].likely
        run_id = str(trial.user_attrs[RUN_ID])
        if trial.user_attrs.get(SHOWN_SCORE) != score:
            client.log_metric(run_id, SCORE, score, step=0)
            store.trials().set_late_attr(trial, SHOWN_SCORE, score)
        if trial.user_attrs.get(SHOWN_EXPECTED) != str(likely):
            numbers = {EXPECTED_RETURN: likely.value, EXPECTED_ERROR: likely.error}
            log_numbers(client, run_id, numbers, step=len(trials.all))
            store.trials().set_late_attr(trial, SHOWN_EXPECTED, str(likely))


def log_numbers(
    client: MlflowClient, run_id: str, numbers: Mapping[str, float], *, step: int
) -> None:
    """Record metrics of a run together; NaN is left out."""
    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, step) for key, value in numbers.items() if value == value]
    client.log_batch(run_id, metrics=metrics)
