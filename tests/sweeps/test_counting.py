"""Every table counts the same trials, in the same words."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.report.records import read_records
from analysis.report.result import state
from analysis.report.tables import spent
from lander.agent import Divergence
from sweeps.__main__ import main
from sweeps.endings import COUNTED, ending
from sweeps.lifecycle.creation import create
from sweeps.lifecycle.points import fill_points, under_seeds
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.notes import Leaderboard
from sweeps.publish.publish import summarise
from sweeps.publish.view import view_states
from sweeps.record.delivery import deliver_all
from sweeps.record.trial_run import trial_run
from sweeps.run.progress import ProgressTable
from sweeps.run.worker import run_next
from sweeps.schema import (
    NOTE,
    REASON,
    RETRY_OF,
    RUN_ID,
    SHOWN_SCORE,
    TRIAL_NUMBER,
    Ending,
    Reason,
    Role,
)
from sweeps.scores import last_return
from sweeps.store.store import Store
from sweeps.study.space import defaults, suggest
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import MINI, QUICK, changed
from tests.sweeps.test_sweep import finish, start, take

COUNTS = {
    Ending.FINISHED: 2,
    Ending.PRUNED: 1,
    Ending.FAILED: 1,
    Ending.INTERRUPTED: 1,
    Ending.LOST: 1,
    Ending.EXPIRED: 0,
    Ending.RETRIED: 0,
    Ending.WITHDRAWN: 0,
    Ending.RUNNING: 1,
    Ending.WAITING: 2,
}
"""Of a budget of seven: the interrupted trial was tried again and has finished, the lost one was
not yet."""


def words(trial: FrozenTrial) -> str:
    """A description with all that depends on how a trial ended."""
    return f"{ending(trial)} {last_return(trial)}"


def end(error: BaseException | None) -> Callable[[optuna.Trial], float]:
    def act(_: optuna.Trial) -> float:
        if error is not None:
            raise error
        return 1.0

    return act


@pytest.fixture
def mixed(store: Store) -> Sweep:
    """A sweep with a trial of every ending, each with its run."""
    study = read_study(MINI, source="mini.toml")
    sweep = start_sweep(study, store, trials=7, command=["run"])

    def lost(trial: optuna.Trial) -> float:
        sweep.fail(sweep.read_trials().all[trial.number], Reason.LOST)
        return 1.0

    def run(trial: optuna.Trial, act: Callable[[optuna.Trial], float]) -> float:
        with trial_run(
            trial,
            store=store,
            experiment_id=sweep.experiment_id,
            parent_run_id=sweep.run_id,
            role=Role.TRIAL,
            tags={},
            describe=words,
        ):
            suggest(trial, study.space, study.base)
            trial.set_user_attr(SHOWN_SCORE, 1.0)
            trial.report(0.5, step=1)
            return act(trial)

    with pytest.raises(KeyboardInterrupt):
        run_next(sweep.optuna, partial(run, act=end(KeyboardInterrupt())))
    for act in (end(None), end(None), end(optuna.TrialPruned()), end(Divergence("update 1"))):
        run_next(sweep.optuna, partial(run, act=act))
    running = take(sweep)
    running.set_user_attr(REASON, "left by nobody")  # of a running trial it says nothing
    run_next(sweep.optuna, partial(run, act=lost))
    deliver_all(store)
    assert Counter(map(ending, sweep.read_trials().all)) == Counter(COUNTS) - Counter(
        {Ending.WAITING: 2}
    )
    return open_sweep(store, "mini")


def test_a_trial_is_described_as_it_is_stored_once_it_has_ended(mixed: Sweep) -> None:
    client, described = mixed.store.runs(), dict[str, str]()
    for trial in mixed.read_trials().all:
        if RUN_ID in trial.user_attrs:
            tags = client.get_run(trial.user_attrs[RUN_ID]).data.tags
            described[ending(trial)] = tags.get(NOTE, "")
            assert described[ending(trial)] in ("", words(trial))
    assert described == {
        Ending.FINISHED: "finished 1.0",
        Ending.PRUNED: "pruned 0.5",
        Ending.FAILED: "failed None",
        Ending.INTERRUPTED: "interrupted None",
        Ending.LOST: "",
    }


def test_every_table_counts_the_same_trials(
    mixed: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    store, folder = mixed.store, str(mixed.store.folder)
    trials = mixed.read_trials()
    assert (trials.total, trials.left, trials.running, len(trials.counted)) == (7, 2, 1, 5)

    assert main(["status", "--store", folder, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["trials"] == {how.value: count for how, count in COUNTS.items()}
    assert main(["status", "--store", folder]) == 0
    assert "2 finished, 1 pruned, 1 failed, 1 interrupted, 1 lost" in capsys.readouterr().out

    assert main(["trials", "--study", "mini", "--store", folder]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert Counter(row["state"] for row in rows) == Counter(map(ending, mixed.read_trials().all))

    watch = ProgressTable(mixed.study, trials=7)
    for listed in (trials.all, trials.counted):
        shown = watch.summary(listed)
        words = {how: shown[how] for how in ("finished", "pruned", "failed", "running")}
        assert words == {how: str(COUNTS[Ending(how)]) for how in words}

    records = read_records(store, "mini")
    assert {how: records.count(how) for how in COUNTED} == {how: COUNTS[how] for how in COUNTED}
    assert state(records) == "7 trials: 2 finished, 1 pruned, 1 failed, 1 running, 2 waiting."
    assert dict(spent(records))["beside these"].startswith("1 interrupted, 1 lost: retried")

    client = store.runs()
    summarise(client, mixed, Leaderboard(mixed.read_trials()), [])
    tags = client.get_run(mixed.run_id).data.tags
    for how in ("finished", "pruned", "failed", "expired", "lost", "retried"):
        assert tags[f"sweeps.trials_{how}"] == str(COUNTS[Ending(how)])

    with_run = [t for t in mixed.read_trials().counted if t.state != TrialState.RUNNING]
    for view in view_states(mixed.study, mixed.read_trials()).values():
        runs = client.search_runs([mixed.experiment_id], str(view["searchFilter"]))
        assert {run.data.tags[TRIAL_NUMBER] for run in runs} == {str(t.number) for t in with_run}


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (TrialState.COMPLETE, None, Ending.FINISHED),
        (TrialState.COMPLETE, Reason.LOST, Ending.FINISHED),  # closed while somebody gave it up
        (TrialState.PRUNED, None, Ending.PRUNED),
        (TrialState.FAIL, "diverged: update 1", Ending.FAILED),
        (TrialState.FAIL, "worker lost twice", Ending.FAILED),
        (TrialState.FAIL, "interrupted", Ending.INTERRUPTED),
        (TrialState.FAIL, Reason.LOST, Ending.LOST),
        (TrialState.FAIL, None, Ending.LOST),  # by another tool
        (TrialState.FAIL, Reason.WITHDRAWN, Ending.WITHDRAWN),
        (TrialState.RUNNING, None, Ending.RUNNING),
        (TrialState.WAITING, None, Ending.WAITING),
    ],
)
def test_every_trial_has_one_ending(
    state: TrialState, reason: str | None, expected: Ending
) -> None:
    value = 1.0 if state == TrialState.COMPLETE else None
    attributes = {} if reason is None else {REASON: reason}
    assert ending(create_trial(state=state, value=value, user_attrs=attributes)) == expected


def test_a_retry_withdrawn_by_an_earlier_version_gives_its_trial_back(
    store: Store,
) -> None:
    sweep = start(store, trials=2)
    for trial in (take(sweep), take(sweep)):
        trial.set_user_attr(REASON, "interrupted")
        sweep.optuna.tell(trial, state=TrialState.FAIL)
    for number in (0, 1):  # as it did at once
        sweep.optuna.enqueue_trial({}, user_attrs={RETRY_OF: number})
    finish(sweep)
    sweep.fail(sweep.read_trials().all[3], Reason.WITHDRAWN)
    sweep = start(store, trials=2)
    trials = sweep.read_trials()
    assert (trials.total, trials.left) == (2, 1)
    assert finish(sweep).user_attrs[RETRY_OF] == 1
    assert start(store, trials=2).read_trials().left == 0


def test_a_smaller_total_than_what_is_done_withdraws_all_that_waits(store: Store) -> None:
    sweep = start(store, trials=6)
    for _ in range(4):
        finish(sweep)
    for rate in (1e-3, 2e-3):
        sweep.optuna.enqueue_trial({"ppo.learning_rate": rate})
    sweep = start(store, trials=3)
    trials = sweep.read_trials()
    assert (trials.total, trials.left) == (4, 0)
    assert [ending(trial) for trial in trials.all[4:]] == [Ending.WITHDRAWN] * 2


def test_a_confirmation_tries_again_what_it_still_wants(store: Store) -> None:
    study = read_study(MINI, source="mini.toml")
    create(study.confirming(), store, command=["confirm"])
    sweep = open_sweep(store, "mini@confirm")
    chosen = {number: defaults(study.space, study.base) for number in (0, 3)}
    fill_points(sweep, under_seeds(chosen, seeds=2))
    for trial in (take(sweep), take(sweep)):  # both candidates under the first seed
        trial.set_user_attr(REASON, "interrupted")
        sweep.optuna.tell(trial, state=TrialState.FAIL)
    assert sweep.read_trials().left == 4
    fill_points(sweep, {(0, 0): chosen[0]})
    assert sweep.read_trials().left == 1
    again = take(sweep)
    assert again.user_attrs[RETRY_OF] == 0
    assert (again.user_attrs["sweeps.candidate"], again.user_attrs["sweeps.test_seed"]) == (0, 0)
    fill_points(sweep, under_seeds(chosen, seeds=1))
    assert sweep.read_trials().left == 1


# what `run` says


def said(
    text: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[str, str]:
    """What `run` prints, to both channels, when its time is up before it begins."""
    file = tmp_path / "x.toml"
    file.write_text(text)
    where = ["--store", str(store.folder), "--hours", "1e-9", "--no-report"]
    assert main(["run", "--study", str(file), *where, *options]) == 0
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_when_the_time_is_up_run_says_how_many_are_left_and_how_to_resume(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = said(QUICK, store, tmp_path, capsys, "--trials", "5")
    (line,) = (line for line in out.splitlines() if line.startswith("time is up"))
    assert line.startswith("time is up: 5 of 5 trials are left; resume: ")
    assert f"{tmp_path / 'x.toml'}" in line
    assert str(store.folder) in line
    assert "5" in line.partition("resume: ")[2]


def test_a_resumed_sweep_is_announced_with_what_is_done(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = said(QUICK, store, tmp_path, capsys)
    assert "starting mini: 3 trials to go, workers: " in out
    sweep = open_sweep(store, "mini")
    for trial in (take(sweep), take(sweep)):
        sweep.optuna.tell(trial, state=TrialState.PRUNED)
    out, _ = said(QUICK, store, tmp_path, capsys)
    assert "resuming mini: 2 of 3 done, 1 to go, workers: 1\n" in out


def test_a_budget_that_covers_a_part_of_a_grid_only_is_one_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, _ = changed(QUICK, {"seed = 3": 'seed = 3\nsampler = "grid"'}).partition("[space]")
    text = head + (
        '[space]\n"ppo.update_epochs" = { low = 1, high = 100 }\n'
        '"ppo.gae_lambda" = { choices = [0.9, 0.95, 0.98] }\n'
    )
    _, err = said(text, store, tmp_path, capsys)
    assert [line for line in err.splitlines() if "grid" in line] == [
        "sweeps: warning: only 3 of 300 points of the grid are tried, drawn at random"
    ]
