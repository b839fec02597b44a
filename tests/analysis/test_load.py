"""Tables against the databases themselves, read in another way."""

from __future__ import annotations

import gc
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

import analysis.load
from analysis.load import (
    dtype_of,
    load_checkpoints,
    load_curves,
    load_episodes,
    load_trials,
)
from sweeps.doctor.doctor import move_locations
from sweeps.lifecycle.creation import create
from sweeps.lifecycle.start import start_sweep
from sweeps.record.entries import KnownRun
from sweeps.record.outbox import Outbox, outbox_path
from sweeps.record.recorder import MlflowRecorder
from sweeps.run.objective import trial_seeds
from sweeps.run.worker import work
from sweeps.schema import ENDED, REASON, RETURNS, RUN_ID, STARTED, Reason, seed_folder
from sweeps.store import mlflow_private
from sweeps.store.store import Store, quiet
from sweeps.store.trials import Trials, collector_paused
from sweeps.study.ranges import read_range
from sweeps.study.space import suggest
from sweeps.study.study import find_study, read_study
from sweeps.sweep import Sweep, open_sweep
from tests.bench.load import LOADERS, insert, optuna_rows
from tests.processes import TrackingServer
from tests.races import begun_race
from tests.sql import statements
from tests.studies import TWO_SEEDS, WRITTEN

quiet()

GAUSSIAN = {
    "ppo.learning_rate": 0.001,
    "1 - ppo.gae_lambda": 0.0625,  # exact in binary, and so is 0.9375
    "policy.head": "gaussian",
    "env.obs_norm": True,
    "env.reward_scale": "running",
}
BINS = GAUSSIAN | {"policy.head": "categorical", "env.bins": 5}
CURVE = "eval/return_mean"
OPTUNA_CHUNK = 500
"""Trials whose parts Optuna itself reads in one query."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store without any sweep."""
    store = Store(tmp_path_factory.mktemp("load") / "store")
    store.create()
    return store


@pytest.fixture(scope="module")
def empty(bare: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """With a sweep that has just been started."""
    store = copied(bare, tmp_path_factory.mktemp("empty"))
    start_sweep(read_study(WRITTEN, source="made.toml"), store, trials=None, command=["run"])
    return store


def copied(store: Store, folder: Path) -> Store:
    """A store of its own, at home where it is."""
    copy = Store(Path(shutil.copytree(store.folder, folder / "store")))
    assert all(finding.repaired for finding in move_locations(copy, dry_run=False))
    return copy


@pytest.fixture(scope="module")
def made(empty: Store, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep under way, put together by hand: trials in every state."""
    sweep = open_sweep(copied(empty, tmp_path_factory.mktemp("made")), "made")
    for params in (BINS, BINS, GAUSSIAN, GAUSSIAN, GAUSSIAN, {}, {}, {}):
        sweep.optuna.enqueue_trial(params)
    finished = begin(sweep)
    report(finished, 1.0, 2.0, 3.0, 4.0)
    finished.set_user_attr(RETURNS, [[5.0, 7.0], [8.0, 8.5]])
    sweep.optuna.tell(finished, 7.125)
    between = begin(sweep)
    report(between, 10.0, 20.0, 30.0)
    between.set_user_attr(RETURNS, [[11.0, 12.0]])
    sweep.optuna.tell(between, state=TrialState.PRUNED)
    early = begin(sweep)
    report(early, -50.0)
    sweep.optuna.tell(early, state=TrialState.PRUNED)
    for reason in (f"{Reason.DIVERGED}: loss is nan", Reason.INTERRUPTED):
        failed = begin(sweep)
        report(failed, -1.0)
        failed.set_user_attr(REASON, reason)
        sweep.optuna.tell(failed, state=TrialState.FAIL)
    report(begin(sweep), 0.5)
    ask(sweep)  # nothing drawn yet, and no run
    sweep.fail(sweep.read_trials().all[8], Reason.WITHDRAWN)
    return sweep


def ask(sweep: Sweep) -> optuna.Trial:
    """The next trial, running."""
    with pytest.warns(UserWarning, match="Heartbeat"):
        return sweep.optuna.ask()


def begin(sweep: Sweep) -> optuna.Trial:
    """The next trial, its parameters drawn, its run open with two curves of three points."""
    trial, client = ask(sweep), sweep.store.runs()
    suggest(trial, sweep.study.space, sweep.study.base)
    run = client.create_run(sweep.experiment_id)
    trial.set_user_attr(RUN_ID, run.info.run_id)
    link = partial(trial.set_user_attr, RUN_ID)
    spool = Outbox(outbox_path(sweep.store, sweep.study.name, trial.number), client, link=link)
    spool.write(KnownRun(run.info.run_id))
    seeds, recorder = sweep.study.settings.seeds_per_trial, MlflowRecorder(spool)
    for seed in range(seeds):
        for point in (1, 2, 3):
            metrics = {CURVE: 100.0 * trial.number + point / 8 - seed}
            recorder.metrics(metrics, step=128 * point, under=seed_folder(seed, of=seeds))
            name = seed_folder(seed, of=seeds) + "loss/policy"  # as others may have recorded it
            client.log_metric(run.info.run_id, name, float("nan"), step=128 * point)
    recorder.flush()
    spool.remove()
    return trial


def report(trial: optuna.Trial, *values: float) -> None:
    """Values at steps from 1 up."""
    for step, value in enumerate(values, start=1):
        trial.report(value, step)


@pytest.fixture(scope="module")
def confirmation(empty: Store, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Defaults and trial 1 under two report seeds each, of which one has not begun."""
    sweep = open_sweep(copied(empty, tmp_path_factory.mktemp("confirmation")), "made")
    sweep.optuna.enqueue_trial(BINS)
    for value in (1.0, 2.0):
        sweep.optuna.tell(begin(sweep), value)
    confirming = begun_race(sweep.store, "made", top=1, trainings=4)
    for value in (1.0, 2.0, 3.0):
        trial = begin(confirming)
        trial.set_user_attr(RETURNS, [[value, value + 1]])
        confirming.optuna.tell(trial, value + 0.5)
    return confirming


@pytest.fixture(scope="module")
def real(bare: Store, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A real sweep of two trials with two trainings each."""
    store = copied(bare, tmp_path_factory.mktemp("real"))
    start_sweep(read_study(TWO_SEEDS, source="real.toml"), store, trials=None, command=["run"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "dummy")
        work(store, "real", index=0, seconds=None)
    return open_sweep(store, "real")


def rows(store: Store, database: str, query: str) -> list[tuple[Any, ...]]:
    """What SQLite itself answers."""
    with closing(sqlite3.connect(store.folder / database)) as connection:
        return connection.execute(query).fetchall()


def as_rows(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table.itertuples(index=False, name=None))


def known(column: pd.Series) -> list[Any]:
    """Its values, None where one is missing."""
    return [
        None if missing else value for value, missing in zip(column, column.isna(), strict=True)
    ]


def test_every_trial_that_began_and_was_not_lost_has_a_row(made: Sweep) -> None:
    table = load_trials(made)
    assert table.index.tolist() == [0, 1, 2, 3, 5, 6]  # 4 was lost, 7 waits, 8 is withdrawn
    states = ["COMPLETE", "PRUNED", "PRUNED", "FAIL", "RUNNING", "RUNNING"]
    assert table["state"].tolist() == states
    assert table["candidate"].tolist() == table.index.tolist()
    assert known(table["value"]) == [7.125, 30.0, -50.0, None, None, None]
    assert known(table["last_return"]) == [7.125, 11.5, -50.0, None, None, None]
    assert table["share"].tolist() == [1.0, 0.75, 0.25, 0.25, 0.25, 0.0]
    assert known(table["reason"]) == [*[None] * 3, "diverged: loss is nan", None, None]
    assert table["run_id"].isna().tolist() == [*[False] * 5, True]
    assert table["seeds"].tolist() == [
        "{}, {}".format(*trial_seeds(made.read_trials().all[number], made.study))
        for number in table.index
    ]


def test_times_are_those_of_the_database(made: Sweep) -> None:
    query = (
        "SELECT number, key, value_json FROM trials JOIN trial_user_attributes USING (trial_id) "
        f"WHERE key IN ('{STARTED}', '{ENDED}')"
    )
    noted = {
        (number, key): datetime.fromisoformat(json.loads(value))
        for number, key, value in rows(made.store, "optuna.db", query)
    }
    times = {
        number: (begin, noted.get((number, ENDED), begin))
        for (number, key), begin in noted.items()
        if key == STARTED
    }
    table = load_trials(made)
    for number, started, seconds in table[["started", "seconds"]].itertuples(name=None):
        begin, end = times[number]
        assert started == (begin - times[0][0]).total_seconds()
        assert isnan(seconds) if begin == end else seconds == (end - begin).total_seconds()
    assert table["seconds"].isna().tolist() == [*[False] * 4, True, True]


def test_a_searched_field_has_its_values_and_none_where_it_is_idle(made: Sweep) -> None:
    table = load_trials(made)
    assert known(table["ppo.learning_rate"]) == [0.003, *[0.001] * 4, None]
    assert known(table["ppo.gae_lambda"])[1:] == [*[0.9375] * 4, None]
    assert known(table["ppo.gae_lambda"])[0] == pytest.approx(0.98, abs=1e-15)
    heads = [*["categorical"] * 3, *["gaussian"] * 2, None]
    assert known(table["policy.head"]) == heads
    assert known(table["env.bins"]) == [7, 5, 5, None, None, None]  # a Gaussian has none
    assert known(table["env.obs_norm"]) == [False, *[True] * 4, None]
    assert known(table["env.reward_scale"]) == [0.03, *["running"] * 4, None]


def test_numbers_have_number_dtypes_and_missing_ones_are_nan(made: Sweep) -> None:
    table = load_trials(made)
    objects = [name for name in table if table[name].dtype == object]
    assert objects == ["env.reward_scale"]  # numbers and words
    assert str(table.index.dtype) == "int64"
    bins = table["env.bins"].to_numpy()
    assert bins.dtype == np.float64
    np.testing.assert_array_equal(bins, [7, 5, 5, np.nan, np.nan, np.nan])


def test_episodes_and_checkpoints_are_what_the_database_has(made: Sweep) -> None:
    returns_of = {
        number: json.loads(text)
        for number, text in rows(
            made.store,
            "optuna.db",
            "SELECT number, value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
            f"WHERE key = '{RETURNS}' ORDER BY number",
        )
    }
    assert as_rows(load_episodes(made)) == [
        (number, number, seed, episode, value)
        for number, returns in returns_of.items()
        for seed, values in enumerate(returns)
        for episode, value in enumerate(values)
    ]
    assert sum(len(values) for returns in returns_of.values() for values in returns) == 6
    assert as_rows(load_checkpoints(made)) == rows(
        made.store,
        "optuna.db",
        "SELECT number, step, intermediate_value FROM trial_intermediate_values "
        "JOIN trials USING (trial_id) WHERE number <> 4 ORDER BY number, step",
    )


def test_curves_are_what_mlflow_gives_run_by_run(made: Sweep) -> None:
    client, table = made.store.runs(), load_curves(made, CURVE)
    assert as_rows(table) == by_hand(made, client, [0, 1, 2, 3, 5])
    assert as_rows(table)[:4] == [
        (0, 0, 0, 128, 0.125),
        (0, 0, 0, 256, 0.25),
        (0, 0, 0, 384, 0.375),
        (0, 0, 1, 128, -0.875),
    ]
    assert as_rows(load_curves(made, CURVE, trials=[5, 1])) == by_hand(made, client, [1, 5])
    assert load_curves(made, "loss/policy")["value"].isna().all()


def by_hand(sweep: Sweep, client: MlflowClient, trials: Sequence[int]) -> list[tuple[Any, ...]]:
    """Curves of trials with two seeds, by a call per run and seed."""
    return [
        (number, number, seed, point.step, point.value)
        for number in trials
        for seed in (0, 1)
        for point in client.get_metric_history(
            sweep.read_trials().all[number].user_attrs[RUN_ID], f"seed_{seed}/{CURVE}"
        )
    ]


def test_a_confirmations_seeds_are_its_report_seeds(confirmation: Sweep) -> None:
    trials = load_trials(confirmation)
    assert trials["candidate"].tolist() == [1, 0, 1]
    assert trials["value"].tolist() == [1.5, 2.5, 3.5]
    assert all(int(seed) >= 2**31 for seed in trials["seeds"])
    assert as_rows(load_episodes(confirmation)) == [
        *[(0, 1, 2000, 0, 1.0), (0, 1, 2000, 1, 2.0)],
        *[(1, 0, 2000, 0, 2.0), (1, 0, 2000, 1, 3.0)],
        *[(2, 1, 2001, 0, 3.0), (2, 1, 2001, 1, 4.0)],
    ]
    curves = load_curves(confirmation, CURVE).drop_duplicates("trial")
    assert as_rows(curves) == [
        (0, 1, 2000, 128, 0.125),
        (1, 0, 2000, 128, 100.125),
        (2, 1, 2001, 128, 200.125),
    ]


def test_a_real_sweep_says_the_same_in_every_table(real: Sweep) -> None:
    """What trials leave is what the tables look for: names, seeds, steps."""
    trials, episodes = load_trials(real), load_episodes(real)
    assert trials["value"].tolist() == [trial.value for trial in real.optuna.get_trials()]
    means = episodes.groupby(["trial", "seed"])["return"].mean()
    assert means.index.tolist() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert means.groupby("trial").mean().tolist() == trials["value"].tolist()
    finals = load_curves(real, "final/return_mean").set_index(["trial", "seed"])
    assert finals["value"].tolist() == means.tolist()
    assert finals["env_steps"].tolist() == [256] * 4
    curves = load_curves(real, CURVE)
    assert as_rows(curves) == by_hand(real, real.store.runs(), [0, 1])
    first = curves[curves["seed"] == 0]["value"].tolist()
    reports = load_checkpoints(real)
    assert reports["checkpoint"].tolist() == [1, 2, 3, 4] * 2
    assert reports[reports["checkpoint"] <= 2]["return_mean"].tolist() == first


@pytest.mark.parametrize("name", LOADERS)
def test_without_rows_columns_and_dtypes_are_the_same(
    name: str, empty: Store, made: Sweep, tmp_path: Path
) -> None:
    load = LOADERS[name]
    full, none = load(made), load(open_sweep(copied(empty, tmp_path), "made"))
    assert len(full) > 0
    assert len(none) == 0
    pd.testing.assert_series_equal(none.dtypes, full.dtypes)
    assert (none.index.name, none.index.dtype) == (full.index.name, full.index.dtype)


@pytest.mark.parametrize("name", LOADERS)
def test_every_column_is_documented(name: str, made: Sweep) -> None:
    load = getattr(analysis.load, name)
    table = LOADERS[name](made)
    for column in set(table) - set(made.study.space):
        assert f"`{column}`" in load.__doc__
        assert f"| `{column}` | {table[column].dtype} |" in load.__doc__ or name != "load_trials"


def test_a_running_sweep_is_read_anew_each_time(empty: Store, tmp_path: Path) -> None:
    sweep = open_sweep(copied(empty, tmp_path), "made")
    trial = begin(sweep)
    assert load_trials(sweep)["state"].tolist() == ["RUNNING"]
    assert load_checkpoints(sweep).empty
    trial.report(3.0, 1)
    assert as_rows(load_checkpoints(sweep)) == [(0, 1, 3.0)]
    sweep.optuna.tell(trial, 3.5)
    assert load_trials(sweep)[["state", "value"]].values.tolist() == [["COMPLETE", 3.5]]


@pytest.mark.parametrize(
    ("line", "dtype"),
    [
        ({"choices": [3, 5]}, "Int64"),
        ({"choices": [0.5, 1]}, "float64"),
        ({"choices": [0.5, 1.5]}, "float64"),
        ({"choices": [True, False]}, "boolean"),
        ({"choices": ["a", "b"]}, "string"),
        ({"choices": [0.5, "running"]}, "object"),
        ({"choices": [2, True]}, "object"),
        ({"low": 2, "high": 12}, "Int64"),
    ],
)
def test_a_fields_dtype_follows_from_its_line_in_the_study(line: object, dtype: str) -> None:
    assert dtype_of(read_range("ppo.update_epochs", line)) == dtype


def test_a_range_of_real_numbers_is_float64() -> None:
    assert dtype_of(read_range("ppo.clip_range", {"low": 0, "high": 1})) == "float64"


@pytest.fixture(scope="module")
def sizes(bare: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Store]:
    """Sweeps of so many finished trials, by their number."""
    stores, study = {}, find_study("lander")
    for count in (1, OPTUNA_CHUNK, OPTUNA_CHUNK + 1):
        stores[count] = copied(bare, tmp_path_factory.mktemp("size"))
        create(study, stores[count], command=["run"])
        insert(stores[count].trials_url, optuna_rows(study, count, np.random.default_rng(0)))
    return stores


@pytest.mark.parametrize("name", ["load_trials", "load_episodes", "load_checkpoints"])
def test_optuna_is_asked_once_per_kind_of_record_not_per_trial(
    name: str, sizes: dict[int, Store]
) -> None:
    asked = {}
    for count, store in sizes.items():
        sweep = open_sweep(store, "lander")
        with statements("SELECT") as selects:
            table = LOADERS[name](sweep)
        assert table.reset_index()["trial"].nunique() == count
        asked[count] = len(selects)
    assert asked[OPTUNA_CHUNK + 1] == asked[OPTUNA_CHUNK] == asked[1]


@pytest.mark.parametrize(("size", "queries"), [(1, 5), (2, 3), (5, 1)])
def test_curves_take_a_query_per_seed_for_many_runs(
    size: int, queries: int, made: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_private, "RUNS_PER_QUERY", size)
    with statements("SELECT run_uuid, step, value") as selects:
        table = load_curves(made, CURVE)
    assert len(selects) == 2 * queries
    assert len(table) == 5 * 2 * 3


def test_the_collector_rests_while_trials_are_read(
    made: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[bool] = []

    def read_trials(sweep: Sweep) -> Trials:
        at_work.append(gc.isenabled())
        return Trials([], 0)

    monkeypatch.setattr(Sweep, "read_trials", read_trials)
    load_trials(made)
    assert at_work == [False]
    assert gc.isenabled()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    set_collector(enabled)
    try:
        with suppress(ZeroDivisionError), collector_paused():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def set_collector(enabled: bool) -> None:
    """On or off."""
    if enabled:
        gc.enable()
    else:
        gc.disable()


@pytest.fixture(scope="module")
def served(made: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """A client of a real server of MLflow, over the store of the made sweep."""
    with TrackingServer(made.store.tracking_uri, tmp_path_factory.mktemp("server")) as server:
        yield MlflowClient(tracking_uri=server.uri)


@pytest.mark.parametrize(
    ("runs", "points", "requests"),
    [
        (100, 25_000, 2),  # one per seed
        (2, 25_000, 6),  # five runs
        (100, 10, 2 * 3),  # of 15 points: all runs, then two and three of them
        (100, 2, 2 * 9),  # halves of halves; a run that fills an answer is read by pages
    ],
)
def test_a_server_gives_the_same_curves(
    runs: int,
    points: int,
    requests: int,
    made: Sweep,
    served: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = load_curves(made, CURVE)
    asked = counted(monkeypatch, "request")
    monkeypatch.setattr(Store, "runs", lambda store: served)
    monkeypatch.setattr(mlflow_private, "RUNS_PER_REQUEST", runs)
    monkeypatch.setattr(mlflow_private, "POINTS_PER_REQUEST", points)
    pd.testing.assert_frame_equal(load_curves(made, CURVE), local, check_exact=True)
    assert len(asked) == requests
    assert load_curves(made, "loss/policy")["value"].isna().all()
    assert load_curves(made, "no/such").empty


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[None]:
    """An entry per call of a function of `mlflow_private`."""
    calls: list[None] = []
    function: Callable[..., Any] = getattr(mlflow_private, name)

    def call(*arguments: object) -> Any:
        calls.append(None)
        return function(*arguments)

    monkeypatch.setattr(mlflow_private, name, call)
    return calls
