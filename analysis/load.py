"""A sweep's records as tidy tables: one row per trial, episode, checkpoint or point of a curve.

A table without rows has the columns and dtypes of a full one. A missing value is NaN in a column
of dtype float64 and <NA> in the others. Ten thousand trials take seconds.

>>> from pathlib import Path
>>> from sweeps.store.store import Store
>>> from sweeps.sweep import open_sweep
>>> sweep = open_sweep(Store(Path("mlruns")), "lander")
>>> len(load_trials(sweep))
3
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.endings import NEVER, started
from sweeps.run.objective import trial_seeds
from sweeps.schema import (
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    POINT,
    REASON,
    RETURNS,
    RUN_ID,
    SEED_INDEX,
    seed_folder,
)
from sweeps.scores import expected, last_return, parameters, with_last_return
from sweeps.store.mlflow_private import histories
from sweeps.store.trials import collector_paused
from sweeps.study.cost import cost_of
from sweeps.study.ranges import Range
from sweeps.sweep import Sweep

TRIALS: Final = {
    "trial": "int64",
    "candidate": "int64",
    "point": "string",
    "state": "string",
    "value": "float64",
    "last_return": "float64",
    EXPECTED_RETURN: "float64",
    EXPECTED_ERROR: "float64",
    "share": "float64",
    "seconds": "float64",
    "env_steps": "int64",
    "cpu_seconds": "float64",
    "peak_memory": "float64",
    "joules": "float64",
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
"""Dtype of a field's column by the types of its choices; other mixtures are of dtype object."""


def load_trials(sweep: Sweep) -> pd.DataFrame:
    """One row per trial that has begun and was not lost; index `trial`, int64.

    | column | dtype | |
    |---|---|---|
    | `candidate` | int64 | in a confirmation the trial that it trains again, else itself |
    | `point` | string | its point's name, in a study with points |
    | `state` | string | COMPLETE, PRUNED, FAIL or RUNNING |
    | `value` | float64 | the score; for a pruned trial its last report to Optuna |
    | `last_return` | float64 | the same; for a pruned trial the mean of any finished seeds |
    | `expected_return` | float64 | likely mean of its parameters under fresh training seeds |
    | `expected_return_error` | float64 | its standard error |
    | `share` | float64 | of the budget, 0 to 1, at its last report |
    | `seconds` | float64 | from start to end, as long as without help; missing while it runs |
    | `env_steps` | int64 | environment steps of its trainings, as far as they are known |
    | `cpu_seconds` | float64 | processor time of its worker meanwhile, and of helpers |
    | `peak_memory` | float64 | megabytes: the most its worker had ever used at its end |
    | `joules` | float64 | of all processors of the machine meanwhile, where that can be read |
    | `started` | float64 | seconds after the first trial of the sweep |
    | `reason` | string | of a failure |
    | `seeds` | string | its training seeds, with commas between them |
    | `run_id` | string | in MLflow |

    One more column per searched field, under its own name, is of dtype float64, Int64, boolean or
    string, or object if its choices are of several kinds. A value is missing if the field had no
    effect in the trial, or is not drawn yet. `last_return` is missing for pruned trials where the
    scores, as areas or times, cannot be compared with returns.

    >>> load_trials(sweep)[["state", "value", "ppo.learning_rate"]]
              state  value  ppo.learning_rate
    trial
    0      COMPLETE  120.0              0.003
    1      COMPLETE  240.0              0.001
    2        PRUNED  -80.0              0.010
    """
    fields = {name: dtype_of(range_) for name, range_ in sweep.study.space.items()}
    return table(list(trial_rows(sweep)), TRIALS | fields).set_index("trial")


def trial_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """The rows of `load_trials`; None is a missing value."""
    begun = [trial for trial in read(sweep) if trial.datetime_start is not None]
    first = min(map(start, begun), default=NEVER)
    likely = {parameters(one.trial): one.likely for one in expected(begun)}
    comparable = {trial.number: last_return(trial) for trial in with_last_return(begun)}
    for trial in begun:
        its = likely.get(parameters(trial)) if trial.state == TrialState.COMPLETE else None
        yield {
            "trial": trial.number,
            "candidate": candidate(trial),
            "point": point if isinstance(point := trial.user_attrs.get(POINT), str) else None,
            "state": trial.state.name,
            "value": trial.values[0] if trial.values else None,
            "last_return": comparable.get(trial.number),
            EXPECTED_RETURN: its.value if its else None,
            EXPECTED_ERROR: its.known_error if its else None,
            "share": max(trial.intermediate_values, default=0) / sweep.study.reports,
            **asdict(cost_of(trial, sweep.study)),
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
    """One row per final episode of every finished training: `trial`, `candidate`,
    `seed`, `episode` (int64) and `return` (float64).

    `seed` numbers the trial's training seeds from 0, in a confirmation choice seeds from 1000 and
    report seeds from 2000; `candidate` is that of `load_trials`. Equal `episode`s of a sweep had
    equal reset seeds in every trial, so they can be compared in pairs.

    >>> load_episodes(sweep).groupby("trial")["return"].agg(["mean", "min"])
            mean    min
    trial
    0      120.0  100.0
    1      240.0  230.0
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

    With several seeds the second training continues the count of the first, and `return_mean` is
    the mean over trainings so far. With pruner wilcoxon the rows are final episodes.

    >>> load_checkpoints(sweep).pivot(index="trial", columns="checkpoint", values="return_mean")
    checkpoint     1      2
    trial
    0           50.0  120.0
    1           90.0  235.0
    2          -80.0    NaN
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
    `value` (float64), in this order; `candidate` and `seed` are those of `load_episodes`.

    `metric` is a name of `lander.metrics`; `trials` are numbers of trials, by default all.

    >>> load_curves(sweep, "eval/return_mean", trials=[1])
       trial  candidate  seed  env_steps  value
    0      1          1     0       1000   90.0
    1      1          1     0       2000  235.0
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
        trainings = {run_id: training(trial, seed) for run_id, trial in recorded.items()}
        rows += [
            (*trainings[run_id], env_steps, value)
            for run_id, env_steps, value in histories(client, list(recorded), name)
        ]
    points = table(rows, CURVES)
    return points.sort_values(["trial", "seed", "env_steps"], ignore_index=True)


@collector_paused()
def read(sweep: Sweep) -> list[FrozenTrial]:
    """The trials that use the budget."""
    return sweep.read_trials().counted


def start(trial: FrozenTrial) -> datetime:
    """The time at which a trial began."""
    return started(trial) or NEVER


def candidate(trial: FrozenTrial) -> int:
    """The trial whose parameters it has, in the sweep; of a named point itself."""
    number = trial.user_attrs.get(POINT)
    return number if isinstance(number, int) else trial.number


def training(trial: FrozenTrial, seed: int) -> tuple[int, int, int]:
    """Trial, candidate and seed of one of its trainings; a confirmation's seed is its test seed."""
    return trial.number, candidate(trial), int(trial.user_attrs.get(SEED_INDEX, seed))


def dtype_of(range_: Range) -> str:
    """The dtype of a searched field's column, known before the first trial; it can hold missing
    values."""
    distribution = range_.distribution
    if isinstance(distribution, CategoricalDistribution):
        return CHOICES.get(frozenset(map(type, distribution.choices)), "object")
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return "float64" if isinstance(distribution, FloatDistribution) else "Int64"


def table(rows: Sequence[object], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a table with these columns and dtypes, even if there are no rows."""
    return pd.DataFrame(rows, columns=list(dtypes)).astype(dtypes)
