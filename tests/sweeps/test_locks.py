"""Who waits for whom: workers never for a publication; and a record is held in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from filelock import FileLock, Timeout

from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.record.entries import Point
from sweeps.record.outbox import POINTS_LIMIT, Outbox
from sweeps.record.recorder import MlflowRecorder
from sweeps.store.database import lock_key
from sweeps.store.store import Store
from sweeps.study.study import find_study


def test_one_process_publishes_while_others_take_trials(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = start_sweep(find_study("smoke"), store, trials=1, command=["run"])
    drawn: list[str] = []

    def write_figures(*_: object) -> list[Path]:
        lock, publication = sweep.store.lock, sweep.store.publication_lock
        assert isinstance(lock, FileLock)
        assert isinstance(publication, FileLock)
        with lock.acquire(timeout=0):
            drawn.append("with the budget's lock free")
        with pytest.raises(Timeout):
            publication.acquire(timeout=0)
        return []

    monkeypatch.setattr("sweeps.charts.search.write_figures", write_figures)
    publish(sweep)
    assert drawn == ["with the budget's lock free"]
    assert capsys.readouterr().err == ""  # what fails in there would be a warning


def test_on_a_server_they_are_two_locks_as_well() -> None:
    assert lock_key("") != lock_key("publication")


def test_a_recorder_holds_few_points_however_rare_checkpoints_are() -> None:
    class Disk:
        def __init__(self) -> None:
            self.batches: list[int] = []

        def points(self, points: list[Point]) -> None:
            self.batches.append(len(points))

    disk = Disk()
    recorder = MlflowRecorder(cast(Outbox, disk))
    for step in range(POINTS_LIMIT):
        recorder.metrics({"a": 1.0, "b": 2.0, "c": 3.0}, step=step)
        assert len(recorder._pending) < POINTS_LIMIT
    assert sum(disk.batches) + len(recorder._pending) == 3 * POINTS_LIMIT
    assert max(disk.batches) <= POINTS_LIMIT + 2
