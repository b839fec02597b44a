"""A sweep that is killed, interrupted, locked out and out of disk, with real processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from sweeps.__main__ import main
from sweeps.doctor.doctor import examine
from sweeps.endings import attempt, to_retry
from sweeps.lifecycle.creation import is_created
from sweeps.lifecycle.losses import requeue_lost
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import REASON, RETRY_OF, RUN_ID, WORKER, Reason
from sweeps.store.store import Store
from sweeps.store.worker_id import parse_worker
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import DEADLINE, Start, alive, kill_all, output_of, until
from tests.studies import ENDLESS, QUICK, SHORT, changed


def write(text: str, folder: Path) -> Path:
    path = folder / "mini.toml"
    path.write_text(text)
    return path


def trials(store: Store) -> Sequence[FrozenTrial]:
    return open_sweep(store, "mini").read_trials().all if is_created(store, "mini") else []


def at_work(store: Store) -> dict[int, int]:
    """Number of every trial that is being trained -> process id of its worker."""
    return {
        trial.number: int(trial.user_attrs[WORKER].split(":")[1])
        for trial in trials(store)
        if trial.state == TrialState.RUNNING and {WORKER, RUN_ID} <= trial.user_attrs.keys()
    }


def finish(store: Store, study: Path) -> Sweep:
    """Take the sweep up again and bring it to its end."""
    options = ("--store", str(store.folder), "--workers", "1", "--no-report")
    assert main(["run", "--study", str(study), *options]) == 0
    return require_whole(store)


def require_whole(store: Store, *, total: int = 3) -> Sweep:
    """The total is exact, every trial has ended, and what has finished is complete."""
    sweep = open_sweep(store, "mini")
    assert len(sweep.read_trials().counted) == total
    assert all(trial.state.is_finished() for trial in sweep.read_trials().all)
    client = store.runs()
    assert client.get_run(sweep.run_id).info.status == "FINISHED"
    for trial in sweep.read_trials().all:
        if trial.state == TrialState.COMPLETE:
            run_id = trial.user_attrs[RUN_ID]
            assert {"config.toml", "policy.pt"} <= {f.path for f in client.list_artifacts(run_id)}
            curve = client.get_metric_history(run_id, "eval/return_mean")
            assert len(curve) == sweep.study.base.checkpoints
    require_closed(sweep)
    return sweep


def require_closed(sweep: Sweep) -> None:
    """Trials and runs match one to one, and none runs."""
    client = sweep.store.runs()
    runs = client.search_runs([sweep.experiment_id], "tags.`sweeps.role` = 'trial'")
    run_of = {run.data.tags["optuna.trial_number"]: run for run in runs}
    assert len(run_of) == len(runs)
    for trial in sweep.read_trials().all:
        if str(trial.number) not in run_of:  # never begun, or its worker was killed at once
            assert not trial.state.is_finished() or trial.user_attrs[REASON].startswith(Reason.LOST)
            continue
        run = run_of[str(trial.number)]
        assert run.info.run_id == trial.user_attrs[RUN_ID]
        assert run.data.tags["optuna.state"] == trial.state.name
        assert run.data.tags.get(REASON) == trial.user_attrs.get(REASON)
        ends = {"FINISHED"} if trial.state == TrialState.COMPLETE else {"KILLED", "FAILED"}
        assert run.info.status in ends
    assert not list(examine(sweep.store, dry_run=True))


def failures(sweep: Sweep) -> list[str]:
    """Why trials failed."""
    return [
        trial.user_attrs[REASON]
        for trial in sweep.read_trials().all
        if trial.state == TrialState.FAIL
    ]


def test_a_killed_worker_costs_one_trial_which_the_same_run_retries(
    store: Store, tmp_path: Path, start: Start
) -> None:
    study = write(SHORT, tmp_path)
    run = start("sweeps", "run", "--study", study, "--store", store.folder, "--workers", "2")
    until(lambda: at_work(store), run)
    number, pid = at_work(store).popitem()
    os.kill(pid, signal.SIGKILL)
    output_of(run)
    sweep = require_whole(store)
    lost = sweep.read_trials().all[number]
    (retry,) = (trial for trial in sweep.read_trials().all if RETRY_OF in trial.user_attrs)
    assert lost.user_attrs[REASON] == Reason.LOST
    assert retry.user_attrs[RETRY_OF] == number
    assert retry.state != TrialState.FAIL
    run_of_lost = store.runs().get_run(lost.user_attrs[RUN_ID])
    assert (run_of_lost.info.status, run_of_lost.data.tags[REASON]) == ("FAILED", Reason.LOST)


@pytest.mark.slow
def test_workers_end_soon_after_their_parent_and_the_next_run_goes_on(
    store: Store, tmp_path: Path, start: Start
) -> None:
    study = write(ENDLESS, tmp_path)
    run = start("sweeps", "run", "--study", study, "--store", store.folder, "--workers", "2")
    until(lambda: len(at_work(store)) == 2, run)
    workers = at_work(store)
    run.kill()
    until(lambda: not any(map(alive, workers.values())))
    assert [trial.user_attrs[REASON] for trial in trials(store)[:2]] == ["interrupted"] * 2
    again = start_sweep(read_study(ENDLESS, source=""), store, trials=None, command=["run"])
    resumed = again.read_trials()
    assert resumed.left == resumed.total == 3
    assert to_retry(map(attempt, again.read_trials().all)) == [0, 1]
    assert main(["doctor", "--store", str(store.folder)]) == 0  # for now nobody goes on with it
    require_closed(again)


@pytest.mark.slow
def test_the_second_ctrl_c_stops_at_once_and_leaves_the_terminal_as_it_was(
    store: Store, tmp_path: Path, start: Start
) -> None:
    terminal, side = os.openpty()
    before = termios.tcgetattr(side)
    study = write(ENDLESS, tmp_path)
    args = ("run", "--study", study, "--store", store.folder, "--workers", "2")
    run = start("sweeps", *args, output=side)
    seen = bytearray()

    def shows(text: bytes) -> bool:
        os.set_blocking(terminal, False)
        with suppress(BlockingIOError):
            seen.extend(os.read(terminal, 1 << 16))
        return text in seen

    until(lambda: shows(b"") and len(at_work(store)) == 2, run)
    workers = at_work(store).values()
    for pid in workers:  # so that they cannot obey the first
        os.kill(pid, signal.SIGSTOP)
    os.killpg(run.pid, signal.SIGINT)
    until(lambda: shows(b"Ctrl-C"))
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(DEADLINE) == 130
    until(lambda: shows(b"sweeps: interrupted"))
    assert not any(map(alive, workers))
    assert b"Traceback" not in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # the cursor is shown again
    assert termios.tcgetattr(side) == before
    os.close(terminal)
    os.close(side)
    again = start_sweep(read_study(ENDLESS, source=""), store, trials=None, command=["run"])
    resumed = again.read_trials()
    assert resumed.left == resumed.total == 3
    assert failures(again) == [Reason.LOST] * 2
    assert main(["doctor", "--store", str(store.folder)]) == 0  # for now nobody goes on with it
    require_closed(again)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [20])
def test_a_sweep_killed_at_random_moments_comes_to_its_end(
    store: Store, tmp_path: Path, start: Start, rounds: int
) -> None:
    chance = random.Random(rounds)
    total = 3 + rounds
    study = write(changed(SHORT, {"trials = 3": f"trials = {total}"}), tmp_path)
    args = ("run", "--study", study, "--store", store.folder, "--workers", "2")
    for _ in range(rounds):
        run = start("sweeps", *args)
        with suppress(subprocess.TimeoutExpired):
            run.wait(chance.uniform(1, 8))  # from its imports to its last trial
        kill_all(run)
    assert main([*map(str, args)]) == 0
    require_whole(store, total=total)


def age_heartbeats(store: Store) -> None:
    """Set every heartbeat back by ten minutes, as a clock does that is set forward."""
    with closing(sqlite3.connect(store.folder / "optuna.db", timeout=60)) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-10 minutes')")


def is_silent(store: Store) -> bool:
    """Whether a heartbeat is older than a minute."""
    with closing(sqlite3.connect(store.folder / "optuna.db", timeout=60)) as database:
        old = "SELECT 1 FROM trial_heartbeats WHERE heartbeat < datetime('now', '-1 minutes')"
        return database.execute(old).fetchone() is not None


@pytest.mark.slow
def test_stopped_workers_keep_their_trials(store: Store, tmp_path: Path, start: Start) -> None:
    study = write(ENDLESS, tmp_path)
    run = start("sweeps", "run", "--study", study, "--store", store.folder, "--workers", "2")
    until(lambda: len(at_work(store)) == 2, run)
    os.killpg(run.pid, signal.SIGSTOP)  # Ctrl-Z stops the command as well
    age_heartbeats(store)
    assert main(["doctor", "--store", str(store.folder), "--dry-run"]) == 0
    requeue_lost(open_sweep(store, "mini"))
    assert len(at_work(store)) == 2
    os.killpg(run.pid, signal.SIGCONT)
    age_heartbeats(store)
    until(lambda: not is_silent(store), run)  # by then the command has looked around often
    assert len(at_work(store)) == 2
    os.killpg(run.pid, signal.SIGINT)
    output_of(run, code=130)
    assert [trial.user_attrs[REASON] for trial in trials(store)] == ["interrupted"] * 2


@pytest.mark.slow
def test_two_containers_with_one_host_name_are_two_workers(store: Store, tmp_path: Path) -> None:
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if (
        shutil.which("unshare") is None
        or subprocess.run((*unshare, "true"), check=False).returncode
    ):
        pytest.skip("only root may make a namespace")
    start_sweep(read_study(ENDLESS, source=""), store, trials=None, command=["run"])
    command = (*unshare, sys.executable, "-m", "sweeps", "work", "--study", "mini")
    workers = [
        subprocess.Popen((*command, "--store", str(store.folder)), start_new_session=True)
        for _ in range(2)
    ]
    try:
        until(lambda: len(at_work(store)) == 2)
        assert (
            len({parse_worker(trial.user_attrs[WORKER]).namespace for trial in trials(store)}) == 2
        )
        requeue_lost(open_sweep(store, "mini"))
        assert main(["doctor", "--store", str(store.folder), "--dry-run"]) == 0
        assert len(at_work(store)) == 2
        assert all(worker.poll() is None for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@contextmanager
def locked(database: Path) -> Generator[None]:
    """Somebody writes to it for as long as this lasts."""
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield
        writer.execute("ROLLBACK")


def test_a_worker_waits_for_who_writes_to_either_database(
    store: Store, tmp_path: Path, start: Start
) -> None:
    start_sweep(read_study(QUICK, source=""), store, trials=None, command=["run"])

    def taking() -> bool:
        try:
            with FileLock(store.folder.resolve() / "optuna.db.lock", blocking=False):
                return False
        except Timeout:
            return True

    with locked(store.folder / "mlflow.db"):
        with locked(store.folder / "optuna.db"):
            worker = start("sweeps", "work", "--study", "mini", "--store", store.folder)
            until(taking, worker)
            assert {trial.state for trial in trials(store)} == {TrialState.WAITING}
        until(lambda: any(trial.state == TrialState.RUNNING for trial in trials(store)))
        until(lambda: any((store.folder / "spool").glob("*/records.jsonl")), worker)
    assert worker.wait(DEADLINE) == 0
    assert all(trial.state.is_finished() for trial in trials(store))
    assert main(["doctor", "--store", str(store.folder)]) == 0  # nobody closes the parent run
    sweep = require_whole(store)
    assert not failures(sweep)


@pytest.mark.slow
def test_a_sweep_outlasts_a_write_lock_of_half_a_minute(
    store: Store, tmp_path: Path, start: Start
) -> None:
    study = write(SHORT, tmp_path)
    run = start("sweeps", "run", "--study", study, "--store", store.folder, "--workers", "2")
    until(lambda: at_work(store), run)
    with locked(store.folder / "mlflow.db"), locked(store.folder / "optuna.db"):
        with suppress(subprocess.TimeoutExpired):
            run.wait(30)
        assert run.poll() is None
    output_of(run)
    assert not failures(require_whole(store))


@pytest.mark.slow
def test_sixteen_workers_share_the_databases(store: Store, tmp_path: Path, start: Start) -> None:
    study = write(changed(QUICK, {"trials = 3": "trials = 64"}), tmp_path)
    run = start("sweeps", "run", "--study", study, "--store", store.folder, "--workers", "16")
    output_of(run)
    assert not failures(require_whole(store, total=64))
    logs = [path.read_text() for path in (store.folder / "logs").iterdir()]
    assert (len(logs), "".join(logs)) == (16, "")


@pytest.mark.slow
def test_workers_do_not_grow_over_five_hundred_trials(
    store: Store, tmp_path: Path, start: Start
) -> None:
    study = write(changed(QUICK, {"trials = 3": "trials = 500"}), tmp_path)
    run = start("sweeps", "run", "--study", study, "--store", store.folder, "--workers", "4")
    samples: list[tuple[int, int, int]] = []
    """Of one worker: trials that have ended, bytes of memory, open files."""
    while run.poll() is None:
        done = sum(trial.state.is_finished() for trial in trials(store))
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        for pid in children:
            with suppress(OSError):  # it has just ended
                memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf(
                    "SC_PAGE_SIZE"
                )
                samples.append((done, memory, len(list(Path(f"/proc/{pid}/fd").iterdir()))))
        time.sleep(1.0)
    output_of(run)
    assert not failures(require_whole(store, total=500))
    early = np.median([sample for sample in samples if 100 <= sample[0] < 200], axis=0)
    late = np.median([sample for sample in samples if 400 <= sample[0] < 500], axis=0)
    assert late[1] < 1.05 * early[1]
    assert late[2] <= early[2]
    size = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    print("early", early, "late", late, "bytes per trial", size / 500)
    assert size / 500 < 500_000


@pytest.mark.slow
def test_two_runs_of_a_study_share_its_budget(tmp_path: Path, start: Start) -> None:
    study, store = write(QUICK, tmp_path), Store(tmp_path / "new")
    args = ("run", "--study", study, "--store", store.folder, "--workers", "1")
    runs = [start("sweeps", *args), start("sweeps", *args)]
    for run in runs:
        output_of(run)
    assert not failures(require_whole(store))


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of 48 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount") or "mount"
    command = [mount, "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_a_sweep_in_one_line_and_room_lets_it_go_on(
    small_disk: Path,
    empty: Path,
    tmp_path: Path,
    start: Start,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(Path(shutil.copytree(empty, small_disk / "store")))
    study = write(SHORT, tmp_path)
    run = start("sweeps", "run", "--study", study, "--store", store.folder, "--workers", "2")
    until(lambda: at_work(store), run)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    output, error = run.communicate()
    assert (run.returncode, error.count("\n")) == (1, 1), output + error
    assert f"the disk of {store.folder} is full" in error
    assert main(["run", "--study", str(study), "--store", str(store.folder)]) == 1
    assert capsys.readouterr().err == error
    for name in ("optuna.db", "mlflow.db"):
        with closing(sqlite3.connect(store.folder / name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    filler.unlink()
    assert not set(failures(finish(store, study))) - {"interrupted", Reason.LOST}
