"""A sweep's records as tidy tables: one row per trial, episode, checkpoint or point of a curve.

A table without rows has the columns and dtypes of a full one. Where a number can be missing its
dtype says so: float64 has NaN, the others <NA>. Ten thousand trials take seconds: trials come from
Optuna's database 500 per query, curves from MLflow's of a thousand runs per query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from sweeps.endings import NEVER, seconds, started
from sweeps.run.objective import trial_seeds
from sweeps.schema import POINT, REASON, RETURNS, RUN_ID, SEED_INDEX, seed_folder
from sweeps.scores import last_return
from sweeps.store.mlflow_private import histories
from sweeps.store.trials import collector_paused
from sweeps.study.ranges import Range
from sweeps.sweep import Sweep

TRIALS: Final = {
    "trial": "int64",
    "candidate": "int64",
    "state": "string",
    "value": "float64",
    "last_return": "float64",
    "share": "float64",
    "seconds": "float64",
    "started": "float64",
    "reason": "string",
    "seeds": "string",
    "run_id": "string",
}
"""Dtypes of the columns of `load_trials` that every sweep has."""
TRAINING: Final = {"trial": "int64", "candidate": "int64", "seed": "int64"}
EPISODES: Final = TRAINING | {"episode": "int64", "return": "float64"}
CHECKPOINTS: Final = {"trial": "int64", "checkpoint": "int64", "return_mean": "float64"}
CURVES: Final = TRAINING | {"env_steps": "int64", "value": "float64"}
CHOICES: Final[Mapping[frozenset[type], str]] = {
    frozenset({bool}): "boolean",
    frozenset({int}): "Int64",
    frozenset({int, float}): "float64",
    frozenset({float}): "float64",
    frozenset({str}): "string",
}
"""Types of a field's choices -> dtype of its column; object for other mixtures."""


def load_trials(sweep: Sweep) -> pd.DataFrame:
    """One row per trial that has begun and was not lost; index `trial`, int64.

    | column | dtype | |
    |---|---|---|
    | `candidate` | int64 | in a confirmation the trial of the sweep that it trains, else itself |
    | `state` | string | COMPLETE, PRUNED, FAIL or RUNNING |
    | `value` | float64 | what Optuna was told; of a pruned trial its last report |
    | `last_return` | float64 | the same; of a pruned trial the mean of its finished seeds, if any |
    | `share` | float64 | of the budget, 0 to 1, at its last report |
    | `seconds` | float64 | from start to end; missing while it runs |
    | `started` | float64 | seconds after the first trial of the sweep |
    | `reason` | string | of a failure |
    | `seeds` | string | its training seeds, with commas between them |
    | `run_id` | string | in MLflow |

    Then a column per searched field, under its own name: float64, Int64, boolean or string, object
    where choices are of several kinds; missing where the field did nothing, or is not drawn yet.
    """
    fields = {name: dtype_of(range_) for name, range_ in sweep.study.space.items()}
    return table(list(trial_rows(sweep)), TRIALS | fields).set_index("trial")


def trial_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Rows of `load_trials`, None where something is missing."""
    begun = [trial for trial in read(sweep) if trial.datetime_start is not None]
    first = min(map(start, begun), default=NEVER)
    for trial in begun:
        yield {
            "trial": trial.number,
            "candidate": candidate(trial),
            "state": trial.state.name,
            "value": trial.values[0] if trial.values else None,
            "last_return": last_return(trial),
            "share": max(trial.intermediate_values, default=0) / sweep.study.reports,
            "seconds": seconds(trial),
            "started": (start(trial) - first).total_seconds(),
            "reason": trial.user_attrs.get(REASON),
            "seeds": ", ".join(map(str, trial_seeds(trial, sweep.study))),
            "run_id": trial.user_attrs.get(RUN_ID),
            **{
                name: range_.to_field(trial.params[range_.parameter])
                if range_.parameter in trial.params
                else None
                for name, range_ in sweep.study.space.items()
            },
        }


def load_episodes(sweep: Sweep) -> pd.DataFrame:
    """One row per final episode of every training that came to its end: `trial`, `candidate`,
    `seed`, `episode` (int64) and `return` (float64).

    `seed` is 0, 1, .. among the trial's training seeds, in a confirmation among the test seeds;
    `candidate` as in `load_trials`. Equal `episode`s had equal reset seeds in every trial, so they
    can be compared in pairs.
    """
    rows = [
        (*training(trial, seed), episode, value)
        for trial in read(sweep)
        for seed, returns in enumerate(trial.user_attrs.get(RETURNS, []))
        for episode, value in enumerate(returns)
    ]
    return table(rows, EPISODES)


def load_checkpoints(sweep: Sweep) -> pd.DataFrame:
    """One row per value that a trial reported to Optuna: `trial`, `checkpoint` (int64: 1, 2, ..)
    and `return_mean` (float64).

    With several seeds the second training goes on counting where the first one ended, and
    `return_mean` is the mean over trainings so far. With pruner wilcoxon these are final episodes.
    """
    rows = [
        (trial.number, step, value)
        for trial in read(sweep)
        for step, value in sorted(trial.intermediate_values.items())
    ]
    return table(rows, CHECKPOINTS)


@collector_paused()
def load_curves(sweep: Sweep, metric: str, *, trials: Sequence[int] | None = None) -> pd.DataFrame:
    """One row per point of a metric's curve: `trial`, `candidate`, `seed`, `env_steps` (int64) and
    `value` (float64), in this order; `candidate` and `seed` as in `load_episodes`.

    `metric` is a name of `lander.metrics`; `trials` are numbers, or all.
    """
    client, seeds = sweep.store.runs(), sweep.study.settings.seeds_per_trial
    wanted = None if trials is None else set(trials)
    recorded = {
        str(trial.user_attrs[RUN_ID]): trial
        for trial in read(sweep)
        if RUN_ID in trial.user_attrs and (wanted is None or trial.number in wanted)
    }
    rows = []
    for seed in range(seeds):
        name = seed_folder(seed, of=seeds) + metric
        for run_id, env_steps, value in histories(client, list(recorded), name):
            rows.append((*training(recorded[run_id], seed), env_steps, value))
    points = table(rows, CURVES)
    return points.sort_values(["trial", "seed", "env_steps"], ignore_index=True)


@collector_paused()
def read(sweep: Sweep) -> list[FrozenTrial]:
    """Trials of the budget."""
    return sweep.read_trials().counted


def start(trial: FrozenTrial) -> datetime:
    """When a trial that has begun did so."""
    return started(trial) or NEVER


def candidate(trial: FrozenTrial) -> int:
    """The trial whose parameters it has, in the sweep; of a named point itself."""
    number = trial.user_attrs.get(POINT)
    return number if isinstance(number, int) else trial.number


def training(trial: FrozenTrial, seed: int) -> tuple[int, int, int]:
    """Trial, candidate and seed of one of its trainings; a confirmation's seed is its test seed."""
    return trial.number, candidate(trial), int(trial.user_attrs.get(SEED_INDEX, seed))


def dtype_of(range_: Range) -> str:
    """Of a searched field's column: known before the first trial, with a place for missing ones."""
    distribution = range_.distribution
    if isinstance(distribution, CategoricalDistribution):
        return CHOICES.get(frozenset(map(type, distribution.choices)), "object")
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return "float64" if isinstance(distribution, FloatDistribution) else "Int64"


def table(rows: Sequence[object], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a table, of these dtypes also where there are none."""
    return pd.DataFrame(rows, columns=list(dtypes)).astype(dtypes)
