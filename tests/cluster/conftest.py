"""A database and a tracking server for all tests, and hosts for each."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import mlflow
import pytest

from sweeps.record.outbox import Outbox
from sweeps.store.budget_storage import open_storage
from sweeps.store.database import STORAGE_ENV, storage_url
from sweeps.store.store import Store
from tests.cluster.hosts import Host
from tests.cluster.postgres import Postgres
from tests.processes import TrackingServer

TRACKING: Final = "MLFLOW_TRACKING_URI"
TOKEN: Final = "hidden-as-well"
"""Password of the tracking server, which asks for none: but it must appear nowhere."""
NUMBERS: Final = count()

Hosts = Callable[[str], Host]


@pytest.fixture(scope="session")
def server() -> Generator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_server(
    server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Generator[TrackingServer]:
    """An MLflow server on the same PostgreSQL."""
    database = server.create_database("mlflow")
    with TrackingServer(database, tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def postgres(server: Postgres) -> Generator[Postgres]:
    """The database server, which is started again after the test."""
    yield server
    server.start()


@pytest.fixture
def tracking(mlflow_server: TrackingServer, postgres: Postgres) -> Generator[TrackingServer]:
    """The tracking server, which is started again after the test."""
    yield mlflow_server
    mlflow_server.start()


@pytest.fixture
def remote(postgres: Postgres, tracking: TrackingServer, tmp_path: Path) -> Generator[Store]:
    """A new store on the two servers, for this process and those that it starts."""
    with kept_by(postgres, tracking, tmp_path) as store:
        yield store


@contextmanager
def kept_by(postgres: Postgres, tracking: TrackingServer, folder: Path) -> Generator[Store]:
    """A new store on two servers, which the environment names inside the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STORAGE_ENV, postgres.create_database(f"optuna_{next(NUMBERS)}"))
        patch.setenv(TRACKING, tracking.uri.replace("//", f"//me:{TOKEN}@"))
        patch.setattr(Outbox, "_not_before", {})
        try:
            yield Store(folder / "mlruns")
        finally:
            postgres.start()
            tracking.start()
            engine = open_storage(storage_url(folder)).engine
            open_storage.cache_clear()
            engine.dispose()
            make_room(tracking)


def make_room(tracking: TrackingServer) -> None:
    """Rename and delete the experiments and models of this test before the next one."""
    client = mlflow.MlflowClient(tracking.uri)
    for experiment in client.search_experiments():
        if experiment.name != "Default":
            client.rename_experiment(experiment.experiment_id, f"test-{next(NUMBERS)}")
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)


@pytest.fixture
def host(tmp_path: Path) -> Generator[Hosts]:
    """Hosts by name; their processes end with the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(Host(tmp_path / name))
