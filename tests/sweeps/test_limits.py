"""What a study limits: the time of a trial, retries, the whole sweep, and the weights it keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

import sweeps.run.objective
from lander.errors import ConfigError
from lander.trainer import TrainResult, train
from sweeps.endings import Attempt, ending, ending_of, run_status, to_retry, why
from sweeps.lifecycle.start import start_sweep
from sweeps.lifecycle.stopping import hours_run, is_plateau, reasons_to_stop
from sweeps.publish.policies import policy_of
from sweeps.publish.publish import publish
from sweeps.reproduce.reproduce import reproduce
from sweeps.run.worker import work
from sweeps.schema import (
    ENDED,
    REASON,
    REMOVED,
    RETRY_OF,
    RUN_ID,
    SEED_SCORES,
    STARTED,
    TRAINING_SEEDS,
    Ending,
)
from sweeps.store.mlflow_client import delete_artifact
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.limits import Stop
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import QUICK, TINY, changed
from tests.sweeps.conftest import Command

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which take seconds to draw."""
    monkeypatch.setattr("sweeps.charts.search.write_figures", lambda *_: [])


def with_key(text: str, line: str) -> str:
    """A study with one more line in its first table."""
    return changed(text, {"[study]\n": f"[study]\n{line}\n"})


def started(store: Store, text: str) -> Sweep:
    return start_sweep(read_study(text, source="x.toml"), store, trials=None, command=["run"])


def worked(store: Store, text: str) -> Sweep:
    sweep = started(store, text)
    work(store, sweep.study.name, index=0, seconds=None)
    return open_sweep(store, sweep.study.name)


# -- the time of a trial ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "reason", "how", "status"),
    [
        (TrialState.PRUNED, "expired: longer than trial_seconds = 5", "expired", "KILLED"),
        (TrialState.PRUNED, None, "pruned", "KILLED"),
        (TrialState.FAIL, "retried: OSError: x", "retried", "FAILED"),
        (TrialState.FAIL, "OSError: retried: x", "failed", "FAILED"),
        (TrialState.FAIL, "diverged: update 1", "failed", "FAILED"),
    ],
)
def test_an_ending_follows_from_the_word_before_the_colon_of_a_reason(
    state: TrialState, reason: str | None, how: str, status: str
) -> None:
    assert ending_of(state, reason) == how
    assert run_status(ending_of(state, reason)) == status


def test_a_trial_that_takes_too_long_expires_counts_and_reproduces(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = with_key(changed(QUICK, {"trials = 3": "trials = 1"}), "trial_seconds = 100")
    now, report = [0.0], optuna.Trial.report

    def late(*args: Any, **kwargs: Any) -> None:
        report(*args, **kwargs)
        now[0] = 100.0

    monkeypatch.setattr(sweeps.run.objective, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(optuna.Trial, "report", late)
    sweep = worked(store, text)
    (trial,) = sweep.read_trials().all
    assert (trial.state, ending(trial)) == (TrialState.PRUNED, Ending.EXPIRED)
    assert trial.user_attrs[REASON] == "expired: longer than trial_seconds = 100"
    assert why(trial) == "longer than trial_seconds = 100"
    run = store.runs().get_run(trial.user_attrs[RUN_ID])
    assert (run.info.status, run.data.tags[REASON]) == ("KILLED", trial.user_attrs[REASON])
    assert "expired at report 1 of 2, return so far" in run.data.tags["mlflow.note.content"]
    assert (sweep.read_trials().left, sweep.read_trials().total) == (0, 1)
    assert reproduce(store, "mini", "0", say=lambda line: None)


def test_a_sampler_learns_from_an_expired_trial_as_from_a_pruned_one(store: Store) -> None:
    sweep = worked(store, with_key(QUICK, "trial_seconds = 0.000001"))
    trials = sweep.optuna.get_trials(states=(TrialState.PRUNED,))  # which TPE ranks last
    assert [ending(trial) for trial in trials] == [Ending.EXPIRED] * 3


# -- retries ---------------------------------------------------------------------------------------


def failing(times: int) -> Callable[..., TrainResult]:
    """Stands for `train`: raises an error so many times, then trains."""
    left = [OSError("the disk is away")] * times

    def attempt(*args: Any, **kwargs: Any) -> TrainResult:
        if left:
            raise left.pop()
        return train(*args, **kwargs)

    return attempt


def test_a_trial_that_raises_is_retried_with_its_seeds_and_counts_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.run.objective, "train", failing(2))
    sweep = worked(store, with_key(TINY, "retries = 2"))
    first, second, third, last = sweep.read_trials().all
    endings = ["retried", "retried", "finished", "finished"]
    assert [ending(trial) for trial in (first, second, third, last)] == endings
    assert second.user_attrs[RETRY_OF] == third.user_attrs[RETRY_OF] == 0
    assert first.user_attrs[REASON] == "retried: OSError: the disk is away"
    assert len(sweep.read_trials().counted) == sweep.read_trials().total == 2
    runs = [store.runs().get_run(trial.user_attrs[RUN_ID]) for trial in (first, third)]
    assert runs[0].data.tags["sweeps.superseded"] == "retried"
    assert runs[0].data.tags[TRAINING_SEEDS] == runs[1].data.tags[TRAINING_SEEDS]
    assert first.params == third.params


def test_a_trial_that_always_raises_has_failed_after_its_retries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.run.objective, "train", failing(2))
    sweep = worked(store, with_key(TINY, "retries = 1"))
    endings = [ending(trial) for trial in sweep.read_trials().all]
    assert endings == ["retried", "failed", "finished"]
    assert sweep.read_trials().all[1].user_attrs[REASON] == "OSError: the disk is away"


def test_five_equal_errors_stop_a_sweep_though_retries_are_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.run.objective, "train", failing(100))
    sweep = worked(store, with_key(TINY, "retries = 10"))
    assert len(sweep.read_trials().all) == 5


def test_a_failed_attempt_with_retries_left_is_to_be_retried_once() -> None:
    failed = [Attempt(0, 0, Ending.RETRIED), Attempt(1, 1, Ending.FAILED)]
    assert to_retry(failed) == [0]
    assert to_retry([*failed, Attempt(2, 0, Ending.FAILED)]) == []


# -- the whole sweep -------------------------------------------------------------------------------


def finished(number: int, value: float, *, minutes: tuple[int, int] = (0, 1)) -> FrozenTrial:
    """A finished trial with parameters of its own, trained in these minutes from noon."""
    distributions: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1_000)}
    start, end = ((NOON + timedelta(minutes=minute)).isoformat() for minute in minutes)
    trial = create_trial(
        value=value,
        params={"x": float(number)},
        distributions=distributions,
        intermediate_values={1: value - 2, 2: value},
        user_attrs={SEED_SCORES: [value], STARTED: start, ENDED: end},
    )
    trial.number = number
    return trial


def test_a_target_is_reached_by_what_is_expected() -> None:
    trials = Trials([finished(0, 10.0), finished(1, 30.0)], budget=9)
    (reason,) = reasons_to_stop(Stop(target=30.0), trials)
    assert reason.startswith("trial 1 is expected to return 30")
    assert reason.endswith("which reaches target = 30")
    assert list(reasons_to_stop(Stop(target=30.1), trials)) == []


def test_a_plateau_is_no_rise_beyond_the_standard_error_of_the_best() -> None:
    # checkpoints 2 apart: a standard error of sqrt(6 * 2**2 / 2) = 3.46, with three trials unshrunk
    rise = [finished(number, value) for number, value in enumerate([10.0, 13.5])]
    flat = [finished(number, value) for number, value in enumerate([10.0, 13.4])]
    assert not is_plateau(rise, 1)
    assert is_plateau(flat, 1)
    assert not is_plateau(flat, 2)  # nothing finished before them
    assert len(list(reasons_to_stop(Stop(plateau=1), Trials(flat, budget=9)))) == 1


def test_hours_are_those_in_which_any_trial_ran() -> None:
    trials = [
        finished(0, 1.0, minutes=(0, 60)),
        finished(1, 1.0, minutes=(30, 90)),  # beside the first
        finished(2, 1.0, minutes=(200, 210)),  # after a pause
    ]
    assert hours_run(trials) == pytest.approx(100 / 60)
    assert len(list(reasons_to_stop(Stop(hours=1.66), Trials(trials, budget=9)))) == 1
    assert list(reasons_to_stop(Stop(hours=1.7), Trials(trials, budget=9))) == []


def test_a_stopped_sweep_says_why_and_goes_on_once_its_file_says_so(
    command: Command, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(f"{TINY}\n[stop]\ntarget = 1\n")
    run = ("run", "--study", file, "--store", store.folder, "--workers", "1")
    done = command(*run)
    assert done.returncode == 0, done.stderr
    assert "stopped: trial 0 is expected to return" in done.stdout
    assert "which reaches target = 1; to go on, change [stop] in the study file" in done.stdout
    assert "1 of 2 trials are left; resume: " in done.stdout
    assert store.runs().get_run(open_sweep(store, "tiny").run_id).info.status == "FINISHED"
    again = command(*run)
    assert "stopped: trial 0" in again.stdout
    assert len(open_sweep(store, "tiny").read_trials().all) == 1
    assert "stopped: trial 0" in command("status", "--store", store.folder).stdout
    file.write_text(f"{TINY}\n[stop]\ntarget = 10_000\n")
    assert "stopped: " not in command(*run).stdout
    assert open_sweep(store, "tiny").read_trials().left == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{TINY}\n[stop]\ngoal = 1\n", '[stop] unknown key "goal": known: hours, plateau, target'),
        (
            f"{TINY}\n[stop]\nplateau = 0\n",
            "[stop] plateau: input should be greater than or equal to 1, got 0",
        ),
        (f"stop = 3\n{TINY}", "[stop] must be a table of keys, got 3"),
    ],
)
def test_a_wrong_stop_table_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_study(text, source="x.toml")
    assert str(refused.value) == f"x.toml: {message}"


def test_limits_leave_the_definition_of_a_study_as_it_is() -> None:
    limited = with_key(TINY, "trial_seconds = 9\nretries = 1\nkeep = 1")
    limited += "\n[stop]\nhours = 1\n"
    plain = read_study(TINY, source="x.toml")
    study = read_study(limited, source="x.toml")
    assert study.fingerprint == plain.fingerprint
    confirming = study.confirming()
    assert (confirming.settings.trial_seconds, confirming.settings.keep) == (None, None)
    assert confirming.stop == Stop()


# -- weights ---------------------------------------------------------------------------------------


def weights(sweep: Sweep, number: int) -> tuple[bool, int]:
    """Whether the run of a trial has weights, and how many models."""
    client, run_id = sweep.store.runs(), sweep.read_trials().all[number].user_attrs[RUN_ID]
    files = [file.path for file in client.list_artifacts(run_id)]
    assert "config.toml" in files
    query = f"source_run_id = '{run_id}'"
    return "policy.pt" in files, len(client.search_logged_models([sweep.experiment_id], query))


def keeping(store: Store) -> Sweep:
    """A sweep of five trials that keeps the weights of the best one, not published yet."""
    return worked(store, with_key(changed(TINY, {"trials = 2": "trials = 5"}), "keep = 1"))


def test_weights_beyond_keep_are_removed_and_their_trials_reproduce(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = keeping(store)
    publish(sweep)
    trials = sweep.read_trials()
    removed = [trial.number for trial in trials.all if trial.user_attrs.get(REMOVED) == []]
    kept = [trial.number for trial in trials.all if trial.number not in removed]
    assert trials.best is not None
    assert {0, trials.best.number} <= set(kept)  # the base and the best
    assert 2 <= len(removed) <= 4
    assert [weights(sweep, number) for number in removed] == [(False, 0)] * len(removed)
    assert [weights(sweep, number) for number in kept] == [(True, 1)] * len(kept)
    assert f"removed the weights of {len(removed)} trials, beyond keep = 1: " in (
        capsys.readouterr().out
    )
    with pytest.raises(ConfigError, match="were removed, as"):
        policy_of(sweep, trials.all[removed[0]])
    assert reproduce(store, "tiny", str(removed[0]), say=lambda line: None)
    publish(sweep)  # again changes nothing
    assert "removed" not in capsys.readouterr().out


def test_a_policy_in_the_registry_is_never_removed(store: Store) -> None:
    sweep = keeping(store)
    client = store.runs()
    for trial in sweep.read_trials().all:
        query = f"source_run_id = '{trial.user_attrs[RUN_ID]}'"
        (model,) = client.search_logged_models([sweep.experiment_id], query)
        name = f"other-{trial.number}"
        client.create_registered_model(name)
        client.create_model_version(
            name, model.model_uri, run_id=trial.user_attrs[RUN_ID], model_id=model.model_id
        )
    publish(sweep)
    assert [weights(sweep, number) for number in range(5)] == [(True, 1)] * 5


def test_an_interrupted_removal_is_completed_by_the_doctor(
    store: Store, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = keeping(store)
    monkeypatch.setattr("sweeps.publish.keeping.delete_artifact", interrupt)
    with pytest.raises(KeyboardInterrupt):
        publish(sweep)
    monkeypatch.undo()
    dry = command("doctor", "--store", store.folder, "--dry-run")
    assert "would repair: tiny still has the weights of " in dry.stdout
    done = command("doctor", "--store", store.folder)
    assert (done.returncode, "repaired: tiny still has" in done.stdout) == (0, True)
    assert "nothing is wrong" in command("doctor", "--store", store.folder).stdout
    removed = [t for t in open_sweep(store, "tiny").read_trials().all if REMOVED in t.user_attrs]
    assert removed
    assert [weights(sweep, trial.number) for trial in removed] == [(False, 0)] * len(removed)


def interrupt(*_: object) -> None:
    """Stands for a deletion."""
    raise KeyboardInterrupt


def test_nothing_outside_the_store_is_deleted(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "policy.pt"
    file.touch()
    with pytest.raises(ConfigError, match="not in the store"):
        delete_artifact(store.runs(), file.as_uri())
    address = f"{store.artifacts_uri}/../../policy.pt"
    with pytest.raises(ConfigError, match="leads out of"):
        delete_artifact(store.runs(), address)
    assert file.exists()
