"""In how many calls the record of a trial reaches MLflow, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from mlflow import MlflowClient
from optuna.trial import TrialState

import sweeps.record.outbox
from lander.config import TrainConfig
from lander.policy import make_policy
from lander.resolve import resolve
from lander.trainer import Progress
from sweeps.record.entries import Batch, File, Point, RunBegun
from sweeps.record.outbox import POINTS_LIMIT, Outbox
from sweeps.record.recorder import MlflowRecorder
from sweeps.schema import RECORD_KEY
from tests.sweeps.faithful import FakeMlflow, FakeRun


class Counting(FakeMlflow):
    """Notes the calls that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def create_run(
        self, experiment: str, start: int, tags: Mapping[str, str], *, run_name: str
    ) -> object:
        self.calls.append("create_run")
        return super().create_run(experiment, start, tags, run_name=run_name)

    def get_run(self, run_id: str) -> object:
        self.calls.append("get_run")
        return super().get_run(run_id)

    def log_batch(
        self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]
    ) -> None:
        self.calls.append(f"log_batch of {len(metrics)}")
        super().log_batch(run_id, metrics, params, tags)

    def log_artifact(self, run_id: str, path: str, parent: str | None) -> None:
        self.calls.append("log_artifact")
        super().log_artifact(run_id, path, parent)

    def set_terminated(self, run_id: str, status: str, end: int) -> None:
        self.calls.append("set_terminated")
        super().set_terminated(run_id, status, end)

    @property
    def run(self) -> FakeRun:
        """The only run."""
        (run,) = self.runs.values()
        return run


@pytest.fixture
def mlflow() -> Counting:
    return Counting()


@pytest.fixture
def outbox(tmp_path: Path, mlflow: Counting) -> Outbox:
    """The outbox of a trial whose run has begun."""
    made = Outbox(
        tmp_path / "spool" / "x-0000", cast(MlflowClient, mlflow), link=lambda run_id: None
    )
    made.write(RunBegun("1", "trial-0000", 0, {RECORD_KEY: made.key(0)}))
    return made


def points(name: str, steps: range) -> tuple[Point, ...]:
    return tuple((name, 1.0, 0, step) for step in steps)


def test_a_whole_record_takes_a_call_per_kind_and_artifact(
    outbox: Outbox, mlflow: Counting
) -> None:
    (outbox.folder / "config.toml").write_text("total_steps = 1")
    outbox.write(Batch(params={"ppo.gamma": "0.9"}, tags={"a": "1"}))
    outbox.write(File("config.toml"))
    for start in range(0, 40, 10):
        outbox.points(points("eval/return_mean", range(start, start + 10)))
    outbox.end(TrialState.COMPLETE, "", {"a": "2"})
    assert outbox.deliver()
    assert mlflow.calls == ["create_run", "log_batch of 40", "log_artifact", "set_terminated"]
    assert (mlflow.run.params, mlflow.run.tags["a"]) == ({"ppo.gamma": "0.9"}, "2")
    assert len(mlflow.run.points) == 40
    assert mlflow.run.status == "FINISHED"


def test_a_call_takes_as_many_points_as_mlflow_allows(outbox: Outbox, mlflow: Counting) -> None:
    outbox.points(points("a", range(POINTS_LIMIT - 10)))
    outbox.points(points("b", range(10)))
    outbox.points(points("c", range(1)))
    assert outbox.deliver()
    assert mlflow.calls == ["create_run", f"log_batch of {POINTS_LIMIT}", "log_batch of 1"]


def test_what_is_refused_together_is_sent_one_by_one(outbox: Outbox, mlflow: Counting) -> None:
    """Only the batch that MLflow cannot take stays behind."""
    outbox.points(points("good", range(3)))
    outbox.points(points("x" * 251, range(1)))
    outbox.points(points("also good", range(2)))
    assert outbox.deliver()
    assert mlflow.calls[1:] == [f"log_batch of {count}" for count in (6, 3, 1, 2)]
    assert {name for name, *_ in mlflow.run.points} == {"good", "also good"}
    outbox.clean_up()
    (aside,) = outbox.folder.parent.iterdir()
    assert "x" * 251 in (aside / "records.jsonl").read_text()
    assert '"good"' not in (aside / "records.jsonl").read_text()


@pytest.mark.parametrize(("interval", "deliveries"), [(0.0, 4), (1e9, 0)])
def test_a_running_trial_is_delivered_when_that_is_due(
    outbox: Outbox,
    mlflow: Counting,
    monkeypatch: pytest.MonkeyPatch,
    interval: float,
    deliveries: int,
) -> None:
    monkeypatch.setattr(sweeps.record.outbox, "INTERVAL", interval)
    assert outbox.deliver()
    recorder = MlflowRecorder(outbox)
    policy = make_policy(resolve(TrainConfig()).config, generator=torch.Generator())
    for step in range(4):
        recorder.progress(Progress(step, 0, {"loss/policy": 1.0}, None, dict, policy), seed=0)
    assert mlflow.calls == ["create_run", *["log_batch of 1"] * deliveries]
    recorder.close(TrialState.COMPLETE, "", cost=recorder.cost)
    curve = {point for point in mlflow.run.points if point[0] == "loss/policy"}
    assert len(curve) == 4
    assert {point[0].partition("/")[0] for point in mlflow.run.points - curve} == {"cost"}
    assert mlflow.run.status == "FINISHED"
