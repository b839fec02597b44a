"""What it costs to read a sweep of thousands of trials into tables."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from sqlalchemy import URL, create_engine, text

from analysis.load import load_checkpoints, load_curves, load_episodes, load_trials
from sweeps.lifecycle.creation import create
from sweeps.schema import EXPERIMENT_ID, PARENT_RUN, RETURNS, ROLE, RUN_ID, TRIAL_NUMBER, Role
from sweeps.store.database import sqlite_url
from sweeps.store.database_files import MLFLOW_FILE
from sweeps.store.store import Store, quiet
from sweeps.study.study import Study, find_study
from sweeps.sweep import Sweep, open_sweep
from tests.bench.process import Options, interleaved, one_core, origin

STUDY: Final = "lander"
SIZES: Final = (100, 1_000, 10_000)
SIZES_QUICK: Final = (10, 100)
EVALUATIONS: Final = "eval/return_mean"
UPDATES: Final = "loss/policy"
POINTS: Final = {EVALUATIONS: 5, UPDATES: 49}
"""Of a curve of a finished trial. Of those with a point per update one is enough: the others would
only lie elsewhere in the index."""
LOADERS: Final[dict[str, Callable[[Sweep], pd.DataFrame]]] = {
    "load_trials": load_trials,
    "load_episodes": load_episodes,
    "load_checkpoints": load_checkpoints,
    "load_curves": partial(load_curves, metric=EVALUATIONS),
}
ROWS_AT_ONCE: Final = 10_000
NOON: Final = datetime(2000, 1, 1, 12)

Rows = Iterable[dict[str, object]]


def run(options: Options) -> dict[str, Any]:
    """Every size in every round, all tables in a process of its own."""
    quiet()
    samples: list[dict[str, Any]] = []
    sizes = SIZES_QUICK if options.quick else SIZES
    with TemporaryDirectory() as folder:
        for size in sizes:
            store = Store(Path(folder) / str(size))
            fill(store, find_study(STUDY), trials=size, runs=sqlite_url(store.folder / MLFLOW_FILE))
        for turn, size in interleaved(options.rounds, sizes):
            sample = options.now.measure("load", Path(folder) / str(size))
            samples.append({"round": turn, "trials": size} | sample)
            seconds = ", ".join(f"{taken:.2f}" for taken in sample["seconds"].values())
            print(f"load     {turn}/{options.rounds}  {size:>6} trials  {seconds} s", flush=True)
    return origin(options) | {"samples": samples}


def fill(store: Store, study: Study, *, trials: int, runs: URL) -> None:
    """A store with a sweep of that many finished trials: rows as a sweep leaves them, of random
    numbers, MLflow's into its database `runs`. Through Optuna and MLflow themselves it would take
    hours."""
    store.create()
    created = create(study, store, command=["run"])
    rng = np.random.default_rng(0)
    insert(store.trials_url, optuna_rows(study, trials, rng))
    parent, experiment = created.user_attrs[RUN_ID], created.user_attrs[EXPERIMENT_ID]
    insert(runs, mlflow_rows(study, trials, experiment, parent, np.random.default_rng(0)))


def insert(url: URL, tables: Mapping[str, Rows]) -> None:
    """Insert rows into the tables of a database; the first row of a table has all its columns."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, rows in tables.items():
            rest = iter(rows)
            while some := list(islice(rest, ROWS_AT_ONCE)):
                columns = ", ".join(f'"{column}"' for column in some[0])  # one is called key
                values = ", ".join(f":{column}" for column in some[0])
                connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), some)
    engine.dispose()


def optuna_rows(study: Study, trials: int, rng: np.random.Generator) -> dict[str, Rows]:
    """Rows by table of Optuna; the study is the first in its store."""
    distributions = {range_.parameter: range_.distribution for range_ in study.space.values()}
    as_json = {
        name: distribution_to_json(distribution) for name, distribution in distributions.items()
    }
    ids = range(1, trials + 1)  # Optuna counts rows from 1, trials from 0
    return {
        "trials": (
            {
                "number": trial - 1,
                "study_id": 1,
                "state": "COMPLETE",
                "datetime_start": str(NOON + timedelta(seconds=trial)),
                "datetime_complete": str(NOON + timedelta(seconds=trial + 20)),
            }
            for trial in ids
        ),
        "trial_values": (
            {"trial_id": trial, "objective": 0, "value": rng.normal(), "value_type": "FINITE"}
            for trial in ids
        ),
        "trial_params": (
            {
                "trial_id": trial,
                "param_name": name,
                "param_value": drawn(distribution, rng),
                "distribution_json": as_json[name],
            }
            for trial in ids
            for name, distribution in distributions.items()
        ),
        "trial_intermediate_values": (
            {
                "trial_id": trial,
                "step": step,
                "intermediate_value": rng.normal(),
                "intermediate_value_type": "FINITE",
            }
            for trial in ids
            for step in range(1, study.reports + 1)
        ),
        "trial_user_attributes": (
            {"trial_id": trial, "key": key, "value_json": json.dumps(value)}
            for trial in ids
            for key, value in {
                RUN_ID: run_id(trial),
                RETURNS: [rng.normal(size=study.base.final_episodes).tolist()],
            }.items()
        ),
    }


def drawn(distribution: BaseDistribution, rng: np.random.Generator) -> float:
    """A value inside a distribution, in the form in which Optuna keeps it."""
    if isinstance(distribution, CategoricalDistribution):
        return float(rng.integers(len(distribution.choices)))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    value = float(rng.uniform(distribution.low, distribution.high))
    return value if isinstance(distribution, FloatDistribution) else float(round(value))


def mlflow_rows(
    study: Study, trials: int, experiment_id: str, parent: str, rng: np.random.Generator
) -> dict[str, Rows]:
    """Rows by table of MLflow."""
    ids = range(1, trials + 1)
    start = int(NOON.timestamp() * 1000)
    return {
        "runs": (
            {
                "run_uuid": run_id(trial),
                "name": f"trial-{trial - 1:04d}",
                "status": "FINISHED",
                "start_time": start,
                "end_time": start + 20_000,
                "lifecycle_stage": "active",
                "user_id": "nobody",
                "artifact_uri": f"mlflow-artifacts:/{experiment_id}/{run_id(trial)}/artifacts",
                "experiment_id": int(experiment_id),
            }
            for trial in ids
        ),
        "tags": (
            {"run_uuid": run_id(trial), "key": key, "value": value}
            for trial in ids
            for key, value in {
                PARENT_RUN: parent,
                ROLE: Role.TRIAL,
                TRIAL_NUMBER: str(trial - 1),
            }.items()
        ),
        "metrics": (
            {
                "run_uuid": run_id(trial),
                "key": key,
                "step": point * study.base.total_steps // points,
                "value": rng.normal(),
                "timestamp": start + trial * 1000 + point,
                "is_nan": False,
            }
            for trial in ids
            for key, points in POINTS.items()
            for point in range(1, points + 1)
        ),
    }


def run_id(trial: int) -> str:
    """Ids of 32 random hexadecimal digits, as MLflow's are."""
    return np.random.default_rng(trial).bytes(16).hex()


def seconds_of(load: Callable[[Sweep], pd.DataFrame], store: Store) -> float:
    """Seconds that one table takes, from a sweep that was just opened."""
    sweep = open_sweep(store, STUDY)
    started = time.perf_counter()
    load(sweep)
    return time.perf_counter() - started


def main(argv: Sequence[str]) -> None:
    """STORE: read every table once."""
    quiet()
    one_core()
    store = Store(Path(argv[0]))
    store.runs().search_experiments(max_results=1)  # the first query of a process sets MLflow up
    print(
        json.dumps({"seconds": {name: seconds_of(load, store) for name, load in LOADERS.items()}})
    )


if __name__ == "__main__":
    main(sys.argv[1:])
