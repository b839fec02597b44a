"""The servers of a sweep restart, are killed and run out of connections, and a host is cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from optuna.trial import FrozenTrial, TrialState
from psycopg import sql

from sweeps.__main__ import main
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import REASON, RETRY_OF, Reason
from sweeps.store.database import STORAGE_ENV
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep
from tests.cluster.conftest import Hosts
from tests.cluster.hosts import LIMIT
from tests.cluster.postgres import Postgres
from tests.cluster.test_postgres import doubled, worker
from tests.processes import TrackingServer, output_of, until
from tests.studies import SHORT, changed
from tests.sweeps.test_survival import at_work, require_whole, trials

pytestmark = pytest.mark.cluster
TOTAL: Final = 12
STUDY: Final = changed(SHORT, {"trials = 3": f"trials = {TOTAL}"})
LONG: Final = changed(STUDY, {"checkpoints = 2": "checkpoints = 8", "4_096": "16_384"})
QUICK: Final = """
import socket, sys
import sweeps.store.budget_storage
from sweeps.__main__ import main

name, grace, *args = sys.argv[1:]
socket.gethostname = lambda: name
sweeps.store.budget_storage.HEARTBEAT, sweeps.store.budget_storage.GRACE = 1, int(grace)
sys.exit(main(args))
"""
"""`python -m sweeps` on a host of that name, whose processes nobody here can see; it gives signs of
life each second, and misses those of others sooner."""


def write(text: str, folder: Path) -> Path:
    path = folder / "mini.toml"
    path.write_text(text)
    return path


def ended(store: Store) -> list[FrozenTrial]:
    return [trial for trial in trials(store) if trial.state.is_finished()]


def further(store: Store, *, than: int) -> bool:
    """Whether more trials have ended, and others are running."""
    return len(ended(store)) > than and bool(at_work(store))


def require_nothing_lost(store: Store, postgres: Postgres, *, total: int = TOTAL) -> Sweep:
    """The total is exact, no trial failed, nothing is recorded twice, nothing needs repair."""
    sweep = require_whole(store, total=total)
    assert [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL] == []
    assert doubled(postgres) == []
    assert main(["doctor", "--store", str(store.folder)]) == 0
    return sweep


def test_a_sweep_outlasts_every_way_in_which_postgresql_can_restart(
    remote: Store, host: Hosts, tmp_path: Path, postgres: Postgres
) -> None:
    total = 2 * TOTAL  # on a fast machine half of them have ended before the last restart
    text = changed(LONG, {f"trials = {TOTAL}": f"trials = {total}"})
    run = host("here").start("run", "--study", write(text, tmp_path), "--workers", "2")
    for how in ("fast", "immediate", "kill"):
        before = len(ended(remote))
        until(partial(further, remote, than=before), run)
        postgres.restart(how)
    output_of(run, seconds=LIMIT)
    sweep = require_nothing_lost(remote, postgres, total=total)
    assert len(sweep.read_trials().all) == total


def test_more_workers_than_connections_wait_for_their_turn(
    remote: Store, host: Hosts, tmp_path: Path, postgres: Postgres
) -> None:
    limit_connections(postgres, 3)
    run = host("here").start("run", "--study", write(STUDY, tmp_path), "--workers", "4")
    until(lambda: "too many connections for database" in postgres.log, run)
    until(lambda: any_finished(postgres), run)  # workers with a connection continue
    limit_connections(postgres, -1)
    output_of(run, seconds=LIMIT)
    require_nothing_lost(remote, postgres)


def any_finished(postgres: Postgres) -> bool:
    """Whether a trial is finished, asked as superuser, for whom no limit holds."""
    statement = "SELECT 1 FROM trials WHERE state = 'COMPLETE' LIMIT 1"
    return bool(postgres.execute(statement, os.environ[STORAGE_ENV].rpartition("/")[2]))


def limit_connections(postgres: Postgres, limit: int) -> None:
    """Limit the connections to the database of trials; -1 lifts the limit."""
    name = sql.Identifier(os.environ[STORAGE_ENV].rpartition("/")[2])
    statement = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
    postgres.execute(statement.format(name, sql.Literal(limit)))


def test_a_sweep_outlasts_the_death_of_its_tracking_server(
    remote: Store, host: Hosts, tmp_path: Path, postgres: Postgres, tracking: TrackingServer
) -> None:
    run = host("here").start("run", "--study", write(STUDY, tmp_path), "--workers", "2")
    until(lambda: further(remote, than=0), run)
    before = len(ended(remote))
    tracking.stop("kill")
    until(lambda: len(ended(remote)) > before + 1, run)  # they end without it
    tracking.start()
    output_of(run, seconds=LIMIT)
    require_nothing_lost(remote, postgres)


def test_a_worker_that_was_cut_off_loses_its_trial_to_another_and_goes_on(
    remote: Store, host: Hosts, postgres: Postgres
) -> None:
    start_sweep(read_study(LONG, source=""), remote, trials=None, command=["run"])

    def work(name: str, *, grace: int) -> subprocess.Popen[str]:
        command = (sys.executable, "-c", QUICK, name, str(grace))
        return host(name).start("work", "--study", "mini", command=command)

    first = work("first", grace=120)
    until(lambda: at_work(remote), first)
    cut_off(first, postgres)
    ((number, _),) = at_work(remote).items()
    second = work("second", grace=8)
    until(lambda: retries(remote), second)
    first.send_signal(signal.SIGCONT)
    output_of(first, seconds=LIMIT)
    output_of(second, seconds=LIMIT)
    assert main(["doctor", "--store", str(remote.folder)]) == 0  # closes the parent run
    sweep = require_whole(remote, total=TOTAL)
    failed = [trial for trial in sweep.read_trials().all if trial.state == TrialState.FAIL]
    assert [(trial.number, trial.user_attrs[REASON]) for trial in failed] == [(number, Reason.LOST)]
    assert [trial.user_attrs[RETRY_OF] for trial in retries(remote)] == [number]
    assert (
        max(trial.number for trial in sweep.read_trials().all if worker(trial) == first.pid)
        > number
    )
    assert doubled(postgres) == []


def cut_off(process: subprocess.Popen[str], postgres: Postgres) -> None:
    """Stop a process while it asks nothing of the database. Of a host that is cut off in the midst
    of that the server would end the transaction; it does not know of this one."""
    database = os.environ[STORAGE_ENV].rpartition("/")[2]
    busy = sql.SQL(
        "SELECT 1 FROM pg_stat_activity WHERE datname = {} AND state <> 'idle' "
        "UNION ALL SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    ).format(sql.Literal(database))

    def stopped() -> bool:
        process.send_signal(signal.SIGSTOP)
        if not postgres.execute(busy):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    until(stopped)


def retries(store: Store) -> list[FrozenTrial]:
    return [trial for trial in trials(store) if RETRY_OF in trial.user_attrs]
