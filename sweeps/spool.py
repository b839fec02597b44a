"""What is to be recorded of a run: on disk first, then with MLflow, whenever that answers.

A trial's spool is a folder, STORE/spool/STUDY-NUMBER: `records.jsonl`, a record a line, and the
files that records name. They are handed over in order, always from there. A record that may have
arrived is handed over again, which changes nothing: the run is known by its key, a point of a curve
to MLflow by name, step, time and value, and all else replaces itself.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from sqlalchemy.exc import OperationalError

from lander.inside import inside
from sweeps.masking import one_line
from sweeps.storage import Store

KEY = "sweeps.record"
"""Tag: by which a run is found again if MLflow's answer to its creation was lost."""
SPOOL = "spool"
"""Folder of a store."""
RECORDS = "records.jsonl"
POINTS_LIMIT = 1000
"""Points that MLflow takes in one call."""
REFUSED = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
"""What MLflow says of a request that it will never take; everything else may pass."""
PATIENCE = 100
"""After a call without an answer the next one waits as many times as long as it took, so that an
outage costs training at most a hundredth .."""
LONGEST = 300.0
""".. but no more seconds than these."""

Point = tuple[str, float, int, int]
"""Name, value, time in ms, environment steps."""


class Spool:
    """The record of one run, under way to MLflow."""

    _not_before: ClassVar[float] = 0.0
    """When this process may ask MLflow again."""

    def __init__(self, folder: Path, client: MlflowClient, *, link: Callable[[str], None]) -> None:
        """`link` is told the id of the run as soon as there is one."""
        self.folder = folder
        self._client = client
        self._link = link
        self._records = folder / RECORDS
        self._offset = 0
        self._run_id = ""
        self._again = self._records.exists()
        """Some of it may have arrived before."""
        self.silence = ""
        """Why the last delivery stopped."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._again:  # a killed writer leaves half a line
            whole = self._records.read_bytes().rpartition(b"\n")
            os.truncate(self._records, len(whole[0] + whole[1]))

    def write(self, kind: str, **fields: object) -> None:
        """Keep a record, of a kind that `deliver` knows.

        Raises:
            OSError: the disk is full; the record is not kept.
        """
        line = json.dumps({"kind": kind, **fields}, allow_nan=False) + "\n"
        with self._records.open("ab") as file:
            size = file.tell()
            try:
                file.write(line.encode())
                file.flush()
            except OSError:
                os.truncate(self._records, size)
                raise

    @property
    def is_whole(self) -> bool:
        """Whether it still begins with its run: others may have removed the beginning."""
        try:
            with self._records.open("rb") as records:
                return json.loads(records.readline())["kind"] in ("run", "known_run")
        except (OSError, ValueError):
            return False

    def points(self, points: Sequence[Point]) -> None:
        """Points of curves, in batches: a call for each would cost 4 ms."""
        for start in range(0, len(points), POINTS_LIMIT):
            self.write("batch", points=points[start : start + POINTS_LIMIT])

    def deliver(self, *, now: bool = False) -> bool:
        """Hand over what is left; whether that was done.

        Where MLflow was silent lately it is asked only `now` that somebody waits for it.

        Raises:
            MlflowException: it refuses a record.
        """
        started = time.monotonic()
        if not now and started < Spool._not_before:
            self.silence = "it was silent a moment ago"
            return False
        kinds: dict[str, Callable[..., None]] = {
            "run": self._run,
            "known_run": self._known_run,
            "batch": self._batch,
            "file": self._file,
            "model": self._model,
            "end": self._end,
        }
        try:
            with self._records.open("rb") as records:
                records.seek(self._offset)
                for line in records:
                    record = json.loads(line)
                    kinds[record.pop("kind")](**record)
                    self._offset += len(line)
        except Exception as error:
            if not is_outage(error):
                raise
            self._again = True
            self.silence = one_line(error)
            ended = time.monotonic()
            Spool._not_before = ended + min(LONGEST, max(1.0, PATIENCE * (ended - started)))
            return False
        return True

    def remove(self) -> None:
        """All of it has arrived."""
        self._records.unlink()  # first: without it the rest is no record
        shutil.rmtree(self.folder)

    def _run(self, experiment_id: str, name: str, start: int, tags: dict[str, str]) -> None:
        key = f"{self.folder.name} {start}"
        if self._again:
            query = f"tags.`{KEY}` = '{key}'"
            found = self._client.search_runs([experiment_id], filter_string=query)
            self._run_id = found[0].info.run_id if found else ""
        if not self._run_id:
            tags = {**tags, KEY: key}
            run = self._client.create_run(experiment_id, start, tags, run_name=name)
            self._run_id = run.info.run_id
        self._link(self._run_id)

    def _known_run(self, run_id: str) -> None:
        self._run_id = run_id

    def _batch(
        self,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._client.log_batch(
            self._run_id,
            [Metric(*point) for point in points],
            [Param(*item) for item in (params or {}).items()],
            [RunTag(*item) for item in (tags or {}).items()],
        )

    def _file(self, path: str) -> None:
        parent = Path(path).parent.as_posix()
        place = None if parent == "." else parent
        self._client.log_artifact(self._run_id, str(self.folder / path), place)

    def _model(self, path: str, params: dict[str, str], points: Sequence[Point], step: int) -> None:
        """A folder that `mlflow.pytorch.save_model` wrote, as a LoggedModel of the run."""
        client, run = self._client, self._client.get_run(self._run_id)
        experiment_id = run.info.experiment_id
        if self._again:
            query = f"source_run_id = '{self._run_id}'"
            found = list(client.search_logged_models([experiment_id], query))
        else:
            found = []
        logged = (
            found[0]
            if found
            else client.create_logged_model(
                experiment_id, path, source_run_id=self._run_id, params=params
            )
        )
        if not (run.outputs and run.outputs.model_outputs):
            client.log_outputs(self._run_id, [LoggedModelOutput(logged.model_id, step)])
        of_model = [Metric(*point, model_id=logged.model_id) for point in points]
        client.log_batch(self._run_id, metrics=of_model)
        folder = self.folder / path
        model = Model.load(folder)
        model.run_id, model.model_id, model.model_uuid = run.info.run_id, *[logged.model_id] * 2
        model.artifact_path = logged.artifact_location
        model.save(folder / "MLmodel")
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)

    def _end(self, status: str, time: int) -> None:
        self._client.set_terminated(self._run_id, status, time)


def is_outage(error: Exception) -> bool:
    """MLflow or where it keeps files does not answer; what it refuses it would refuse again."""
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSED
    return isinstance(error, OSError | OperationalError)


def spool_of(store: Store, study: str, number: int) -> Path:
    """Where the record of a trial waits."""
    return spools(store) / f"{study}-{number:04d}"


def spools(store: Store) -> Path:
    """Where all records wait.

    Raises:
        ConfigError: it is a link that leads out of the store.
    """
    return inside(store.folder, store.folder / SPOOL)
