"""A sweep confirmed as a user does it: seeds that nothing else uses, and the best moves."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState, create_trial

from analysis.__main__ import main
from analysis.confirm import publish_judgement
from analysis.judgement import judgement_of
from lander.config import TrainConfig
from lander.dotted import configure, from_toml
from lander.errors import ConfigError
from lander.seeds import (
    CHECKPOINT_SEED,
    CHOICE_SEED,
    FINAL_SEED,
    FLIGHT_SEED,
    TEST_SEED,
    checkpoint_seeds,
    final_seeds,
)
from sweeps.confirm import DEFAULTS, candidates, read_confirmation, start_confirmation
from sweeps.lifecycle.points import missing
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.run.objective import confirmation_seed, training_seeds, trial_seeds
from sweeps.run.worker import work
from sweeps.schema import (
    CONFIRMED_ALIAS,
    PARENT_RUN,
    POINT,
    RETURNS,
    ROLE,
    RUN_ID,
    SEED_INDEX,
    WINNER,
)
from sweeps.scores import ranked
from sweeps.store.store import Store
from sweeps.store.trials import find_trial
from sweeps.study.space import defaults
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import Completed, python_m
from tests.studies import MINI, changed

STUDY = read_study(MINI, source="mini.toml")


def confirm(store: Path) -> Completed:
    """`make confirm STUDY=mini TOP=1 SEEDS=2`"""
    options = ("--study", "mini", "--top", "1", "--seeds", "2")
    return python_m("analysis", "confirm", *options, "--store", store)


@pytest.fixture(scope="module")
def swept(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Three trials: the defaults, two others."""
    store = Store(Path(shutil.copytree(empty, tmp_path_factory.mktemp("confirm") / "store")))
    sweep = start_sweep(STUDY, store, trials=3, command=["run"])
    work(store, "mini", index=0, seconds=None)
    return sweep


@pytest.fixture(scope="module")
def said(swept: Sweep) -> str:
    """What `make confirm TOP=1 SEEDS=2` prints."""
    store = swept.store.folder
    done = python_m(
        "analysis", "confirm", "--study", "mini", "--store", store, "--top", "1", "--seeds", "2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def confirmation(swept: Sweep, said: str) -> Sweep:
    return open_sweep(swept.store, "mini@confirm")


@pytest.fixture
def client(swept: Sweep) -> MlflowClient:
    return swept.store.runs()


def best_other(sweep: Sweep) -> int:
    """The best trial that is not the defaults."""
    base = defaults(STUDY.space, STUDY.base)
    return next(trial.number for trial in ranked(sweep.read_trials().all) if trial.params != base)


def test_reset_seeds_of_tuning_flying_and_testing_never_meet() -> None:
    ranges = [range(first, first + 1_000_000) for first in (0, CHECKPOINT_SEED, FINAL_SEED)]
    ranges += [range(first, first + 1_000_000) for first in (FLIGHT_SEED, TEST_SEED, CHOICE_SEED)]
    assert not any(set(one) & set(other) for one, other in combinations(ranges, 2))


def test_the_word_in_the_config_chooses_the_final_reset_seeds() -> None:
    config = configure({"final_episodes": 3}, base=TrainConfig())
    test = configure({"final_seeds": "test"}, base=config)
    assert list(final_seeds(config)) == [2_000_000, 2_000_001, 2_000_002]
    assert list(final_seeds(test)) == [4_000_000, 4_000_001, 4_000_002]
    choice = configure({"final_seeds": "choice"}, base=config)
    assert list(final_seeds(choice)) == [6_000_000, 6_000_001, 6_000_002]
    assert checkpoint_seeds(config) == checkpoint_seeds(test)


def test_training_seeds_of_a_confirmation_lie_above_those_of_all_sweeps() -> None:
    tuning = [seed for n in range(1000) for seed in training_seeds(STUDY.settings.seed, n, 3)]
    test = [confirmation_seed(STUDY.settings.seed, index) for index in range(1000)]
    assert max(tuning) < 2**31 <= min(test)
    assert len(set(test)) == 1000


def test_a_study_file_cannot_ask_for_the_test_seeds() -> None:
    text = changed(MINI, {"checkpoints = 2": 'checkpoints = 2\nfinal_seeds = "test"'})
    with pytest.raises(ConfigError, match="the test seeds are for make confirm"):
        read_study(text, source="mini.toml")


def test_the_defaults_and_the_best_are_trained_once_per_test_seed(
    swept: Sweep, confirmation: Sweep
) -> None:
    trials = confirmation.read_trials().all
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    best = best_other(swept)
    places = [(trial.user_attrs[SEED_INDEX], trial.user_attrs[POINT]) for trial in trials]
    assert places == [(0, DEFAULTS), (0, best), (1, DEFAULTS), (1, best)]
    assert trials[1].params == trials[3].params == swept.read_trials().all[best].params
    seeds = [trial_seeds(trial, confirmation.study) for trial in trials]
    first, second = (confirmation_seed(STUDY.settings.seed, index) for index in range(2))
    assert seeds == [[first], [first], [second], [second]]


def test_a_training_is_recorded_under_its_seed_and_scored_on_test_episodes(
    confirmation: Sweep, client: MlflowClient, tmp_path: Path
) -> None:
    trial = confirmation.read_trials().all[1]
    run_id = trial.user_attrs[RUN_ID]
    path = client.download_artifacts(run_id, "config.toml", str(tmp_path))
    config = from_toml(Path(path).read_text(), source="config.toml")
    assert config.seed == confirmation_seed(STUDY.settings.seed, 0)
    assert config.final_seeds == "test"
    assert config.final_episodes == 100
    assert len(trial.user_attrs[RETURNS][0]) == 100
    tags = client.get_run(run_id).data.tags
    assert tags[PARENT_RUN] == confirmation.run_id
    assert tags[ROLE] == "confirm"


def test_the_table_is_printed_and_recorded(
    swept: Sweep, confirmation: Sweep, said: str, client: MlflowClient, tmp_path: Path
) -> None:
    judgement = judgement_of(swept.store, "mini")
    assert judgement.verdict in said
    files = {artifact.path for artifact in client.list_artifacts(confirmation.run_id)}
    assert {"confirm.md", "confirm.json", "confirm.png", "winner.gif"} <= files
    path = client.download_artifacts(confirmation.run_id, "confirm.json", str(tmp_path))
    recorded = json.loads(Path(path).read_text())
    assert recorded["winner"] == judgement.winner.candidate.number
    scores = {row["trial"]: row["scores"] for row in recorded["standings"]}
    assert scores == {one.number: one.scores for one in read_confirmation(swept.store, "mini")}
    run = client.get_run(confirmation.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["confirm/mean"] == judgement.winner.mean.value


def test_the_registered_best_is_the_winner_and_so_is_the_best_trial(
    swept: Sweep, confirmation: Sweep, said: str, client: MlflowClient
) -> None:
    winner = judgement_of(swept.store, "mini").winner
    version = client.get_model_version_by_alias("mini", CONFIRMED_ALIAS)
    runs = {trial.user_attrs[RUN_ID]: trial for trial in confirmation.read_trials().all}
    trained = runs[version.run_id]
    assert trained.user_attrs[POINT] == winner.candidate.number
    assert trained.values[0] == min(winner.candidate.scores)  # of two the worse
    assert f"models:/mini@confirmed is now {winner.name}" in said
    again = open_sweep(swept.store, "mini").optuna
    assert find_trial(again, "confirmed").number == again.user_attrs[WINNER]
    status = python_m("sweeps", "status", "--store", swept.store.folder)
    assert f"confirmed: trial {again.user_attrs[WINNER]}" in status.stdout


def test_pictures_and_table_of_the_confirmation_are_copied_too(
    swept: Sweep, confirmation: Sweep, tmp_path: Path
) -> None:
    publish(swept)  # as `run` does at its end
    out = tmp_path / "figures"
    done = python_m(
        "sweeps", "figures", "--study", "mini", "--store", swept.store.folder, "--out", out
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert {"confirm.md", "confirm.png", "winner.gif", "history.png", "best.gif"} <= names


def test_a_confirmation_reproduces(swept: Sweep, confirmation: Sweep) -> None:
    command = ("reproduce", "--study", "mini@confirm", "--trial", "3")
    done = python_m("sweeps", *command, "--store", swept.store.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS" in done.stdout


def test_of_one_that_is_done_nothing_is_trained_again(
    swept: Sweep, confirmation: Sweep, said: str
) -> None:
    count, store = len(confirmation.read_trials().all), swept.store.folder
    done = python_m(
        "analysis", "confirm", "--study", "mini", "--store", store, "--top", "1", "--seeds", "2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert judgement_of(swept.store, "mini").verdict in done.stdout
    assert len(confirmation.read_trials().all) == count


def test_a_confirmation_needs_no_picture_but_renames_only_with_a_policy(
    swept: Sweep,
    confirmation: Sweep,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judgement = judgement_of(swept.store, "mini")
    before = open_sweep(swept.store, "mini").optuna.user_attrs[WINNER]
    alias = client.get_model_version_by_alias("mini", CONFIRMED_ALIAS)
    client.delete_registered_model_alias("mini", CONFIRMED_ALIAS)
    monkeypatch.setattr("analysis.confirm.LANDING_GIF", "nothing.gif")
    for _ in range(2):  # it can be repeated
        assert publish_judgement(swept.store, "mini", judgement).startswith(
            "models:/mini@confirmed is now"
        )
        assert "sweeps: warning: winner.gif is missing: " in capsys.readouterr().err
    client.delete_tag(confirmation.run_id, "sweeps.warning")
    client.delete_registered_model_alias("mini", CONFIRMED_ALIAS)
    swept.optuna.set_user_attr(WINNER, 1_000)  # as if another had won before

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_logged_models", lambda *_, **__: [])
        with pytest.raises(
            RuntimeError, match="mini@confirmed and trial best stay as they are: run "
        ):
            publish_judgement(swept.store, "mini", judgement)
        assert open_sweep(swept.store, "mini").optuna.user_attrs[WINNER] == 1_000
    swept.optuna.set_user_attr(WINNER, before)
    client.set_registered_model_alias("mini", CONFIRMED_ALIAS, alias.version)


def test_it_may_be_extended_and_what_is_no_longer_asked_for_is_withdrawn(
    swept: Sweep, confirmation: Sweep, client: MlflowClient
) -> None:
    """Not the numbers of the others: this runs last of those that share the confirmation."""
    before = {trial.number for trial in confirmation.read_trials().all}
    alias = client.get_model_version_by_alias("mini", CONFIRMED_ALIAS).run_id
    more = start_confirmation(swept.store, "mini", top=2, seeds=3, command=["confirm"])
    new = [trial for trial in more.read_trials().all if trial.number not in before]
    places = sorted((trial.user_attrs[SEED_INDEX], trial.user_attrs[POINT]) for trial in new)
    best, third = [number for number in candidates(swept, top=2) if number != DEFAULTS]
    assert best == best_other(swept)
    assert places == sorted([(0, third), (1, third), *((2, n) for n in (DEFAULTS, best, third))])
    assert missing(more) == 5
    # what is there is judged, but nobody is made the best by half a confirmation
    message = publish_judgement(swept.store, "mini", judgement_of(swept.store, "mini"))
    assert message == "5 trainings are missing: run the same command to resume"
    assert client.get_model_version_by_alias("mini", CONFIRMED_ALIAS).run_id == alias
    assert client.get_run(more.run_id).info.status == "KILLED"
    fewer = start_confirmation(swept.store, "mini", top=1, seeds=2, command=["confirm"])
    assert fewer.read_trials().left == 0
    assert missing(fewer) == 0


def test_equal_parameters_are_one_candidate_and_defaults_always_one(
    store: Store,
) -> None:
    sweep = start_sweep(STUDY, store, trials=1, command=["run"])
    with pytest.raises(ConfigError, match="mini has no finished trial yet to confirm"):
        candidates(sweep, top=3)
    base = defaults(STUDY.space, STUDY.base)
    ranges = {range_.parameter: range_.distribution for range_ in STUDY.space.values()}
    for rate, value in ((1e-3, 50.0), (2e-3, 80.0), (1e-3, 60.0), (4e-3, 10.0)):
        params = base | {"ppo.learning_rate": rate}
        sweep.optuna.add_trial(create_trial(params=params, distributions=ranges, value=value))
    chosen = candidates(sweep, top=2)
    rates = {number: params["ppo.learning_rate"] for number, params in chosen.items()}
    assert rates == {0: base["ppo.learning_rate"], 2: 2e-3, 3: 1e-3}


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("other", "unknown study in"),
        ("mini@confirm", "analysis: mini@confirm is a confirmation itself: give mini"),
    ],
)
def test_what_cannot_be_confirmed_is_said_in_one_line(
    swept: Sweep,
    confirmation: Sweep,
    capsys: pytest.CaptureFixture[str],
    study: str,
    message: str,
) -> None:
    assert main(["confirm", "--study", study, "--store", str(swept.store.folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
