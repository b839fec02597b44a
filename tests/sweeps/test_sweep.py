"""The budget is exact: however often a sweep is started, extended or broken off."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from lander.errors import ConfigError
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import PARENT_RUN, REASON, RETRY_OF, ROLE, Reason, Role
from sweeps.store.budget_storage import NoTrialLeft
from sweeps.store.store import Store
from sweeps.store.worker_id import parse_worker, this_worker
from sweeps.study.ranges import read_range
from sweeps.study.space import defaults, suggest
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, trial_runs
from tests.studies import MINI, changed

STUDY = read_study(MINI, source="mini.toml")


def start(store: Store, *, trials: int | None = None, study: Study = STUDY) -> Sweep:
    return start_sweep(study, store, trials=trials, command=["run"])


def count(sweep: Sweep, state: TrialState) -> int:
    return sum(trial.state == state for trial in sweep.read_trials().all)


def take(sweep: Sweep) -> optuna.Trial:
    """The next trial, left running: as if its worker were at it."""
    with pytest.warns(UserWarning, match="Heartbeat"):
        return sweep.optuna.ask()


def finish(sweep: Sweep, value: float = 1.0) -> optuna.Trial:
    trial = take(sweep)
    suggest(trial, sweep.study.space, sweep.study.base)
    sweep.optuna.tell(trial, value)
    return trial


def test_a_sweep_hands_out_its_budget_and_not_one_trial_more(store: Store) -> None:
    sweep = start(store)
    for _ in range(6):
        finish(sweep)
    with pytest.raises(NoTrialLeft):
        sweep.optuna.optimize(lambda trial: 1.0)
    assert len(sweep.read_trials().all) == 6


def test_the_defaults_are_trial_0_and_later_trials_are_the_samplers(store: Store) -> None:
    sweep = start(store)
    first, second = finish(sweep), finish(sweep)
    assert first.params == defaults(STUDY.space, STUDY.base)
    assert second.params != first.params


def test_starting_again_adds_nothing_and_extending_adds_the_difference(store: Store) -> None:
    finish(start(store))
    trials = start(store).read_trials()
    assert (trials.total, trials.left) == (6, 5)
    trials = start(store, trials=8).read_trials()
    assert (trials.total, trials.left) == (8, 7)
    assert start(store).read_trials().total == 8


def test_a_smaller_budget_ends_sooner(store: Store) -> None:
    finish(start(store))
    sweep = start(store, trials=2)
    trials = sweep.read_trials()
    assert (trials.total, trials.left) == (2, 1)
    finish(sweep)
    with pytest.raises(NoTrialLeft):
        sweep.optuna.optimize(lambda trial: 1.0)


def test_an_interrupted_trial_does_not_count_and_is_tried_again(store: Store) -> None:
    sweep = start(store)
    trial = take(sweep)
    params = {name: range_.suggest(trial) for name, range_ in STUDY.space.items()}
    trial.set_user_attr(REASON, Reason.INTERRUPTED)
    sweep.optuna.tell(trial, state=TrialState.FAIL)
    for _ in range(2):
        sweep = start(store)
        trials = sweep.read_trials()
        assert (trials.total, trials.left, len(trials.all)) == (6, 6, 1)
    retry, other = take(sweep), take(sweep)  # it is tried again once
    assert retry.user_attrs[RETRY_OF] == 0
    assert {name: range_.suggest(retry) for name, range_ in STUDY.space.items()} == params
    assert RETRY_OF not in other.user_attrs


def test_a_trial_whose_worker_has_ended_is_closed_and_tried_again(store: Store) -> None:
    sweep = start(store)
    gone, alive = take(sweep), take(sweep)
    gone.set_user_attr("sweeps.worker", str(replace(parse_worker(this_worker()), started="1")))
    alive.set_user_attr("sweeps.worker", this_worker())
    sweep = start(store)
    assert count(sweep, TrialState.RUNNING) == 1
    trials = sweep.read_trials()
    assert (trials.total, trials.left, len(trials.all)) == (
        6,
        5,
        2,
    )
    assert take(sweep).user_attrs[RETRY_OF] == gone.number


def test_another_space_under_one_name_is_refused_with_every_difference(store: Store) -> None:
    start(store)
    text = changed(MINI, {"high = 12": "high = 20", "total_steps = 1_024": "total_steps = 512"})
    message = (
        r"\(total_steps: 1024 then, 512 now; ppo.update_epochs: \{ low = 2, high = 12 \} then, "
        r"\{ low = 2, high = 20 \} now\): give it another name"
    )
    with pytest.raises(ConfigError, match=f"{message}$"):  # nothing yet to begin with
        start(store, study=read_study(text, source="mini.toml"))
    with_scores(store, 10.0)
    warm = f"{message}, and with --warm-start mini it begins with the best trials of this one"
    with pytest.raises(ConfigError, match=warm):
        start(store, study=read_study(text, source="mini.toml"))


def warmed(text: str, store: Store) -> Sweep:
    """A sweep of this study that begins with the best trials of `mini`."""
    study = read_study(changed(text, {'name = "mini"': 'name = "warm"'}), source="warm.toml")
    return start_sweep(study, store, trials=9, command=["run"], warm_start="mini")


def with_scores(store: Store, *scores: float) -> Sweep:
    """`mini` with finished trials of these values, each with a learning rate of its own."""
    sweep = start(store)
    for i, score in enumerate(scores):
        params = defaults(STUDY.space, STUDY.base) | {"ppo.learning_rate": (i + 1) * 1e-3}
        ranges = {range_.parameter: range_.distribution for range_ in STUDY.space.values()}
        sweep.optuna.add_trial(create_trial(params=params, distributions=ranges, value=score))
    return sweep


def test_a_warm_start_tries_the_defaults_then_the_best_of_another_sweep(store: Store) -> None:
    with_scores(store, 10.0, 70.0, 30.0, 60.0, 20.0, 50.0, 40.0)
    begun = warmed(MINI, store)
    fixed = [trial.system_attrs.get("fixed_params", {}) for trial in begun.read_trials().all]
    assert fixed[0] == defaults(begun.study.space, begun.study.base)
    rates = [params.get("ppo.learning_rate") for params in fixed[1:]]
    assert rates == [2e-3, 4e-3, 6e-3, 7e-3, 3e-3]
    assert begun.read_trials().total == 9
    assert len(warmed(MINI, store).read_trials().all) == 6  # taken up, it begins with nothing again


def test_of_a_warm_start_what_lies_outside_the_space_is_drawn(store: Store) -> None:
    with_scores(store, 10.0, 20.0)  # at rates 1e-3 and 2e-3
    begun = warmed(changed(MINI, {"low = 3e-4, high = 1e-2": "low = 1.5e-3, high = 1e-2"}), store)
    best, second = (trial.system_attrs["fixed_params"] for trial in begun.read_trials().all[1:3])
    assert best["ppo.learning_rate"] == 2e-3
    assert "ppo.learning_rate" not in second
    assert second["ppo.update_epochs"] == STUDY.base.ppo.update_epochs


def test_a_warm_start_from_nothing_is_refused_and_creates_nothing(store: Store) -> None:
    start(store)
    with pytest.raises(ConfigError, match="no finished trial of mini lies in the space of warm"):
        warmed(MINI, store)
    with pytest.raises(ConfigError, match="unknown study"):
        start_sweep(STUDY, store, trials=1, command=["run"], warm_start="other")
    assert store.study_names() == ["mini"]


@pytest.mark.parametrize(
    "line",
    [
        "{ low = 0.0003, high = 0.01, log = true }",
        "{ low = 0.9, high = 0.999, one_minus_log = true }",
        "{ low = 0.05, high = 0.4 }",
        "{ choices = [0.5, 0.25] }",
    ],
)
def test_a_range_is_shown_as_a_study_file_writes_it(line: str) -> None:
    spec = tomllib.loads(f"range = {line}")["range"]
    assert str(read_range("ppo.gae_lambda", spec)) == line


def test_a_grid_runs_every_combination_once_the_defaults_first(store: Store) -> None:
    head, _, _ = MINI.partition("[space]")
    text = head.replace("seed = 3", 'sampler = "grid"').replace("trials = 6", "trials = 99")
    text += (
        '[space]\n"ppo.update_epochs" = { choices = [2, 10] }\n"env.bins" = { choices = [7, 3] }'
    )
    sweep = start(store, study=read_study(text, source="grid.toml"))
    tried = [tuple(finish(sweep).params.values()) for _ in range(sweep.read_trials().left)]
    assert tried[0] == (10, 7)
    assert sorted(tried) == [(2, 3), (2, 7), (10, 3), (10, 7)]
    with pytest.raises(NoTrialLeft):
        take(sweep)


def test_the_runs_of_trials_are_read_page_by_page_without_replays(store: Store) -> None:
    sweep, client = start(store), store.runs()
    for number, role in enumerate((Role.TRIAL, Role.REPLAY, Role.TRIAL, Role.TRIAL)):
        tags = {PARENT_RUN: sweep.run_id, ROLE: role}
        client.create_run(
            sweep.experiment_id, start_time=1 + number, tags=tags, run_name=f"{number}"
        )
    runs = [run.info.run_name for run in trial_runs(sweep, page_size=1)]
    assert runs == [run.info.run_name for run in trial_runs(sweep)] == ["3", "2", "0"]
    assert not list(trial_runs(sweep, "attributes.status = 'FINISHED'"))
