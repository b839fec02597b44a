"""The budget is exact: however often a sweep is started, extended or broken off."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from lander.fields import ConfigError
from sweeps.recording import INTERRUPTED, REASON, RETRY_OF
from sweeps.space import defaults
from sweeps.storage import NoTrialLeft, Store, is_gone, this_worker
from sweeps.study import Study, read_study
from sweeps.sweep import Sweep, start_sweep
from tests.conftest import MINI

STUDY = read_study(MINI, source="mini.toml")


def start(store: Store, *, trials: int | None = None, study: Study = STUDY) -> Sweep:
    return start_sweep(study, store, trials=trials, command=["run"])


def count(sweep: Sweep, state: TrialState) -> int:
    return sum(trial.state == state for trial in sweep.trials)


def take(sweep: Sweep) -> optuna.Trial:
    """The next trial, left running: as if its worker were at it."""
    with pytest.warns(UserWarning, match="Heartbeat"):
        return sweep.optuna.ask()


def finish(sweep: Sweep, value: float = 1.0) -> optuna.Trial:
    trial = take(sweep)
    for range_ in sweep.study.space.values():
        range_.suggest(trial)
    sweep.optuna.tell(trial, value)
    return trial


def test_a_sweep_hands_out_its_budget_and_not_one_trial_more(store: Store) -> None:
    sweep = start(store)
    for _ in range(6):
        finish(sweep)
    with pytest.raises(NoTrialLeft):
        sweep.optuna.optimize(lambda trial: 1.0)
    assert len(sweep.trials) == 6


def test_the_defaults_are_trial_0_and_later_trials_are_the_samplers(store: Store) -> None:
    sweep = start(store)
    first, second = finish(sweep), finish(sweep)
    assert first.params == defaults(STUDY.space, STUDY.base)
    assert second.params != first.params


def test_starting_again_adds_nothing_and_extending_adds_the_difference(store: Store) -> None:
    finish(start(store))
    assert len(start(store).trials) == 6
    assert len(start(store, trials=8).trials) == 8
    assert len(start(store).counted) == 8


def test_a_smaller_budget_withdraws_waiting_trials(store: Store) -> None:
    finish(start(store))
    sweep = start(store, trials=2)
    assert (count(sweep, TrialState.WAITING), len(sweep.counted)) == (1, 2)


def test_an_interrupted_trial_does_not_count_and_is_tried_again(store: Store) -> None:
    sweep = start(store)
    trial = take(sweep)
    params = {name: range_.suggest(trial) for name, range_ in STUDY.space.items()}
    trial.set_user_attr(REASON, INTERRUPTED)
    sweep.optuna.tell(trial, state=TrialState.FAIL)
    for _ in range(2):  # a second start must not retry it twice
        sweep = start(store)
        retries = [trial for trial in sweep.trials if RETRY_OF in trial.user_attrs]
        assert [retry.user_attrs[RETRY_OF] for retry in retries] == [0]
        assert (len(sweep.counted), len(sweep.trials)) == (6, 7)
    fixed = optuna.trial.FixedTrial(retries[0].system_attrs["fixed_params"])
    assert {name: range_.suggest(fixed) for name, range_ in STUDY.space.items()} == params


def test_a_trial_whose_worker_has_ended_is_closed_and_tried_again(store: Store) -> None:
    sweep = start(store)
    gone, alive = take(sweep), take(sweep)
    host, pid, started = this_worker().split(":")
    gone.set_user_attr("sweeps.worker", f"{host}:{pid}:{int(started) - 1}")
    alive.set_user_attr("sweeps.worker", this_worker())
    sweep = start(store)
    assert count(sweep, TrialState.RUNNING) == 1
    assert (len(sweep.counted), len(sweep.trials)) == (6, 7)


def test_only_a_worker_of_this_host_that_has_ended_is_gone() -> None:
    host, pid, _ = this_worker().split(":")
    assert not is_gone(this_worker())
    assert not is_gone(f"elsewhere:{pid}:0")
    assert is_gone(f"{host}:{pid}:0")


def test_another_space_under_the_same_name_is_refused_with_the_difference(store: Store) -> None:
    start(store)
    other = read_study(MINI.replace("high = 12", "high = 20"), source="mini.toml")
    with pytest.raises(ConfigError, match=r"ppo\.update_epochs: .*high=12.*then.*high=20.*now"):
        start(store, study=other)


def test_a_grid_runs_every_combination_once_the_defaults_first(store: Store) -> None:
    head, _, _ = MINI.partition("[space]")
    text = head.replace("seed = 3", 'sampler = "grid"').replace("trials = 6", "trials = 99")
    text += (
        '[space]\n"ppo.update_epochs" = { choices = [2, 10] }\n"env.bins" = { choices = [7, 3] }'
    )
    sweep = start(store, study=read_study(text, source="grid.toml"))
    tried = [finish(sweep).params for _ in sweep.trials]
    assert [tuple(params.values()) for params in tried] == [(10, 7), (2, 7), (2, 3), (10, 3)]
