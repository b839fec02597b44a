"""A store's artifacts are read and written inside the store only, whatever its databases name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run
from mlflow.utils.file_utils import local_file_uri_to_path

from lander.errors import ConfigError
from lander.files import inside

ARTIFACTS: Final = "artifacts"


class ConfinedClient(MlflowClient):
    """A client of the database in a store's folder.

    The database names a location for every run, experiment and model, and whoever has written it
    may have named any: a folder of the reader's, or a server. Links count as what they lead to.
    """

    def __init__(self, tracking_uri: str, store: Path) -> None:
        super().__init__(tracking_uri=tracking_uri)
        self._store = store
        self._roots: dict[str, Path] = {}

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        self._writable(self._of_run(run_id), artifact_path, Path(local_path).name)
        super().log_artifact(run_id, local_path, artifact_path)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        root = self._of_run(run_id)
        for name in files_under(Path(local_dir)):
            self._writable(root, artifact_path, name)
        super().log_artifacts(run_id, local_dir, artifact_path)

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        inside(self._artifacts, self._of_run(run_id) / (path or ""))
        return list(super().list_artifacts(run_id, path))

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        source = self._of_run(run_id) / path
        for name in ("", *files_under(source)):
            inside(self._artifacts, source / name)
        return str(super().download_artifacts(run_id, path, dst_path))

    def log_model_artifacts(
        self, model_id: str, local_dir: str, artifact_path: str | None = None
    ) -> None:
        root = self._location(self.get_logged_model(model_id).artifact_location)
        for name in files_under(Path(local_dir)):
            self._writable(root, artifact_path, name)
        super().log_model_artifacts(model_id, local_dir, artifact_path)

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Run:
        self._location(self.get_experiment(experiment_id).artifact_location)
        return super().create_run(experiment_id, start_time, tags, run_name)

    @property
    def _artifacts(self) -> Path:
        return inside(self._store, self._store / ARTIFACTS)

    def _of_run(self, run_id: str) -> Path:
        if run_id not in self._roots:
            self._roots[run_id] = self._location(self.get_run(run_id).info.artifact_uri)
        return self._roots[run_id]

    def _location(self, uri: str | None) -> Path:
        """The folder that an address names, if it is one of the store's."""
        begin = (self._store.resolve() / ARTIFACTS).as_uri()
        if uri is None or not f"{uri}/".startswith(f"{begin}/"):
            raise ConfigError(
                f"{self._store / 'mlflow.db'} names {uri} for artifacts, which is not in the "
                "store: nothing is read or written there"
            )
        return inside(self._artifacts, Path(local_file_uri_to_path(uri)))

    def _writable(self, root: Path, folder: str | None, name: str) -> None:
        inside(self._artifacts, root / (folder or "") / name)


def files_under(folder: Path) -> list[str]:
    """Names of all files in a folder and in those in it; none if it is a file."""
    found = ((Path(at), names) for at, _, names in os.walk(folder))
    return [str((at / name).relative_to(folder)) for at, names in found for name in names]
