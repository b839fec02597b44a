"""What it costs to read a sweep of thousands of trials into tables."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
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

from analysis.load import load_checkpoints, load_curves, load_episodes, load_trials
from sweeps.recording import RUN_ID
from sweeps.scores import RETURNS
from sweeps.storage import Store, quiet
from sweeps.study import Study, find_study
from sweeps.sweep import EXPERIMENT_ID, Sweep, create, open_sweep
from tests.bench.process import Options, interleaved, measure, one_core, origin

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
NOON: Final = datetime(2000, 1, 1, 12)

Rows = Iterable[Mapping[str, object]]


def run(options: Options) -> dict[str, Any]:
    """Every size in every round, all tables in a process of its own."""
    quiet()
    samples: list[dict[str, Any]] = []
    sizes = SIZES_QUICK if options.quick else SIZES
    with TemporaryDirectory() as folder:
        for size in sizes:
            fill(Store(Path(folder) / str(size)), trials=size)
        for turn, size in interleaved(options.rounds, sizes):
            sample = measure("load", Path(folder) / str(size))
            samples.append({"round": turn, "trials": size} | sample)
            seconds = ", ".join(f"{taken:.2f}" for taken in sample["seconds"].values())
            print(f"load     {turn}/{options.rounds}  {size:>6} trials  {seconds} s", flush=True)
    return origin() | {"quick": options.quick, "samples": samples}


def fill(store: Store, *, trials: int) -> None:
    """A store with a sweep of that many finished trials: rows as a sweep leaves them, of random
    numbers. Through Optuna and MLflow themselves it would take hours."""
    study = find_study(STUDY)
    store.create()
    experiment_id = create(study, store, command=["run"]).user_attrs[EXPERIMENT_ID]
    with closing(sqlite3.connect(store.folder / "optuna.db")) as database, database:
        for table, rows in optuna_rows(study, trials, np.random.default_rng(0)).items():
            insert(database, table, rows)
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as database, database:
        runs = mlflow_rows(study, trials, experiment_id, np.random.default_rng(0))
        for table, rows in runs.items():
            insert(database, table, rows)


def insert(database: sqlite3.Connection, table: str, rows: Rows) -> None:
    """Put rows into a table; all have the columns of the first."""
    rest = iter(rows)
    first = next(rest)
    columns = ", ".join(f'"{column}"' for column in first)  # quoted: one of them is called key
    values = ", ".join(f":{column}" for column in first)
    database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({values})", chain([first], rest))


def optuna_rows(study: Study, trials: int, rng: np.random.Generator) -> dict[str, Rows]:
    """Table -> its rows; the study is the first of its store."""
    distributions = {range_.parameter: range_.distribution for range_ in study.space.values()}
    as_json = {name: distribution_to_json(found) for name, found in distributions.items()}
    ids = range(1, trials + 1)  # Optuna counts rows from 1, trials from 0
    return {
        "trials": (
            {
                "trial_id": trial,
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
    study: Study, trials: int, experiment_id: str, rng: np.random.Generator
) -> dict[str, Rows]:
    """Table -> its rows."""
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
                "experiment_id": int(experiment_id),
            }
            for trial in ids
        ),
        "metrics": (
            {
                "run_uuid": run_id(trial),
                "key": key,
                "step": point * study.base.total_steps // points,
                "value": rng.normal(),
                "timestamp": start + trial * 1000 + point,
                "is_nan": 0,
            }
            for trial in ids
            for key, points in POINTS.items()
            for point in range(1, points + 1)
        ),
    }


def run_id(trial: int) -> str:
    """Of 32 hexadecimal digits and in no order, as MLflow's are."""
    return np.random.default_rng(trial).bytes(16).hex()


def seconds_of(load: Callable[[Sweep], pd.DataFrame], store: Store) -> float:
    """Of one table, from a sweep that nothing has been read of yet."""
    sweep = open_sweep(store, STUDY)
    started = time.perf_counter()
    load(sweep)
    return time.perf_counter() - started


def main(argv: Sequence[str]) -> None:
    """STORE: every table once."""
    quiet()
    one_core()
    store = Store(Path(argv[0]))
    store.runs().search_experiments(max_results=1)  # the first query of a process sets MLflow up
    print(
        json.dumps({"seconds": {name: seconds_of(load, store) for name, load in LOADERS.items()}})
    )


if __name__ == "__main__":
    main(sys.argv[1:])
