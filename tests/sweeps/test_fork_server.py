"""The process that forks the workers of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweeps.lifecycle.start import start_sweep
from sweeps.run.fork_server import ForkServer
from sweeps.schema import REASON
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import open_sweep
from tests.processes import alive, until
from tests.studies import ENDLESS


@pytest.fixture(scope="module")
def server() -> Generator[ForkServer]:
    with ForkServer() as server:
        yield server


def gone(pid: int) -> bool:
    return not alive(pid)


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def files_of(pid: int) -> set[str]:
    return {os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir()}


def wait(server: ForkServer, worker: int) -> int | None:
    """The exit code of a worker, once it has ended."""
    codes: list[int | None] = []

    def ended() -> bool:
        codes.append(server.exit_code(worker))
        return codes[-1] is not None

    until(ended)
    return codes[-1]


def test_a_worker_has_the_folder_and_the_environment_of_its_supervisor(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.begin()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEPS_STORAGE", "nothing")
    log = Path("log")
    log.write_text("before\n")
    for environ in ({}, {"SWEEPS_STORAGE": ""}):
        assert wait(server, server.fork(["work"], log=log, environ=environ)) == 2
    before, first, second = log.read_text().splitlines()
    assert before == "before"
    assert "SWEEPS_STORAGE must be postgresql://" in first
    assert "no sweep in mlruns" in second


def test_signals_of_a_group_leave_the_server_and_end_its_workers(
    server: ForkServer, store: Store
) -> None:
    sweep = start_sweep(read_study(ENDLESS, source=""), store, trials=None, command=["run"])
    command = ["work", "--study", "mini", "--store", str(store.folder)]
    log = store.folder / "log"

    def reasons(state: TrialState) -> list[str | None]:
        trials = open_sweep(store, sweep.study.name).read_trials().all
        return [trial.user_attrs.get(REASON) for trial in trials if trial.state == state]

    for count, number in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), 1):
        worker = server.fork(command, log=log, environ={})
        forking = parent_of(worker)
        assert threads_of(forking) == 1
        assert not [name for name in files_of(forking) if name.endswith(".db")]
        until(lambda: len(reasons(TrialState.RUNNING)) == 1)
        os.kill(forking, number)
        if number != signal.SIGKILL:
            assert server.exit_code(worker) is None
            os.kill(worker, number)
            assert wait(server, worker) == 130
        until(partial(gone, worker))
        assert reasons(TrialState.FAIL) == ["interrupted"] * count
    assert server.exit_code(worker) == 1
    with pytest.raises(RuntimeError, match="the process that starts workers broke down"):
        server.fork(command, log=log, environ={})
    assert log.read_text() == "sweeps: interrupted\n" * 3
