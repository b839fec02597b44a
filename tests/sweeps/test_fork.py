"""A fork begins with the trials of another sweep that fit, and trains none of them again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from lander.errors import ConfigError
from sweeps.endings import ending
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.reproduce.reproduce import reproduce
from sweeps.run.objective import trial_configs, trial_seeds
from sweeps.run.worker import work
from sweeps.schema import (
    COPIED_FROM,
    FORK,
    FORKED_FROM,
    REASON,
    RETRY_OF,
    RUN_ID,
    SHOWN_EXPECTED,
    Ending,
    Reason,
)
from sweeps.scores import base_among, expected
from sweeps.store.best_policy import recorded_policy
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, open_sweep, point_to_repeat
from tests.studies import MINI, QUICK, changed
from tests.sweeps.conftest import Command, was_interrupted

STUDY = read_study(MINI, source="mini.toml")
RATE = "ppo.learning_rate"
DISTANCE = "1 - ppo.gae_lambda"


def start(store: Store, study: Study = STUDY, *, fork: str | None = None) -> Sweep:
    return start_sweep(study, store, trials=None, command=["run"], fork=fork)


def ended(sweep: Sweep, value: float, **fields: object) -> None:
    """Add a finished trial: the defaults, with other values of some fields."""
    study = sweep.study
    params = defaults(study.space, study.base)
    params |= {name.replace("_", ".", 1): value for name, value in fields.items()}
    ranges = {range_.parameter: range_.distribution for range_ in study.space.values()}
    sweep.optuna.add_trial(
        create_trial(
            params=params,
            distributions=ranges,
            value=value,
            intermediate_values={1: value - 5, 2: value},
            user_attrs={"sweeps.returns": [[value]]},
        )
    )


@pytest.fixture
def mini_sweep(store: Store) -> Sweep:
    """Trial 0 waits; 1 has the base's values, 2 to 4 others, 5 was pruned and 6 failed."""
    sweep = start(store)
    for value, rate in ((10.0, 3e-3), (40.0, 4e-4), (30.0, 5e-3), (20.0, 9e-3)):
        ended(sweep, value, ppo_learning_rate=rate)
    params = sweep.read_trials().all[2].params
    ranges = {range_.parameter: range_.distribution for range_ in sweep.study.space.values()}
    for state in (TrialState.PRUNED, TrialState.FAIL):
        sweep.optuna.add_trial(create_trial(state=state, params=params, distributions=ranges))
    return sweep


def forked(store: Store, changes: dict[str, str]) -> Sweep:
    text = changed(MINI, {'name = "mini"': 'name = "wide"', **changes})
    return start(store, read_study(text, source="wide.toml"), fork="mini")


def origins(sweep: Sweep) -> list[object]:
    return [trial.user_attrs.get(COPIED_FROM) for trial in sweep.read_trials().all]


WIDER = {"low = 3e-4, high = 1e-2": "low = 1e-4, high = 1e-1"}


def test_a_wider_space_takes_over_every_trained_trial(mini_sweep: Sweep) -> None:
    wide = forked(mini_sweep.store, WIDER)
    assert origins(wide) == [None, *(f"mini trial {n}" for n in range(1, 6)), None]
    trials = wide.read_trials()
    assert [ending(t) for t in trials.all[5:]] == [Ending.PRUNED, Ending.WITHDRAWN]
    for copy, trial in zip(trials.all[1:5], mini_sweep.read_trials().all[1:5], strict=True):
        assert copy.params == trial.params
        assert (copy.values, copy.intermediate_values) == (
            trial.values,
            trial.intermediate_values,
        )
        assert trial_configs(copy, wide.study) == trial_configs(trial, STUDY)
    # six new ones, as the file says, besides the five
    assert (trials.copied, trials.asked, trials.total, trials.left) == (5, 6, 11, 6)
    assert wide.store.runs().get_run(wide.run_id).data.tags[FORKED_FROM] == "mini"


def test_a_resumed_fork_keeps_its_budget_and_copies_nothing_again(mini_sweep: Sweep) -> None:
    wide = forked(mini_sweep.store, WIDER)
    ended(mini_sweep, 50.0)
    trials = forked(mini_sweep.store, WIDER).read_trials()
    assert (len(trials.all), trials.asked) == (7, 6)
    again = start_sweep(wide.study, wide.store, trials=9, command=["run"], fork="mini")
    assert (again.read_trials().asked, again.read_trials().total) == (9, 14)


def test_no_new_trial_of_a_fork_has_the_seeds_of_a_copy(mini_sweep: Sweep) -> None:
    wide = forked(mini_sweep.store, WIDER)
    copies = [t for t in wide.read_trials().all if COPIED_FROM in t.user_attrs]
    with pytest.warns(UserWarning, match="Heartbeat"):
        base, new = wide.optuna.ask(), wide.optuna.ask()
    assert (base.number, new.number) == (0, 7)
    seeds = [tuple(trial_seeds(t, wide.study)) for t in (*copies, base, new)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("changes", "left", "why"),
    [
        ({"low = 3e-4, high = 1e-2": "low = 1e-3, high = 1e-2"}, {2, 5}, "lies outside"),
        ({"low = 3e-4, high = 1e-2": "low = 3e-4, high = 4e-3"}, {3, 4}, "lies outside"),
        # a field that was fixed is searched now, and one that was searched is fixed
        ({"[space]": '[space]\n"ppo.gamma" = { low = 0.9, high = 0.9999 }'}, set(), ""),
        ({'"env.bins"          = { choices = [3, 5, 7] }': ""}, set(), ""),
        # other choices, another scale
        ({"choices = [3, 5, 7]": "choices = [5, 7, 9]"}, set(), ""),
        ({", one_minus_log = true": ""}, set(), ""),
    ],
)
def test_trials_that_do_not_fit_are_left_out_and_named(
    mini_sweep: Sweep,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    left: set[int],
    why: str,
) -> None:
    wide = forked(mini_sweep.store, changes)
    copied = {n for n, origin in enumerate(origins(wide)) if origin is not None}
    assert copied == {1, 2, 3, 4, 5} - left
    said = capsys.readouterr().out
    assert f"wide begins with {5 - len(left)} of the 5 trials of mini" in said
    assert why in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_steps = 1_024": "total_steps = 512"}, "total_steps: 1024 there, 512 here"),
        ({"final_episodes = 2": "final_episodes = 3"}, "final_episodes: 2 there, 3 here"),
        ({"seed = 3": "seed = 4"}, r"cannot be compared .*\(seed: 3 there, 4 here\)"),
        ({"seed = 3": 'seed = 3\nscore = "iqm"'}, r"\(score: mean there, iqm here\)"),
        ({"seed = 3": "seed = 3\nscore_checkpoints = 2"}, "score_checkpoints: none there, 2 here"),
        ({"seed = 3": 'seed = 3\nsampler = "grid"'}, "needs choices"),
    ],
)
def test_scores_that_mean_something_else_are_refused(
    mini_sweep: Sweep, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        forked(mini_sweep.store, changes)
    assert "\n" not in str(caught.value)
    assert mini_sweep.store.study_names() == ["mini"]


def test_the_refusal_of_a_changed_study_names_the_fork(mini_sweep: Sweep) -> None:
    text = changed(MINI, WIDER)
    hint = "give it another name, and with --fork mini it begins with the 5 trials of this one"
    with pytest.raises(ConfigError, match=hint):
        start(mini_sweep.store, read_study(text, source="mini.toml"))


def test_a_sweep_that_has_begun_is_not_forked_into(mini_sweep: Sweep) -> None:
    other = read_study(changed(MINI, {'"mini"': '"wide"'}), source="wide.toml")
    start(mini_sweep.store, other)
    with pytest.raises(ConfigError, match="has begun, and not as a fork of mini: leave --fork out"):
        start(mini_sweep.store, other, fork="mini")


def test_a_fork_and_a_warm_start_exclude_each_other(mini_sweep: Sweep) -> None:
    study = read_study(changed(MINI, {'"mini"': '"wide"'}), source="wide.toml")
    with pytest.raises(ConfigError, match="leave one of them out"):
        start_sweep(
            study, mini_sweep.store, trials=None, command=[], warm_start="mini", fork="mini"
        )


def test_of_a_base_that_was_retried_the_retry_is_copied(store: Store) -> None:
    sweep = start(store)
    with pytest.warns(UserWarning, match="Heartbeat"):
        first = sweep.optuna.ask()
    trial_configs(first, sweep.study)
    first.set_user_attr(REASON, Reason.INTERRUPTED)
    sweep.optuna.tell(first, state=TrialState.FAIL)
    with pytest.warns(UserWarning, match="Heartbeat"):
        retry = sweep.optuna.ask()
    trial_configs(retry, sweep.study)
    sweep.optuna.tell(retry, 70.0)
    trials = forked(store, WIDER).read_trials().all
    assert [ending(trial) for trial in trials] == [Ending.WITHDRAWN, Ending.FINISHED]
    assert trials[1].user_attrs[RETRY_OF] == 0
    base = base_among(trials, expected(trials))
    assert base is not None
    assert base.trial.number == 1


def test_a_fork_repeats_after_its_share_of_the_new_trials(mini_sweep: Sweep) -> None:
    settings = replace(STUDY.settings, repeat_from=0.5)
    study = replace(STUDY, settings=replace(settings, name="wide"))
    wide = start(mini_sweep.store, study, fork="mini")

    def repeats(number: int) -> bool:
        trial = FrozenTrial(
            number, TrialState.RUNNING, None, None, None, {}, {}, {}, {}, {}, number
        )
        return point_to_repeat(settings, wide.optuna, trial) is not None

    # numbers 0 to 6 are taken: of the six new ones 7 to 9 explore
    for _ in range(30):  # enough to compare: a repetition is chosen among the likely best
        ended(wide, 10.0)
    wide.optuna.set_user_attr("sweeps.budget", 11)
    assert not repeats(9)
    assert repeats(10)


def test_a_fork_interrupted_while_it_copies_is_completed_by_any_run(mini_sweep: Sweep) -> None:
    store = mini_sweep.store
    text = changed(MINI, {'name = "mini"': 'name = "wide"', **WIDER})
    study = read_study(text, source="wide.toml")
    for call in range(1, 80, 7):
        begun = store.study_names()[1:]
        forks = [FORK in store.load_study(name, anywhere=True).user_attrs for name in begun]
        original = None if any(forks) else "mini"
        if not was_interrupted(partial(start, store, study, fork=original), call):
            break
    assert original is None
    assert origins(open_sweep(store, "wide"))[1:6] == [f"mini trial {n}" for n in range(1, 6)]


# --- real trainings ---


@pytest.fixture(scope="module")
def trained(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A sweep of three trials, its fork with one new one, both published."""
    store = Store(Path(shutil.copytree(empty, tmp_path_factory.mktemp("fork") / "store")))
    study = read_study(QUICK, source="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.charts.search.write_figures", lambda *_: [])
        first = start(store, study)
        work(store, "mini", index=0, seconds=None)
        publish(first)
        text = changed(
            QUICK, {'"mini"': '"wide"', "trials = 3": "trials = 1", "high = 2 ": "high = 3 "}
        )
        wide = start(store, read_study(text, source=""), fork="mini")
        work(store, "wide", index=0, seconds=None)
        publish(wide)
    return store


def test_a_fork_trains_only_what_is_new_and_the_doctor_agrees(
    trained: Store, command: Command
) -> None:
    trials = open_sweep(trained, "wide").read_trials()
    original = open_sweep(trained, "mini").read_trials().all
    assert [COPIED_FROM in trial.user_attrs for trial in trials.all] == [True] * 3 + [False]
    assert [t.user_attrs[RUN_ID] for t in trials.all[:3]] == [
        t.user_attrs[RUN_ID] for t in original
    ]
    assert trials.left == 0
    assert command("doctor", "--store", trained.folder).returncode == 0
    assert "nothing is wrong" in command("doctor", "--store", trained.folder).stdout


def test_what_the_run_of_a_copy_shows_is_of_the_sweep_that_trained_it(trained: Store) -> None:
    wide, mini = (open_sweep(trained, name) for name in ("wide", "mini"))
    client = trained.runs()
    for copy, trial in zip(wide.read_trials().all, mini.read_trials().all, strict=False):
        assert copy.user_attrs.get(SHOWN_EXPECTED) == trial.user_attrs.get(SHOWN_EXPECTED)
        history = client.get_metric_history(str(trial.user_attrs[RUN_ID]), "rank")
        assert {point.step for point in history} <= {3}


def test_a_copied_trial_reproduces_by_the_receipt_of_its_original(trained: Store) -> None:
    lines: list[str] = []
    assert reproduce(trained, "wide", "1", say=lines.append) == "PASS"
    assert "every one bit-equal" in lines[-1]


def test_the_best_policy_of_a_fork_may_be_one_that_was_copied(trained: Store) -> None:
    policy = recorded_policy(open_sweep(trained, "wide").optuna)
    assert policy is not None
    client = trained.runs()
    assert client.get_model_version_by_alias("wide", "best").run_id == policy.run_id


def test_the_trials_of_a_fork_say_where_they_are_from(trained: Store, command: Command) -> None:
    lines = command("trials", "--study", "wide", "--store", trained.folder).stdout.splitlines()
    assert lines[0].startswith("trial,origin,")
    assert [line.split(",")[1] for line in lines[1:]] == [
        "mini trial 0",
        "mini trial 1",
        "mini trial 2",
        "",
    ]
    assert "origin" not in command("trials", "--study", "mini", "--store", trained.folder).stdout
