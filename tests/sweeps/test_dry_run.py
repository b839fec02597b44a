"""doctor --dry-run: it says what doctor would do, and writes nothing at all."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sweeps.record.entries import Batch, KnownRun
from sweeps.record.outbox import Outbox, outbox_path
from sweeps.schema import RUN_ID
from sweeps.store.store import Store
from sweeps.sweep import open_sweep
from tests.sweeps.conftest import Command


def checksum(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Of everything below a folder: mode, time of the last change, content."""
    states = {}
    for path in [folder, *folder.rglob("*")]:
        content = path.read_bytes() if path.is_file() else b""
        about = path.stat()
        digest = hashlib.sha256(content).hexdigest()
        states[str(path)] = about.st_mode, about.st_mtime_ns, digest
    return states


def with_hot_journal(file: Path, statement: str) -> None:
    """Leave a database as a writer does that is killed in the middle of a transaction."""
    aside = file.with_name("aside.db")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(statement)
        shutil.copyfile(file, aside)
        shutil.copyfile(f"{file}-journal", f"{aside}-journal")
        connection.execute("ROLLBACK")
    aside.replace(file)
    Path(f"{aside}-journal").replace(f"{file}-journal")
    assert Path(f"{file}-journal").stat().st_size


def nothing(store: Store) -> None:
    """A store in order."""


def lost_trial(store: Store) -> None:
    sweep = open_sweep(store, "tiny")
    sweep.optuna.enqueue_trial({"ppo.learning_rate": 1e-3})
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = sweep.optuna.ask()
    worker = store.trials().get_trial(trial._trial_id).user_attrs["sweeps.worker"].split(":")
    worker[1] = "999999999"
    store.trials().set_trial_user_attr(trial._trial_id, "sweeps.worker", ":".join(worker))


def lost_heartbeat(store: Store) -> None:
    lost_trial(store)
    store.close()
    with closing(sqlite3.connect(store.folder / "optuna.db")) as connection, connection:
        connection.execute(
            "UPDATE trial_user_attributes SET value_json = '\"elsewhere:1:1\"' "
            "WHERE value_json LIKE '%999999999%'"
        )
        connection.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")


def undelivered(store: Store) -> None:
    sweep = open_sweep(store, "tiny")
    spool = Outbox(outbox_path(store, "tiny", 0), store.runs(), link=lambda _: None)
    spool.write(KnownRun(sweep.read_trials().all[0].user_attrs[RUN_ID]))
    spool.write(Batch(tags={"late": "yes"}))


def disagreeing(store: Store) -> None:
    run_id = open_sweep(store, "tiny").read_trials().all[0].user_attrs[RUN_ID]
    store.runs().update_run(run_id, status="RUNNING")


def deleted_run(store: Store) -> None:
    store.runs().delete_run(open_sweep(store, "tiny").run_id)


def deleted_experiment(store: Store) -> None:
    store.runs().delete_experiment(open_sweep(store, "tiny").experiment_id)


def deleted_model(store: Store) -> None:
    store.runs().delete_registered_model("tiny")


def left_by_a_dead_writer(store: Store) -> None:
    store.close()
    statement = "UPDATE runs SET name = hex(randomblob(100000))"
    with_hot_journal(store.folder / "mlflow.db", statement)


DISORDER = {
    nothing: "nothing is wrong in ",
    lost_trial: "would repair: trial 2 of tiny lost its worker",
    lost_heartbeat: "would repair: trial 2 of tiny lost its worker",
    undelivered: "would repair: undelivered records of tiny: 1",
    disagreeing: "would repair: trial 0 of tiny is COMPLETE, its run is RUNNING",
    deleted_run: "would repair: the run of tiny is in MLflow's trash",
    deleted_experiment: "would repair: the experiment of tiny is in MLflow's trash",
    deleted_model: "would repair: models:/tiny@best is gone",
    left_by_a_dead_writer: "nothing is wrong in ",
}


@pytest.mark.parametrize(("disorder", "message"), [*DISORDER.items()])
def test_a_dry_run_says_what_is_wrong_and_leaves_every_file_as_it_is(
    command: Command, finished: Store, disorder: Callable[[Store], None], message: str
) -> None:
    disorder(finished)
    finished.close()
    for lock in finished.folder.rglob("*.lock"):
        lock.unlink()
    before = checksum(finished.folder)
    for _ in range(2):
        done = command("doctor", "--store", finished.folder, "--dry-run")
        assert done.stderr == ""
        assert done.stdout.startswith(message)
        assert done.stdout.count("\n") == 1
        assert str(finished.folder) in done.stdout or "MLFLOW_TRACKING_URI" not in done.stdout
    assert checksum(finished.folder) == before
    repaired = command("doctor", "--store", finished.folder)
    assert repaired.stdout == done.stdout.replace("would repair", "repaired")


def test_a_dry_run_of_a_moved_store_leaves_every_file_as_it_is(
    command: Command, finished: Store, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(finished.folder, tmp_path / "moved"))
    before = checksum(moved)
    done = command("doctor", "--store", moved, "--dry-run")
    assert done.stdout.startswith("would repair: tiny was written to file://")
    assert checksum(moved) == before


def test_a_dry_run_waits_for_writers_and_reads_one_moment(
    command: Command, finished: Store
) -> None:
    with closing(sqlite3.connect(finished.folder / "mlflow.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE runs SET status = 'RUNNING'")
        done = command("doctor", "--store", finished.folder, "--dry-run")
        writer.execute("ROLLBACK")
    assert done.stdout == f"nothing is wrong in {finished.folder}: tiny\n"


def test_a_dry_run_says_which_file_of_the_store_is_damaged(
    command: Command, finished: Store
) -> None:
    file = finished.folder / "optuna.db"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    done = command("doctor", "--store", finished.folder, "--dry-run")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{file.resolve()} is damaged (" in done.stderr
