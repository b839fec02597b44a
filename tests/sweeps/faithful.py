"""An MLflow in memory, as far as a spool needs one: it refuses what MLflow refuses, keeps what it
is given as MLflow does, and gives no answer whenever it is asked not to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from optuna.trial import FrozenTrial

from sweeps.store.store import Store


@dataclass
class FakeRun:
    """The contents of a run."""

    run_id: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    points: set[tuple[str, float, int, int]] = field(default_factory=set)
    """A point that is sent again is the same point, as in MLflow's table."""
    files: dict[str, bytes] = field(default_factory=dict)
    status: str = "RUNNING"


def info(run: FakeRun) -> object:
    """What MLflow says about a run besides its contents."""
    return SimpleNamespace(run_id=run.run_id, artifact_uri="mlflow-artifacts:/x")


class FakeMlflow:
    """Replaces `MlflowClient`."""

    tracking_uri = "fake"

    def __init__(self, outages: Iterable[str] = ()) -> None:
        """Each call takes one of `outages`: "before" it is carried out, "after" it, or ""."""
        self.runs: dict[str, FakeRun] = {}
        self._outages = iter(outages)

    def _call(self, act: Callable[[], None]) -> None:
        outage = next(self._outages, "")
        if outage != "before":
            act()
        if outage:
            raise MlflowException("API request to fake failed with exception: refused")

    def _run(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise MlflowException(f"no run {run_id!r}", error_code=RESOURCE_DOES_NOT_EXIST)
        return self.runs[run_id]

    def search_runs(self, experiments: Sequence[str], filter_string: str) -> list[object]:
        wanted = filter_string.split("'")[1]
        return [
            SimpleNamespace(info=info(run))
            for run in self.runs.values()
            if run.tags["sweeps.record"] == wanted
        ]

    def create_run(
        self, experiment: str, start: int, tags: Mapping[str, str], *, run_name: str
    ) -> object:
        run = FakeRun(f"run{len(self.runs)}", {**tags, "name": run_name})
        self._call(lambda: self.runs.update({run.run_id: run}))
        return SimpleNamespace(info=info(run))

    def get_run(self, run_id: str) -> object:
        run = self._run(run_id)
        return SimpleNamespace(info=info(run), data=SimpleNamespace(tags=run.tags))

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Sequence[Param],
        tags: Sequence[RunTag],
    ) -> None:
        run = self._run(run_id)
        for name in [*(metric.key for metric in metrics), *(param.key for param in params)]:
            if len(name) > 250:
                raise MlflowException("name too long", error_code=INVALID_PARAMETER_VALUE)
        for param in params:
            if run.params.get(param.key, param.value) != param.value:
                raise MlflowException("params stay", error_code=INVALID_PARAMETER_VALUE)

        def act() -> None:
            run.points |= {(m.key, m.value, m.timestamp, m.step) for m in metrics}
            run.params.update({param.key: param.value for param in params})
            run.tags.update({tag.key: tag.value for tag in tags})

        self._call(act)

    def log_artifact(self, run_id: str, path: str, parent: str | None) -> None:
        run, content = self._run(run_id), Path(path).read_bytes()
        name = "/".join([*([parent] if parent else []), Path(path).name])
        self._call(lambda: run.files.update({name: content}))

    def set_terminated(self, run_id: str, status: str, end: int) -> None:
        run = self._run(run_id)
        self._call(lambda: setattr(run, "status", status))


class FakeStore:
    """Replaces a `Store`: its trials are given, its runs are in memory."""

    def __init__(
        self, folder: Path, trials: Mapping[tuple[str, int], FrozenTrial], runs: FakeMlflow
    ) -> None:
        self.folder = folder
        self._trials = trials
        self._runs = runs

    def study_names(self) -> list[str]:
        return sorted({study for study, _ in self._trials})

    def trials(self) -> FakeStore:
        return self

    def find(self, study: str, number: int) -> FrozenTrial | None:
        return self._trials.get((study, number))

    def set_late_attr(self, trial: FrozenTrial, key: str, value: str) -> None:
        trial.user_attrs[key] = value

    def runs(self) -> MlflowClient:
        return cast(MlflowClient, self._runs)

    @property
    def store(self) -> Store:
        return cast(Store, self)
