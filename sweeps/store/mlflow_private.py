"""What this project uses of MLflow without a documented name for it; no other module does.

MLflow may change any of it in a minor version, so pyproject.toml allows only tested ones;
tests/sweeps/test_private.py says what an upgrade broke.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from math import nan
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlflow import MlflowClient
from mlflow.utils.rest_utils import http_request_safe
from sqlalchemy import Engine, bindparam, text

from lander.errors import ConfigError
from sweeps.store.database_files import MLFLOW_FILE

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

PATH_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Columns in which MLflow keeps absolute addresses of artifacts."""
RUNS_PER_QUERY: Final = 1_000
"""With fewer runs SQLite reads the whole curve of all runs too often; with many more there are
more parameters than a database takes."""
RUNS_PER_REQUEST: Final = 100
"""What MLflow's server accepts."""
REQUESTS_AT_ONCE: Final = 4
"""The next answers are on their way while one is read."""
POINTS_PER_REQUEST: Final = 25_000
"""What MLflow's server returns at most."""
HISTORY: Final = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
"""The request that MLflow's own pages send for their charts."""
CURVES: Final = text(
    'SELECT run_uuid, step, value, is_nan FROM metrics WHERE "key" = :key AND run_uuid IN :runs '
    "ORDER BY run_uuid, timestamp, step, value"
).bindparams(bindparam("runs", expanding=True))

Point = tuple[str, int, float]
"""Run id, step and value of a point of a metric's curve."""
Value = TypeVar("Value")


def server_application(tracking_uri: str, *, artifacts: str) -> WSGIApplication:
    """MLflow's own server of the runs at an address; `artifacts` is where those of new experiments
    go. One process serves one of them.

    Raises:
        ConfigError: this version of MLflow starts it in another way.
    """
    try:
        constants = import_module("mlflow.server.constants")  # before it imports the server
        os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = tracking_uri
        os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = artifacts
        application: WSGIApplication = import_module("mlflow.server").app
    except (ImportError, AttributeError):
        raise ConfigError(
            "this version of MLflow has another server: start it by "
            f"mlflow server --backend-store-uri {tracking_uri}"
        ) from None
    return application


def engines(client: MlflowClient) -> list[Engine]:
    """SQLAlchemy's engines of a client of a database: of runs, and of registered models."""
    stores = client._tracking_client.store, client._get_registry_client().store
    return [store.engine for store in stores]


def histories(client: MlflowClient, run_ids: Sequence[str], metric: str) -> Iterator[Point]:
    """Every point of a metric's curve in many runs.

    The public API reads one run per call, which takes minutes for a large sweep. It is used where
    MLflow's store is neither a database nor a server.
    """
    store: Any = getattr(getattr(client, "_tracking_client", None), "store", None)
    if isinstance(getattr(store, "engine", None), Engine):
        for some in batches(run_ids, RUNS_PER_QUERY):
            yield from selected(store.engine, some, metric)
    elif hasattr(store, "get_host_creds"):  # a server
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            ask = partial(served, client, store.get_host_creds(), metric=metric)
            for points in pool.map(ask, batches(run_ids, RUNS_PER_REQUEST)):
                yield from points
    else:
        for run_id in run_ids:
            yield from history(client, run_id, metric)


def selected(engine: Engine, run_ids: Sequence[str], metric: str) -> list[Point]:
    """`histories` of at most `RUNS_PER_QUERY` runs, from MLflow's database.

    MLflow's own method makes two objects of each point, which takes three times as long.
    """
    with engine.connect() as connection:
        rows = connection.execute(CURVES, {"runs": list(run_ids), "key": metric}).all()
    return [(row.run_uuid, row.step, nan if row.is_nan else row.value) for row in rows]


def batches(values: Sequence[Value], size: int) -> Iterator[Sequence[Value]]:
    """The values in order, at most `size` at a time."""
    return (values[first : first + size] for first in range(0, len(values), size))


def history(client: MlflowClient, run_id: str, metric: str) -> list[Point]:
    """Every point of a metric's curve in one run, by the public API."""
    points = client.get_metric_history(run_id, metric)
    return [(run_id, point.step, point.value) for point in points]


def served(
    client: MlflowClient, credentials: Any, run_ids: Sequence[str], *, metric: str
) -> list[Point]:
    """`histories` of at most `RUNS_PER_REQUEST` runs, from a server."""
    points = request(credentials, run_ids, metric)
    if len(points) < POINTS_PER_REQUEST:
        return points
    if len(run_ids) == 1:
        return history(client, run_ids[0], metric)
    middle = len(run_ids) // 2  # one answer does not hold all points
    return [
        *served(client, credentials, run_ids[:middle], metric=metric),
        *served(client, credentials, run_ids[middle:], metric=metric),
    ]


def request(credentials: Any, run_ids: Sequence[str], metric: str) -> list[Point]:
    """Up to `POINTS_PER_REQUEST` points in one answer of a server."""
    answer = http_request_safe(
        credentials,
        HISTORY,
        "GET",
        params={"run_id": list(run_ids), "metric_key": metric, "max_results": POINTS_PER_REQUEST},
    )
    return [(row["run_id"], row["step"], row["value"]) for row in answer.json()["metrics"]]


def delete_artifact(address: str) -> None:
    """Delete a file or folder of artifacts that a server keeps.

    Raises:
        ConfigError: this version of MLflow, or that kind of storage, deletes in another way.
    """
    folder, _, name = address.rstrip("/").rpartition("/")
    try:
        registry = import_module("mlflow.store.artifact.artifact_repository_registry")
        registry.get_artifact_repository(folder).delete_artifacts(name)
    except (ImportError, AttributeError, NotImplementedError):
        raise ConfigError(f"this version of MLflow cannot delete {address}") from None


def move_paths(connection: sqlite3.Connection, before: str, after: str) -> None:
    """Let every address in MLflow's database that begins with `before` begin with `after`; the
    caller commits.

    Raises:
        ConfigError: a column is missing, so that some addresses would stay as they are.
    """
    require_columns(connection)
    for table, columns in PATH_COLUMNS.items():
        for column in columns:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (after, len(before) + 1, before, len(before) + 1, before + "/"),
            )


def require_columns(connection: sqlite3.Connection) -> None:
    """Raise ConfigError unless MLflow's database has every column in `PATH_COLUMNS`."""
    for table, columns in PATH_COLUMNS.items():
        existing = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if not existing.issuperset(columns):
            missing = ", ".join(sorted(set(columns) - existing))
            raise ConfigError(
                f"{MLFLOW_FILE} was written by another version of MLflow, whose table {table} has "
                f"no {missing}: install that version"
            )
