"""What becomes of workers that die, and what is said while a sweep runs."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from sweeps.lifecycle.start import start_sweep
from sweeps.run import local, supervisor
from sweeps.run.fork_server import ForkServer
from sweeps.run.local import LocalLauncher
from sweeps.run.progress import ProgressTable, clock
from sweeps.run.supervisor import PUBLISHED_WITH, Supervisor, Worker, run_workers
from sweeps.schema import REASON, Reason
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep
from tests.studies import MINI

TABLE = ProgressTable(read_study(MINI, source="mini.toml"), trials=6)

TAKES_ONE_AND_DIES = """
import os, signal, sys, warnings
from pathlib import Path
from sweeps.store.store import Store
warnings.simplefilter("ignore")
Store(Path(sys.argv[1])).load_study("mini").ask()
os.kill(os.getpid(), signal.SIGKILL)
"""


def begin(store: Store, *, trials: int) -> Sweep:
    study = read_study(MINI, source="mini.toml")
    return start_sweep(study, store, trials=trials, command=["run"])


def test_workers_that_cannot_begin_are_not_started_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def command(_sweep: Sweep, *, index: int, seconds: float | None) -> Sequence[str]:
        started.append(index)
        return ["work", "--no-such-option"]

    monkeypatch.setattr(local, "worker_command", command)
    sweep = begin(store, trials=6)
    with (
        ForkServer() as server,
        pytest.raises(RuntimeError, match=r"the workers broke down: see .*mini-worker-1\.log"),
    ):
        run_workers(Supervisor(sweep, LocalLauncher(server), 2, None), table=TABLE)
    assert started == [0, 1]
    for log in (store.folder / "logs").iterdir():
        assert "--no-such-option" in log.read_text()


@dataclass
class Dying:
    """A launcher, and its workers: each takes a trial and dies."""

    process: subprocess.Popen[bytes] | None = None
    remote = False
    slots = 1
    failure = ""

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> Dying:
        command = [sys.executable, "-c", TAKES_ONE_AND_DIES, str(sweep.store.folder)]
        return Dying(subprocess.Popen(command))

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def interrupt(self) -> None: ...

    def kill(self) -> None: ...


def test_a_trial_that_ends_its_workers_is_tried_twice_and_has_failed_then(store: Store) -> None:
    sweep = begin(store, trials=1)
    assert run_workers(Supervisor(sweep, Dying(), 1, None), table=TABLE)
    assert [trial.user_attrs[REASON] for trial in sweep.read_trials().all] == [
        Reason.LOST,
        Reason.LOST_AGAIN,
    ]
    assert [trial.state for trial in sweep.read_trials().counted] == [TrialState.FAIL]


@dataclass
class Script:
    """A launcher, and its workers: each has ended when it was asked `asked` times, idle."""

    asked: int
    remote = False
    slots = 2
    failure = ""

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> Script:
        return Script(self.asked)

    @property
    def ended(self) -> bool:
        self.asked -= 1
        return self.asked < 0

    def interrupt(self) -> None: ...

    def kill(self) -> None: ...


def test_the_supervisor_reads_the_trials_once_per_look(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.0)
    reads, looks = [0], list[int]()
    read = optuna.Study.get_trials

    def counted(study: optuna.Study, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        reads[0] += 1
        return read(study, *args, **kwargs)

    supervised = Supervisor(begin(store, trials=6), Script(asked=10), 2, None)
    monkeypatch.setattr(optuna.Study, "get_trials", counted)
    monkeypatch.setattr(TABLE, "update", lambda trials: looks.append(reads[0]))
    assert run_workers(supervised, table=TABLE)
    assert looks == list(range(1, len(looks) + 1))
    assert reads[0] == len(looks) > 3


def test_a_supervisor_that_only_watches_reads_the_trials_every_two_seconds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Supervisor(begin(store, trials=6), Script(asked=0), 0, 10.0)
    now, looks = [time.monotonic()], list[float]()
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: now.append(now.pop() + s))
    monkeypatch.setattr(supervisor, "time", clock)
    monkeypatch.setattr(TABLE, "update", lambda trials: looks.append(now[0]))
    assert run_workers(watching, table=TABLE)
    assert len(looks) >= 5
    assert all(later - earlier >= 2.0 for earlier, later in pairwise(looks))


@pytest.mark.parametrize(("trials", "expected"), [(1, set(PUBLISHED_WITH)), (2, set())])
def test_what_publishes_is_imported_while_the_last_trial_is_trained(
    store: Store, monkeypatch: pytest.MonkeyPatch, trials: int, expected: set[str]
) -> None:
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.0)
    imported = set[str]()
    monkeypatch.setattr(supervisor, "import_module", imported.add)
    sweep = begin(store, trials=trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # heartbeats without `optimize`
        sweep.optuna.ask()
    workers: list[Worker] = [Script(asked=0), Script(asked=20)]
    assert run_workers(Supervisor(sweep, Script(asked=0), 2, 0.0, workers), table=TABLE)
    assert imported == expected


def test_times_are_written_as_on_a_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3599, 3661)] == [
        "0:00",
        "1:00",
        "1:01",
        "59:59",
        "1:01:01",
    ]
