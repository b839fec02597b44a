"""The MLflow run that an outbox is delivered to, entry by entry."""

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

from sweeps.record.entries import Batch, End, Entry, File, KnownRun, RunBegun, SavedModel
from sweeps.record.files import file_inside, folder_inside, local_folder
from sweeps.schema import NOTE, RECORD_KEY, TRAINING
from sweeps.store.mlflow_errors import Undeliverable, required_id


class MlflowRun:
    """One run in MLflow, and what this process knows of it."""

    def __init__(
        self, folder: Path, client: MlflowClient, *, run_id: str, redelivery: bool
    ) -> None:
        """`folder` is that of the outbox."""
        self.run_id = run_id
        """Empty until MLflow has the run."""
        self.redelivery = redelivery
        """Entries may have arrived before."""
        self.delivered: list[Path] = []
        """Files and folders of the outbox that have arrived."""
        self.written: set[Path] = set()
        """Folders on this machine to which artifacts were copied."""
        self._folder = folder
        self._client = client
        self._begun: RunBegun | None = None
        self._artifacts = ""
        """Where its artifacts go; empty until that is known."""

    def deliver(self, entry: Entry) -> None:
        """Deliver one entry; doing so again changes nothing.

        Raises:
            Undeliverable: it belongs to another run, or the file it names cannot be read.
        """
        match entry:
            case RunBegun():
                self._begin(entry)
            case KnownRun():
                self._join(entry.run_id)
            case _ if not self.run_id:
                raise Undeliverable("the entry that begins the run is missing or damaged")
            case Batch():
                self._batch(entry)
            case File():
                self._file(entry.path)
            case SavedModel():
                self._model(entry)
            case End():
                self._client.set_terminated(self.run_id, entry.status, entry.time)
            case _:
                assert_never(entry)

    def _begin(self, entry: RunBegun) -> None:
        if self._begun not in (None, entry):
            raise Undeliverable("a second run in the record of one trial")
        key = entry.tags.get(RECORD_KEY, key_of(self._folder, entry.start))
        if owner_in(key) != self._folder.name:
            raise Undeliverable(f"a copy of the record of {owner_in(key)}")
        if self.redelivery and not self.run_id:
            query = f"tags.`{RECORD_KEY}` = '{key}'"
            runs = self._client.search_runs([entry.experiment_id], filter_string=query)
            if runs:
                self._is_run(runs[0])
        if not self.run_id:
            tags = {**entry.tags, RECORD_KEY: key}
            self._is_run(
                self._client.create_run(entry.experiment_id, entry.start, tags, run_name=entry.name)
            )
        self._begun = entry

    def _is_run(self, run: Run) -> None:
        """Note that MLflow has the run."""
        self.run_id = required_id(run.info.run_id)
        self._artifacts = run.info.artifact_uri or ""

    def _join(self, run_id: str) -> None:
        if not self.run_id:
            run = self._client.get_run(run_id)
            key = run.data.tags.get(RECORD_KEY, key_of(self._folder, 0))
            if owner_in(key) == self._folder.name:
                self._is_run(run)
        if self.run_id != run_id:
            raise Undeliverable(f"run {run_id} is not that of this trial")

    def _batch(self, entry: Batch) -> None:
        tags = entry.tags
        if self.redelivery and NOTE in tags:  # a later description may have replaced it
            known = self._client.get_run(self.run_id).data.tags
            tags = {name: tag for name, tag in tags.items() if name != NOTE or name not in known}
        self._client.log_batch(
            self.run_id,
            [Metric(*point) for point in entry.points],
            [Param(*item) for item in entry.params.items()],
            [RunTag(*item) for item in tags.items()],
        )

    def _file(self, path: str) -> None:
        source = file_inside(self._folder, path)
        parent = Path(path).parent.as_posix()
        self._client.log_artifact(self.run_id, str(source), None if parent == "." else parent)
        if not self._artifacts:
            self._artifacts = self._client.get_run(self.run_id).info.artifact_uri
        self._note_copy(self._artifacts)
        self.delivered.append(source)

    def _model(self, entry: SavedModel) -> None:
        folder = folder_inside(self._folder, entry.path)
        run = self._client.get_run(self.run_id)
        logged = self._logged_model(run, entry)
        model_id = required_id(logged.model_id)
        if not (run.outputs and run.outputs.model_outputs):
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, entry.step)])
        metrics = [Metric(*point, model_id=model_id) for point in entry.points]
        self._client.log_batch(self.run_id, metrics=metrics)
        upload_model(self._client, logged, folder, run_id=self.run_id)
        self._note_copy(logged.artifact_location)
        self.delivered.append(folder)

    def _logged_model(self, run: Run, entry: SavedModel) -> LoggedModel:
        """The model that the run has, created unless an earlier delivery did."""
        experiment_id = run.info.experiment_id
        if self.redelivery:
            query = f"source_run_id = '{self.run_id}'"
            for model in self._client.search_logged_models([experiment_id], query):
                if TRAINING not in model.tags:
                    return model
        return self._client.create_logged_model(
            experiment_id, run.info.run_name, source_run_id=self.run_id, params=entry.params
        )

    def _note_copy(self, uri: str) -> None:
        folder = local_folder(uri)
        if folder is not None:
            self.written.add(folder)


def upload_model(client: MlflowClient, logged: LoggedModel, folder: Path, *, run_id: str) -> None:
    """Upload the files of a LoggedModel, as `save_model` wrote them; again changes nothing."""
    model, model_id = Model.load(folder), required_id(logged.model_id)
    model.run_id, model.model_id, model.model_uuid = run_id, model_id, model_id
    model.artifact_path = logged.artifact_location
    model.save(folder / "MLmodel")
    client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)


def key_of(folder: Path, start: int) -> str:
    """The key of the run that begins at this time, for the trial of this outbox."""
    return f"{folder.name} {start}"


def owner_in(key: str) -> str:
    """The name of the outbox that a key was made for."""
    return key.rpartition(" ")[0]
