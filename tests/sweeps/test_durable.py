"""A record is on the disk before its trial counts as complete, and a worker that leaves records
behind does not end as if all were well."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from sweeps.__main__ import main
from sweeps.lifecycle.start import start_sweep
from sweeps.record.delivery import drain
from sweeps.record.entries import File, KnownRun, RunBegun
from sweeps.record.files import local_folder, sync
from sweeps.record.outbox import RECORDS, Outbox, outbox_path
from sweeps.record.trial_run import trial_run
from sweeps.schema import Role
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep
from tests.studies import MINI
from tests.sweeps.faithful import FakeMlflow, FakeStore


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path that is forced onto the disk, in order."""
    paths: list[str] = []
    fsync = os.fsync

    def note(opened: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{opened}").readlink()))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", note)
    return paths


def run_one(store: FakeStore, names: list[str]) -> optuna.Study:
    """A trial that records a file, as a worker runs it; `names` also notes how it is told."""

    class Noted(InMemoryStorage):
        def set_trial_state_values(
            self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
        ) -> bool:
            names.append(state.name)
            return super().set_trial_state_values(trial_id, state, values)

    def objective(trial: optuna.Trial) -> float:
        opened = trial_run(
            trial,
            store=store.store,
            experiment_id="1",
            parent_run_id="p",
            role=Role.TRIAL,
            tags={},
            describe=lambda trial: "",
        )
        with opened as record:
            record.file("seed_0/policy.pt").write_text("weights")
            record.outbox.write(File("seed_0/policy.pt"))
        return 1.0

    study = optuna.create_study(study_name="mini", storage=Noted())
    study.optimize(objective, n_trials=1)
    return study


def test_a_waiting_record_is_synced_before_its_trial_is_complete(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "_not_before", {})
    store = FakeStore(tmp_path / "store", {}, FakeMlflow(repeat("before")))
    run_one(store, synced)
    folder = outbox_path(store.store, "mini", 0)
    assert (folder / RECORDS).read_text().endswith("\n")
    before = set(synced[: synced.index("COMPLETE")])
    wanted = {folder / RECORDS, folder / "seed_0" / "policy.pt", folder / "seed_0", folder}
    assert before >= {str(path) for path in {*wanted, folder.parent, store.folder}}


def test_local_artifacts_are_synced_before_their_copies_are_removed(
    store: Store, synced: list[str]
) -> None:
    client = store.runs()
    experiment = client.create_experiment("mini", f"{store.artifacts_uri}/mini")
    run = client.create_run(experiment)
    spool = Outbox(store.folder / "mini-0000", client, link=print, run_id=run.info.run_id)
    (spool.folder / "policy.pt").write_text("weights")
    spool.write(File("policy.pt"))
    assert spool.deliver(now=True)
    synced.clear()
    spool.clean_up()
    copy = store.artifacts / "mini" / run.info.run_id / "artifacts" / "policy.pt"
    assert copy.read_text() == "weights"
    assert synced == [str(copy), str(copy.parent)]
    assert not spool.folder.exists()


def test_a_disk_that_fails_to_keep_a_record_fails_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(opened: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = FakeStore(tmp_path / "store", {}, FakeMlflow())
    monkeypatch.setattr(os, "fsync", fail)
    names: list[str] = []
    with pytest.raises(OSError, match="Input/output error"):
        run_one(store, names)
    assert names[-1] == "FAIL"


def test_a_folder_whose_names_cannot_be_forced_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(opened: int) -> None:
        if Path(f"/proc/self/fd/{opened}").readlink().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    sync(tmp_path, parents=1)


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("file:///a%20b/c", Path("/a b/c")),
        ("/a/b", Path("/a/b")),
        ("mlflow-artifacts:/a", None),
        ("s3://bucket/a", None),
    ],
)
def test_only_a_local_address_of_artifacts_is_a_folder(uri: str, folder: Path | None) -> None:
    assert local_folder(uri) == folder


def test_a_folder_left_by_an_earlier_sweep_is_no_record_of_a_new_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = FakeMlflow()
    store = FakeStore(tmp_path / "store", {}, mlflow)
    folder = outbox_path(store.store, "mini", 0)
    folder.mkdir(parents=True)
    (folder / RECORDS).write_text('{"kind": "batch", "tags": {"of": "another life"}}\n')
    run_one(store, [])
    (run,) = mlflow.runs.values()
    assert "of" not in run.tags
    assert "mini-0000 cannot be delivered to MLflow (it was left by a deleted sweep)" in (
        capsys.readouterr().err
    )
    assert "another life" in (folder.with_name("mini-0000.refused") / RECORDS).read_text()


# what is left behind


@pytest.fixture
def waiting(store: Store, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep whose trials have all ended, one of them with a record that MLflow does not take."""
    monkeypatch.setattr("sweeps.record.delivery.deliver", lambda *_, **__: ("no answer", True))
    study = read_study(MINI, source="mini.toml")
    sweep = start_sweep(study, store, trials=2, command=["run"])
    for _ in range(2):
        with pytest.warns(UserWarning, match="Heartbeat"):
            sweep.optuna.tell(sweep.optuna.ask(), 1.0)
    spool = Outbox(outbox_path(store, "mini", 0), store.runs(), link=print)
    spool.write(KnownRun(sweep.run_id))
    return sweep


def test_a_worker_and_a_run_that_leave_records_behind_exit_with_1(
    waiting: Sweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sweeps.run.worker.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("sweeps.commands.RETRY_SECONDS", 0.0)
    (tmp_path / "mini.toml").write_text(MINI)
    folder = waiting.store.folder
    options = ["--store", str(folder)]
    warning = f"sweeps: warning: undelivered records are kept in {folder}/spool (no answer); "
    assert main(["work", "--study", "mini", *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(warning)
    run = ["run", "--study", str(tmp_path / "mini.toml"), "--trials", "2", *options]
    assert main(run) == 1
    assert warning in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["work", "--study", "mini", *options]) == 0
    assert main(run) == 0


def test_records_that_another_process_is_delivering_are_not_delivered_yet(
    waiting: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(waiting.store.folder / "spool" / ".lock"):
        assert not drain(waiting.store, seconds=0, later="doctor")
    assert "another process is delivering them" in capsys.readouterr().err


def test_an_mlflow_that_does_not_answer_is_left_alone_and_another_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "_not_before", {})
    away, elsewhere = FakeMlflow(["before"]), FakeMlflow()
    elsewhere.tracking_uri = "another"
    stores = [
        FakeStore(tmp_path / str(number), {}, fake) for number, fake in enumerate((away, elsewhere))
    ]
    spools = []
    for store in stores:
        client: MlflowClient = store.runs()
        spools.append(Outbox(outbox_path(store.store, "mini", 0), client, link=lambda _: None))
        spools[-1].write(RunBegun("1", "trial", 1, {}))
    assert [spool.deliver() for spool in spools] == [False, True]
    assert not spools[0].deliver()
    assert spools[0].obstacle == "it did not answer a moment ago"
    assert spools[0].deliver(now=True)
