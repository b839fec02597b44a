"""A sweep's records as tidy tables: one row per trial, episode, checkpoint or point of a curve.

Trials come from Optuna's database in one query, curves from MLflow's a hundred runs at a time, so
ten thousand trials take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pandas as pd
from mlflow import MlflowClient
from mlflow.utils.rest_utils import http_request_safe
from optuna.trial import FrozenTrial

from sweeps.objective import trial_seeds
from sweeps.recording import CANDIDATE, REASON, RUN_ID, TEST_SEED_INDEX, seed_folder
from sweeps.scores import RETURNS, last_return
from sweeps.sweep import Sweep

RUNS_PER_QUERY: Final = 100
"""What MLflow's server takes."""
POINTS_PER_QUERY: Final = 25_000
"""What MLflow's server gives."""


def load_trials(sweep: Sweep) -> pd.DataFrame:
    """One row per trial that has begun and was not lost, index `trial`.

    `state`: COMPLETE, PRUNED, FAIL or RUNNING. `value`: what Optuna was told; `last_return`: the
    same, of a pruned trial at its last checkpoint. `share`: of the budget, 0 to 1. `seconds`: from
    start to end. `started`: seconds after the first trial of the sweep. `reason`: of a failure.
    `seeds`: its training seeds. `run_id`: in MLflow. Then a column per searched field, under its
    own name; missing where the field did nothing.
    """
    return pd.DataFrame(list(trial_rows(sweep))).set_index("trial")


def trial_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Rows of `load_trials`."""
    begun = [trial for trial in sweep.counted if trial.datetime_start is not None]
    first = min((start(trial) for trial in begun), default=pd.Timestamp(0))
    for trial in begun:
        yield {
            "trial": trial.number,
            "state": trial.state.name,
            "value": trial.values[0] if trial.values else None,
            "last_return": last_return(trial),
            "share": max(trial.intermediate_values, default=0) / sweep.study.reports,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            "started": (start(trial) - first).total_seconds(),
            "reason": trial.user_attrs.get(REASON),
            "seeds": trial_seeds(trial, sweep.study),
            "run_id": trial.user_attrs.get(RUN_ID),
            **{
                name: range_.to_field(trial.params[range_.parameter])
                if range_.parameter in trial.params
                else None
                for name, range_ in sweep.study.space.items()
            },
        }


def start(trial: FrozenTrial) -> pd.Timestamp:
    """When a trial began."""
    return pd.Timestamp(trial.datetime_start)


def load_episodes(sweep: Sweep) -> pd.DataFrame:
    """One row per final episode: `trial`, `seed` (0, 1, .. among the trial's), `episode`, `return`.

    Equal `episode`s had equal reset seeds in every trial, so they can be compared in pairs. Of a
    confirmation also `candidate`, its trial in the sweep, and `seed` is that of the confirmation.
    """
    rows = [
        {
            "trial": trial.number,
            "candidate": trial.user_attrs.get(CANDIDATE, trial.number),
            "seed": trial.user_attrs.get(TEST_SEED_INDEX, seed),
            "episode": episode,
            "return": value,
        }
        for trial in sweep.counted
        for seed, returns in enumerate(trial.user_attrs.get(RETURNS, []))
        for episode, value in enumerate(returns)
    ]
    return pd.DataFrame(rows, columns=["trial", "candidate", "seed", "episode", "return"])


def load_checkpoints(sweep: Sweep) -> pd.DataFrame:
    """One row per value that a trial reported to Optuna: `trial`, `checkpoint` (1, 2, ..) and
    `return_mean`; with pruner wilcoxon these are episodes."""
    rows = [
        {"trial": trial.number, "checkpoint": step, "return_mean": value}
        for trial in sweep.counted
        for step, value in sorted(trial.intermediate_values.items())
    ]
    return pd.DataFrame(rows, columns=["trial", "checkpoint", "return_mean"])


def load_curves(sweep: Sweep, metric: str, *, trials: Sequence[int] | None = None) -> pd.DataFrame:
    """One row per point of a metric's curve: `trial`, `seed`, `env_steps`, `value`.

    `metric` is a name of `lander.metrics`; `trials` are numbers, or all.
    """
    client, settings = sweep.store.runs(), sweep.study.settings
    run_ids = {
        str(trial.user_attrs[RUN_ID]): trial.number
        for trial in sweep.counted
        if RUN_ID in trial.user_attrs and (trials is None or trial.number in trials)
    }
    rows = [
        {"trial": run_ids[run_id], "seed": seed, "env_steps": step, "value": value}
        for seed in range(settings.seeds_per_trial)
        for run_id, step, value in history(
            client, list(run_ids), seed_folder(seed, of=settings.seeds_per_trial) + metric
        )
    ]
    table = pd.DataFrame(rows, columns=["trial", "seed", "env_steps", "value"])
    return table.sort_values(["trial", "seed", "env_steps"], ignore_index=True)


def history(
    client: MlflowClient, run_ids: Sequence[str], metric: str
) -> Iterator[tuple[str, int, float]]:
    """(run id, step, value) of every point of a metric's curve in many runs."""
    for first in range(0, len(run_ids), RUNS_PER_QUERY):
        yield from points(client, run_ids[first : first + RUNS_PER_QUERY], metric)


def points(
    client: MlflowClient, run_ids: Sequence[str], metric: str
) -> list[tuple[str, int, float]]:
    """The same of at most `RUNS_PER_QUERY` runs."""
    found = query(client, run_ids, metric)
    if len(found) < POINTS_PER_QUERY:
        return found
    if len(run_ids) == 1:
        pages = client.get_metric_history(run_ids[0], metric)
        return [(run_ids[0], point.step, point.value) for point in pages]
    middle = len(run_ids) // 2  # there is more than one answer holds
    return [*points(client, run_ids[:middle], metric), *points(client, run_ids[middle:], metric)]


def query(
    client: MlflowClient, run_ids: Sequence[str], metric: str
) -> list[tuple[str, int, float]]:
    """Up to `POINTS_PER_QUERY` points in one query."""
    store = client._tracking_client.store
    if hasattr(store, "get_metric_history_bulk"):
        rows = store.get_metric_history_bulk(run_ids, metric, POINTS_PER_QUERY)
        return [(row.run_id, row.step, row.value) for row in rows]
    # MLflow's client has no call for many runs; its server has, for its own pages
    answer = http_request_safe(
        store.get_host_creds(),
        "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
        "GET",
        params={"run_id": list(run_ids), "metric_key": metric, "max_results": POINTS_PER_QUERY},
    )
    return [(row["run_id"], row["step"], row["value"]) for row in answer.json()["metrics"]]
