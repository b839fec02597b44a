"""Clients of MLflow: of its server, or of its database in a store; `Store.runs` opens them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run
from mlflow.utils.file_utils import local_file_uri_to_path

from lander.errors import ConfigError
from lander.files import inside
from sweeps.store.database import TRACKING_ENV
from sweeps.store.database_files import MLFLOW_FILE
from sweeps.store.engines import extend_busy_timeout, watch_file
from sweeps.store.mlflow_private import delete_artifact as delete_served
from sweeps.store.mlflow_private import engines

ARTIFACTS: Final = "artifacts"
PAGE_SIZE: Final = 1_000
"""Runs that are read in one call, unless the caller says otherwise."""
OPENED: Final[dict[str, MlflowClient]] = {}
"""Address of a database file -> the client of it that this process opened last."""


class ConfinedClient(MlflowClient):
    """A client of a store's database that reads and writes artifacts inside the store only.

    The database names a location for every run, experiment and model, and its author may have
    named any: a folder of the reader's, or a server. A link counts as the file that it leads to.
    """

    def __init__(self, tracking_uri: str, store: Path) -> None:
        super().__init__(tracking_uri=tracking_uri)
        self._store = store
        self._roots: dict[str, Path] = {}
        """Run -> folder of its artifacts."""
        self._experiments: set[str] = set()
        """Those whose location was checked."""

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        root = self._root_of(run_id)
        self._require_inside(root, artifact_path, Path(local_path).name)
        # as MLflow would, which reads the whole run to learn the folder
        folder = root / (artifact_path or "")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(local_path, folder)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        root = self._root_of(run_id)
        for name in files_under(Path(local_dir)):
            self._require_inside(root, artifact_path, name)
        super().log_artifacts(run_id, local_dir, artifact_path)

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        inside(self._artifacts, self._root_of(run_id) / (path or ""))
        return list(super().list_artifacts(run_id, path))

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        source = self._root_of(run_id) / path
        for name in ("", *files_under(source)):
            inside(self._artifacts, source / name)
        return str(super().download_artifacts(run_id, path, dst_path))

    def log_model_artifacts(
        self, model_id: str, local_dir: str, artifact_path: str | None = None
    ) -> None:
        root = self._location(self.get_logged_model(model_id).artifact_location)
        for name in files_under(Path(local_dir)):
            self._require_inside(root, artifact_path, name)
        super().log_model_artifacts(model_id, local_dir, artifact_path)

    def list_logged_model_artifacts(self, model_id: str, path: str | None = None) -> list[FileInfo]:
        root = self._location(self.get_logged_model(model_id).artifact_location)
        inside(self._artifacts, root / (path or ""))
        return list(super().list_logged_model_artifacts(model_id, path))

    def delete_artifact(self, address: str) -> None:
        """Delete a file or a folder; one that is gone already is no error."""
        path = self._location(address)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Run:
        if experiment_id not in self._experiments:
            self._location(self.get_experiment(experiment_id).artifact_location)
            self._experiments.add(experiment_id)
        run = super().create_run(experiment_id, start_time, tags, run_name)
        self._roots[run.info.run_id] = self._location(run.info.artifact_uri)
        return run

    @property
    def _artifacts(self) -> Path:
        return inside(self._store, self._store / ARTIFACTS)

    def _root_of(self, run_id: str) -> Path:
        if run_id not in self._roots:
            self._roots[run_id] = self._location(self.get_run(run_id).info.artifact_uri)
        return self._roots[run_id]

    def _location(self, uri: str | None) -> Path:
        """The folder that an address names.

        Raises:
            ConfigError: it is outside the store.
        """
        begin = (self._store.resolve() / ARTIFACTS).as_uri()
        if uri is None or not f"{uri}/".startswith(f"{begin}/"):
            raise ConfigError(
                f"{self._store / MLFLOW_FILE} names {uri} for artifacts, which is not in the "
                "store: nothing is read or written there"
            )
        return inside(self._artifacts, Path(local_file_uri_to_path(uri)))

    def _require_inside(self, root: Path, folder: str | None, name: str) -> None:
        """Raise ConfigError if an artifact to be written would be outside the store."""
        inside(self._artifacts, root / (folder or "") / name)


def delete_artifact(client: MlflowClient, address: str) -> None:
    """Delete a file or a folder of artifacts at an address.

    Raises:
        ConfigError: it is outside the store, or its storage deletes nothing.
    """
    if isinstance(client, ConfinedClient):
        client.delete_artifact(address)
    else:
        delete_served(address)


def files_under(folder: Path) -> list[str]:
    """Relative names of all files in a folder and its subfolders; none if it is a file."""
    walked = ((Path(path), names) for path, _, names in os.walk(folder))
    return [str((path / name).relative_to(folder)) for path, names in walked for name in names]


def open_server(uri: str) -> MlflowClient:
    """A client of the server at an address."""
    set_tracking_uri(uri)
    return MlflowClient(tracking_uri=uri)


def open_file(uri: str, *, folder: Path) -> MlflowClient:
    """A client of the database in a file, confined to the folder of its store."""
    set_tracking_uri(uri)
    OPENED[uri] = client = ConfinedClient(uri, folder)
    for engine in engines(client):
        watch_file(engine)
        extend_busy_timeout(engine)
    return client


def set_tracking_uri(uri: str) -> None:
    """Set the address of the process, which models and the registry use whatever client asks.

    MLflow also writes it into the environment, for its children; that is undone.
    """
    before = os.environ.get(TRACKING_ENV)
    mlflow.set_tracking_uri(uri)
    os.environ.pop(TRACKING_ENV, None)
    if before is not None:
        os.environ[TRACKING_ENV] = before


def disconnect(uri: str) -> None:
    """Give back the connections to a database file, which MLflow never does."""
    if uri in OPENED:
        for engine in engines(OPENED.pop(uri)):
            engine.dispose()


def search_all_runs(
    client: MlflowClient, experiment_id: str, query: str, *, page_size: int = PAGE_SIZE
) -> Iterator[Run]:
    """Every run of an experiment that matches, the newest first, read page by page."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            query,
            max_results=page_size,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return
