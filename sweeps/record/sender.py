"""Delivers the records of one run to MLflow; to do so again changes nothing.

The run is known by its key, a point of a curve to MLflow by name, step, time and value, and all
else replaces itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from mlflow import MlflowClient
from mlflow.entities import (
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.models import Model

from sweeps.record.durable import local_folder
from sweeps.record.entries import Batch, End, File, KnownRun, Record, RunBegun, SavedModel
from sweeps.record.files import file_inside, folder_inside
from sweeps.schema import RECORD_KEY
from sweeps.store.mlflow_errors import Undeliverable, required_id


class Sender:
    """What MLflow has of one run, as far as this process knows."""

    def __init__(self, folder: Path, client: MlflowClient, *, run_id: str, again: bool) -> None:
        self.run_id = run_id
        """Empty until MLflow has a run."""
        self.again = again
        """Some of it may have arrived before."""
        self.delivered: list[Path] = []
        """Files and folders that records named."""
        self.written: set[Path] = set()
        """Local folders to which artifacts were copied."""
        self._folder = folder
        self._client = client
        self._begun: RunBegun | None = None

    def send(self, record: Record) -> None:
        """Deliver one record.

        Raises:
            Undeliverable: it is not of this run, or what it names cannot be read.
        """
        match record:
            case RunBegun():
                self._begin(record)
            case KnownRun():
                self._join(record.run_id)
            case _ if not self.run_id:
                raise Undeliverable("the record that begins the run is missing or damaged")
            case Batch():
                self._batch(record)
            case File():
                self._file(record.path)
            case SavedModel():
                self._model(record)
            case End():
                self._client.set_terminated(self.run_id, record.status, record.time)
            case _:
                assert_never(record)

    def _begin(self, record: RunBegun) -> None:
        if self._begun not in (None, record):
            raise Undeliverable("a second run in the record of one")
        key = record.tags.get(RECORD_KEY, key_of(self._folder, record.start))
        if owner_in(key) != self._folder.name:
            raise Undeliverable(f"the record of {owner_in(key)}, copied")
        if self.again and not self.run_id:
            query = f"tags.`{RECORD_KEY}` = '{key}'"
            there = self._client.search_runs([record.experiment_id], filter_string=query)
            self.run_id = there[0].info.run_id if there else ""
        if not self.run_id:
            tags = {**record.tags, RECORD_KEY: key}
            run = self._client.create_run(
                record.experiment_id, record.start, tags, run_name=record.name
            )
            self.run_id = required_id(run.info.run_id)
        self._begun = record

    def _join(self, run_id: str) -> None:
        if not self.run_id:
            tags = self._client.get_run(run_id).data.tags
            if owner_in(tags.get(RECORD_KEY, key_of(self._folder, 0))) == self._folder.name:
                self.run_id = run_id
        if self.run_id != run_id:
            raise Undeliverable(f"run {run_id} is not that of this trial")

    def _batch(self, record: Batch) -> None:
        self._client.log_batch(
            self.run_id,
            [Metric(*point) for point in record.points],
            [Param(*item) for item in record.params.items()],
            [RunTag(*item) for item in record.tags.items()],
        )

    def _file(self, path: str) -> None:
        source = file_inside(self._folder, path)
        parent = Path(path).parent.as_posix()
        self._client.log_artifact(self.run_id, str(source), None if parent == "." else parent)
        if not self.written:
            self._note_copy(self._client.get_run(self.run_id).info.artifact_uri)
        self.delivered.append(source)

    def _model(self, record: SavedModel) -> None:
        """A folder that `mlflow.pytorch.save_model` wrote, as a LoggedModel of the run."""
        folder = folder_inside(self._folder, record.path)
        model = Model.load(folder)
        run = self._client.get_run(self.run_id)
        logged = self._logged_model(run, record)
        model_id = required_id(logged.model_id)
        if not (run.outputs and run.outputs.model_outputs):
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, record.step)])
        of_model = [Metric(*point, model_id=model_id) for point in record.points]
        self._client.log_batch(self.run_id, metrics=of_model)
        model.run_id, model.model_id, model.model_uuid = self.run_id, model_id, model_id
        model.artifact_path = logged.artifact_location
        model.save(folder / "MLmodel")
        self._client.log_model_artifacts(model_id, str(folder))
        self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)
        self._note_copy(logged.artifact_location)
        self.delivered.append(folder)

    def _logged_model(self, run: Run, record: SavedModel) -> LoggedModel:
        """The one that the run has already, or a new one."""
        experiment_id = run.info.experiment_id
        if self.again:
            query = f"source_run_id = '{self.run_id}'"
            there = list(self._client.search_logged_models([experiment_id], query))
            if there:
                return there[0]
        return self._client.create_logged_model(
            experiment_id, record.path, source_run_id=self.run_id, params=record.params
        )

    def _note_copy(self, uri: str) -> None:
        folder = local_folder(uri)
        if folder is not None:
            self.written.add(folder)


def key_of(folder: Path, start: int) -> str:
    """Names the run that begins at this time, and the trial whose record the folder holds."""
    return f"{folder.name} {start}"


def owner_in(key: str) -> str:
    """The name of the folder that a key was made for."""
    return key.rpartition(" ")[0]
