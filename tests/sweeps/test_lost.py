"""Who is lost and who is not; and a trial that is taken away costs its worker nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages._rdb.models import TrialHeartbeatModel
from optuna.trial import TrialState
from sqlalchemy import text, update

from sweeps.doctor.doctor import examine
from sweeps.endings import ending
from sweeps.lifecycle.losses import find_lost, requeue_lost
from sweeps.lifecycle.start import start_sweep
from sweeps.record.delivery import deliver_all
from sweeps.record.outbox import OUTBOXES, outbox_path
from sweeps.record.recorder import MlflowRecorder
from sweeps.run import worker as workers
from sweeps.run.objective import Objective
from sweeps.run.worker import objective_of, run_next
from sweeps.schema import REASON, RETRY_OF, RUN_ID, WORKER, Ending, Reason
from sweeps.store import worker_id
from sweeps.store.store import Store
from sweeps.store.worker_id import is_alive, is_gone, parse_worker, start_of, this_worker
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import python_c
from tests.studies import QUICK, changed

ME = parse_worker(this_worker())


def begun(store: Store, *, worker: str | None = None) -> tuple[Sweep, optuna.Trial]:
    """A sweep whose first trial runs, in this process or in that worker's."""
    sweep = start_sweep(read_study(QUICK, source="tiny.toml"), store, trials=None, command=["run"])
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = sweep.optuna.ask()
    if worker is not None:
        trial.set_user_attr(WORKER, worker)
    return sweep, trial


def set_clock_forward(store: Store) -> None:
    """To the database every heartbeat is ten minutes old."""
    with store.trials().engine.begin() as connection:
        old = text("datetime('now', '-10 minutes')")
        connection.execute(update(TrialHeartbeatModel).values(heartbeat=old))


@pytest.fixture
def stopped() -> Generator[str]:
    """The name of a worker on this host that Ctrl-Z has stopped."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        pid = str(process.pid)
        yield str(replace(ME, pid=pid, started=start_of(pid)))
        process.kill()


# names


@pytest.mark.parametrize(
    ("name", "alive", "gone"),
    [
        (str(ME), True, False),
        (str(replace(ME, started="1")), False, True),
        (str(replace(ME, pid="999999999")), False, True),
        (str(replace(ME, host="elsewhere", started="1")), False, False),
        (str(replace(ME, namespace="1", started="1")), False, False),  # another container
        (str(replace(ME, boot="other", started="1")), False, False),  # a copy of this machine
        (f"{ME.host}:{ME.pid}:{ME.started}", True, False),  # by an earlier version
        (f"{ME.host}:{ME.pid}:1", False, True),
        (f"elsewhere:{ME.pid}:1", False, False),
        ("", False, False),
        ("nonsense", False, False),
    ],
    ids=[  # fixed: a name holds this process's id, and processes share the tests by their names
        "itself",
        "another start",
        "no such process",
        "another host",
        "another namespace",
        "another boot",
        "earlier version",
        "earlier version, another start",
        "earlier version, another host",
        "empty",
        "nonsense",
    ],
)
def test_of_workers_that_cannot_be_seen_from_here_nothing_is_said(
    name: str, alive: bool, gone: bool
) -> None:
    assert (is_alive(name), is_gone(name)) == (alive, gone)


def test_two_processes_have_two_names_and_one_process_keeps_its_own() -> None:
    program = "from sweeps.store.worker_id import this_worker; print(this_worker())"
    other = python_c(program).strip()
    assert this_worker() == str(ME)
    assert parse_worker(other).word != ME.word
    assert replace(parse_worker(other), pid="", started="", word="") == replace(
        ME, pid="", started="", word=""
    )
    assert is_gone(other)


def test_a_process_that_has_ended_and_was_not_collected_yet_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pid = str(process.pid)
    name = str(replace(ME, pid=pid, started=start_of(pid)))
    assert is_alive(name)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert (is_alive(name), is_gone(name)) == (False, True)
    process.communicate()


def test_without_a_visible_proc_only_heartbeats_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = str(replace(ME, pid=str(os.getppid()), started="1"))
    monkeypatch.setattr(worker_id, "PROC", tmp_path)
    assert (is_alive(hidden), is_gone(hidden)) == (False, False)
    worker_id.boot_id.cache_clear()
    mine = this_worker()
    worker_id.boot_id.cache_clear()
    assert parse_worker(mine).started == parse_worker(mine).boot == ""
    assert (is_alive(mine), is_gone(mine)) == (False, False)


# heartbeats


def test_a_worker_that_lives_here_is_not_lost_whatever_the_clock_says(
    store: Store, stopped: str
) -> None:
    for worker in (str(ME), stopped):
        sweep, trial = begun(store, worker=worker)
        set_clock_forward(store)
        assert find_lost(sweep) == []
        optuna.storages.fail_stale_trials(sweep.optuna)
        requeue_lost(sweep)
        start_sweep(sweep.study, store, trials=None, command=["run"])
        assert sweep.read_trials().all[trial.number].state == TrialState.RUNNING
        sweep.optuna.tell(trial, 1.0)


@pytest.mark.parametrize("field", ["host", "boot", "namespace"])
def test_a_silent_worker_that_cannot_be_seen_from_here_is_lost(store: Store, field: str) -> None:
    sweep, trial = begun(store, worker=str(replace(ME, **{field: "other"})))
    assert find_lost(sweep) == []
    set_clock_forward(store)
    assert [lost.number for lost in find_lost(sweep)] == [trial.number]
    requeue_lost(sweep)
    assert ending(sweep.read_trials().all[0]) == Ending.LOST
    trials = sweep.read_trials()
    assert trials.left == trials.total == 3


def test_to_look_for_the_lost_changes_nothing(store: Store) -> None:
    sweep, _ = begun(store, worker=str(replace(ME, host="elsewhere")))
    set_clock_forward(store)

    def content() -> str:
        return hashlib.sha256((store.folder / "optuna.db").read_bytes()).hexdigest()

    before = content()
    assert len(find_lost(sweep)) == 1
    assert content() == before


def test_a_worker_dead_before_its_first_heartbeat_is_lost_elsewhere_too(store: Store) -> None:
    sweep, _ = begun(store, worker=str(replace(ME, host="elsewhere")))
    set_clock_forward(store)  # there is one to set back: it comes with the signature
    assert len(find_lost(sweep)) == 1


# taken away


def give_away(sweep: Sweep) -> None:
    """Others close the first trial while it runs here."""
    first = sweep.read_trials().all[0]
    if first.state == TrialState.RUNNING:
        sweep.fail(first, Reason.LOST)


def before(name: str, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Do something right before a function is called."""
    target, _, attribute = name.rpartition(".")
    owner = MlflowRecorder if target == "recorder" else None
    if owner is None:
        original = pytest.importorskip(target).__dict__[attribute]
    else:
        original = getattr(owner, attribute)

    def acting(*args: object, **kwargs: object) -> object:
        act()
        return original(*args, **kwargs)

    if owner is None:
        patch.setattr(name, acting)
    else:
        patch.setattr(owner, attribute, acting)


def objective(sweep: Sweep) -> Objective:
    return objective_of(sweep, check=lambda: None)


MOMENTS = [
    "recorder.config",  # before the first report
    "recorder.result",  # after the last one, in the final evaluation
    "recorder.summary",
    "sweeps.record.recorder.save_landing",  # its GIF
    "recorder._model",
    "recorder.close",  # its record is being closed
    "sweeps.run.worker.close",  # all is done but for telling Optuna
]


@pytest.mark.parametrize(
    ("moment", "spool"),
    [
        (MOMENTS[1], "kept"),
        (MOMENTS[-1], "kept"),
        (MOMENTS[3], "gone"),
        *(pytest.param(m, "kept", marks=pytest.mark.slow) for m in (MOMENTS[0], *MOMENTS[2:-1])),
        pytest.param(MOMENTS[1], "gone", marks=pytest.mark.slow),
    ],
)
def test_a_trial_taken_away_at_any_moment_costs_its_worker_only_that_trial(
    store: Store, monkeypatch: pytest.MonkeyPatch, moment: str, spool: str
) -> None:
    study = read_study(changed(QUICK, {"trials = 3": "trials = 1"}), source="tiny.toml")
    sweep = start_sweep(study, store, trials=None, command=["run"])

    def act() -> None:
        give_away(sweep)
        if spool == "gone":
            shutil.rmtree(outbox_path(store, "mini", 0), ignore_errors=True)

    with monkeypatch.context() as patch:
        before(moment, act, patch)
        first = run_next(sweep.optuna, objective(sweep))
    assert ending(first) == Ending.LOST
    second = run_next(sweep.optuna, objective(sweep))
    assert (second.user_attrs[RETRY_OF], ending(second)) == (0, Ending.FINISHED)
    assert deliver_all(store) == ""
    assert not [path for path in (store.folder / OUTBOXES).iterdir() if path.is_dir()]
    list(examine(store, dry_run=False))  # whose spool is gone cannot close its run itself
    assert list(examine(store, dry_run=False)) == []
    run = store.runs().get_run(sweep.read_trials().all[0].user_attrs[RUN_ID])
    assert run.info.status == "FAILED"
    if spool == "kept" and moment not in ("recorder.close", "sweeps.run.worker.close"):
        assert run.data.tags[REASON] == Reason.LOST


def test_a_trial_that_is_taken_away_while_optuna_is_told_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = start_sweep(read_study(QUICK, source="x"), store, trials=None, command=["run"])
    monkeypatch.setattr(workers, "is_taken_away", lambda trial: False)

    def taken(trial: optuna.Trial) -> float:
        give_away(sweep)
        return 1.0

    assert ending(run_next(sweep.optuna, taken)) == Ending.LOST


def test_the_outbox_of_a_living_worker_is_left_to_it(store: Store, stopped: str) -> None:
    sweep, trial = begun(store, worker=stopped)
    folder = outbox_path(store, "mini", trial.number)
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text('{"kind": "batch"}\n')
    sweep.fail(sweep.read_trials().all[0], Reason.LOST)
    assert deliver_all(store) == ""
    assert (folder / "records.jsonl").read_text() == '{"kind": "batch"}\n'


def test_a_bug_in_a_sampler_still_ends_its_worker(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, _ = begun(store)
    sweep = open_sweep(store, "mini", sampler_seed=1)

    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(sweep.optuna.sampler, "after_trial", broken)
    with pytest.raises(ValueError, match="a bug"):
        run_next(sweep.optuna, lambda trial: 1.0)
