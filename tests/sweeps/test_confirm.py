"""A sweep confirmed as a user does it: a race under seeds that nothing else uses, and an alias for
what is proven."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.trial import TrialState, create_trial

from analysis.__main__ import main
from analysis.confirm.judgement import judgement_of
from analysis.confirm.plan import define, forecast, proof, seed_deviation
from analysis.confirm.record import conclude
from analysis.confirm.run import run_race
from analysis.confirm.words import verdict
from analysis.race import Plan
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
from sweeps.confirm import (
    Confirmed,
    Race,
    candidates,
    read_candidates,
    read_looks,
    require_race,
)
from sweeps.doctor.repairs import repair_registry
from sweeps.hints import hint
from sweeps.lifecycle.creation import create
from sweeps.lifecycle.points import fill_points, given, seed_and_point, under_seeds
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.run.objective import confirmation_seed, training_seeds, trial_configs, trial_seeds
from sweeps.run.worker import work
from sweeps.schema import (
    CONFIRMED_ALIAS,
    PARENT_RUN,
    REASON,
    RETURNS,
    ROLE,
    RUN_ID,
    WINNER,
)
from sweeps.scores import ranked
from sweeps.store.store import Store
from sweeps.store.trials import find_trial
from sweeps.study.space import defaults
from sweeps.study.study import DEFAULTS, FIRST_REPORT, TUNED, read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import Completed, python_m
from tests.races import begun_race, end, end_stage, take
from tests.studies import MINI, QUICK, changed

STUDY = read_study(MINI, source="mini.toml")


def confirm(store: Path, *options: str) -> Completed:
    """`make confirm STUDY=mini` with these options."""
    return python_m("analysis", "confirm", "--study", "mini", "--store", store, *options)


@pytest.fixture(scope="module")
def swept(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Three trials: the base, two others."""
    store = Store(Path(shutil.copytree(empty, tmp_path_factory.mktemp("confirm") / "store")))
    sweep = start_sweep(STUDY, store, trials=3, command=["run"])
    work(store, "mini", index=0, seconds=None)
    return sweep


@pytest.fixture(scope="module")
def said(swept: Sweep) -> str:
    """What `make confirm TOP=1 TRAININGS=8` prints."""
    done = confirm(swept.store.folder, "--top", "1", "--trainings", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def confirmation(swept: Sweep, said: str) -> Sweep:
    return open_sweep(swept.store, "mini@confirm")


@pytest.fixture
def client(swept: Sweep) -> MlflowClient:
    return swept.store.runs()


@pytest.fixture
def quick(store: Store) -> Sweep:
    """Trials 0, the base, to 3 of a sweep, which scored 10, 20, 30 and 40 without training."""
    sweep = start_sweep(read_study(QUICK, source="mini.toml"), store, trials=4, command=["run"])
    for score in (10.0, 20.0, 30.0, 40.0):
        end(sweep, take(sweep), score)
    return sweep


def best_other(sweep: Sweep) -> int:
    """The best trial that is not the base."""
    base = defaults(STUDY.space, STUDY.base)
    return next(trial.number for trial in ranked(sweep.read_trials().all) if trial.params != base)


def steady(scores: dict[int, float]) -> Callable[[int, int], float]:
    """Scores by candidate, which vary a little with the seed."""
    return lambda index, candidate: scores[candidate] + index % 3


# seeds


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
    indices = [*range(100), *range(1000, 1500), *range(2000, 2500)]
    test = [confirmation_seed(STUDY.settings.seed, index) for index in indices]
    assert max(tuning) < 2**31 <= min(test)
    assert len(set(test)) == len(indices)


@pytest.mark.parametrize("seeds", ["choice", "test"])
def test_a_study_file_cannot_ask_for_the_seeds_of_a_race(seeds: str) -> None:
    text = changed(MINI, {"checkpoints = 2": f'checkpoints = 2\nfinal_seeds = "{seeds}"'})
    with pytest.raises(ConfigError, match=f"the {seeds} seeds are for make confirm"):
        read_study(text, source="mini.toml")


# a race of one, trained


def test_the_base_and_the_best_are_trained_once_per_report_seed(
    swept: Sweep, confirmation: Sweep
) -> None:
    trials = confirmation.read_trials().all
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 8
    best = best_other(swept)
    assert [seed_and_point(trial) for trial in trials] == [
        (2000 + seed, one) for seed in range(4) for one in (best, DEFAULTS)
    ]
    assert trials[0].params == trials[2].params == swept.read_trials().all[best].params
    seeds = [trial_seeds(trial, confirmation.study) for trial in trials]
    first, second = (confirmation_seed(STUDY.settings.seed, index) for index in (2000, 2001))
    assert seeds[:4] == [[first], [first], [second], [second]]


def test_a_training_is_recorded_under_its_seed_and_scored_on_test_episodes(
    confirmation: Sweep, client: MlflowClient, tmp_path: Path
) -> None:
    trial = confirmation.read_trials().all[1]
    run_id = trial.user_attrs[RUN_ID]
    path = client.download_artifacts(run_id, "config.toml", str(tmp_path))
    config = from_toml(Path(path).read_text(), source="config.toml")
    assert config.seed == confirmation_seed(STUDY.settings.seed, 2000)
    assert config.final_seeds == "test"
    assert config.final_episodes == 100
    assert len(trial.user_attrs[RETURNS][0]) == 100
    tags = client.get_run(run_id).data.tags
    assert tags[PARENT_RUN] == confirmation.run_id
    assert tags[ROLE] == "confirm"


def test_the_judgement_is_printed_and_recorded(
    swept: Sweep, confirmation: Sweep, said: str, client: MlflowClient, tmp_path: Path
) -> None:
    judgement = judgement_of(swept.store, "mini")
    assert verdict(judgement) in said
    assert (
        f"candidates: trial {best_other(swept)}; the best of them then meets the base; 8 " in said
    )
    files = {artifact.path for artifact in client.list_artifacts(confirmation.run_id)}
    assert {"confirm.md", "confirm.json", "confirm.png", "winner.gif"} <= files
    path = client.download_artifacts(confirmation.run_id, "confirm.json", str(tmp_path))
    recorded = json.loads(Path(path).read_text())
    assert recorded["verdict"] == verdict(judgement)
    trials = confirmation.read_trials().all
    by_trial = {
        row["trial"]: row["score"]
        for one in recorded["final"]["finalists"]
        for row in one["report"]
    }
    assert by_trial == {
        trial.number: pytest.approx(sum(trial.user_attrs[RETURNS][0]) / 100) for trial in trials
    }
    run = client.get_run(confirmation.run_id)
    assert run.info.status == "FINISHED"
    assert judgement.shown is not None
    assert run.data.metrics["confirm/mean"] == judgement.shown.mean.value
    assert read_looks(confirmation) == [4]


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
    swept: Sweep, confirmation: Sweep, capfd: pytest.CaptureFixture[str]
) -> None:
    count, store = len(confirmation.read_trials().all), swept.store.folder
    assert main(["confirm", "--study", "mini", "--store", str(store)]) == 0
    said = capfd.readouterr().out
    assert verdict(judgement_of(swept.store, "mini")) in said
    assert "candidates: " not in said
    assert len(confirmation.read_trials().all) == count
    assert read_looks(confirmation) == [4]  # the same look again


def registered(client: MlflowClient) -> str | None:
    """The run of models:/mini@confirmed; None if the alias does not exist."""
    try:
        return client.get_model_version_by_alias("mini", CONFIRMED_ALIAS).run_id
    except MlflowException:
        return None


BADLY, WELL = [10.0, 11.0, 12.0, 13.0], [250.0, 251.0, 252.0, 253.0]


def rescored(monkeypatch: pytest.MonkeyPatch, best: Sequence[float], base: Sequence[float]) -> None:
    """Read the trainings of a race of two as if they had returned this."""

    def read(confirmation: Sweep, race: Race) -> list[Confirmed]:
        several = read_candidates(confirmation, race)
        for at, one in enumerate(several):
            scores = base if one.number == DEFAULTS else best
            pairs = zip(one.report, scores, strict=True)
            report = tuple(replace(training, returns=(score,)) for training, score in pairs)
            several[at] = replace(one, report=report)
        return several

    monkeypatch.setattr("analysis.confirm.judgement.read_candidates", read)


def test_the_alias_exists_only_while_something_is_proven(
    swept: Sweep, confirmation: Sweep, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = best_other(swept)
    rescored(monkeypatch, best=WELL, base=BADLY)
    _, outcome = conclude(swept.store, "mini")
    median = f"the policy of the median training of trial {best} under report seeds"
    assert outcome == f"models:/mini@confirmed is {median}"
    trial = confirmation.read_trials().all[2]  # the second of four: of the middle two the worse
    assert registered(client) == trial.user_attrs[RUN_ID]
    version = client.get_model_version_by_alias("mini", CONFIRMED_ALIAS)
    assert f"Confirmed: trial {best}, better than the base. A training" in str(version.description)
    assert open_sweep(swept.store, "mini").optuna.user_attrs[WINNER] == best
    assert client.get_run(confirmation.run_id).data.tags[WINNER] == str(best)
    assert find_trial(swept.optuna, "confirmed").number == best
    status = python_m("sweeps", "status", "--store", swept.store.folder)
    assert f"confirmed: trial {best}" in status.stdout

    rescored(monkeypatch, best=BADLY, base=WELL)
    conclude(swept.store, "mini")
    assert open_sweep(swept.store, "mini").optuna.user_attrs[WINNER] == DEFAULTS
    assert registered(client) == confirmation.read_trials().all[3].user_attrs[RUN_ID]

    rescored(monkeypatch, best=BADLY, base=BADLY[::-1])
    _, outcome = conclude(swept.store, "mini")
    assert outcome == "models:/mini@confirmed is removed: it is no longer confirmed"
    assert registered(client) is None
    assert open_sweep(swept.store, "mini").optuna.user_attrs[WINNER] is None
    assert client.get_run(confirmation.run_id).data.tags[WINNER] == "none"
    assert conclude(swept.store, "mini")[1] == "models:/mini@confirmed does not exist"


def test_a_confirmation_needs_no_picture_but_an_alias_needs_a_policy(
    swept: Sweep,
    confirmation: Sweep,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rescored(monkeypatch, best=WELL, base=BADLY)
    monkeypatch.setattr("analysis.confirm.record.LANDING_GIF", "nothing.gif")
    for _ in range(2):  # it can be repeated
        assert conclude(swept.store, "mini")[1].startswith("models:/mini@confirmed is the policy")
        assert "sweeps: warning: winner.gif is missing: " in capsys.readouterr().err
    client.delete_tag(confirmation.run_id, "sweeps.warning")
    client.delete_registered_model_alias("mini", CONFIRMED_ALIAS)
    assert [finding.text for finding in repair_registry(confirmation, dry_run=False)] == [
        "models:/mini@confirmed is gone: "
        f"{hint('confirm', swept.store.folder, study='mini')} registers it again"
    ]
    swept.optuna.set_user_attr(WINNER, 1_000)  # as if another had won before
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_logged_models", lambda *_, **__: [])
        with pytest.raises(RuntimeError, match="@confirmed and the confirmed trial stay as they"):
            conclude(swept.store, "mini")
    assert open_sweep(swept.store, "mini").optuna.user_attrs[WINNER] == 1_000
    swept.optuna.set_user_attr(WINNER, None)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--study", "other"], "unknown study in"),
        (["--study", "mini@confirm"], "mini@confirm is a confirmation itself: give mini"),
        (["--study", "mini", "--top", "2"], "the race of mini began with its best 1"),
        (["--study", "mini", "--trainings", "3"], "the race of mini has 8 trainings"),
        (["--study", "mini", "--seeds", "3"], "--seeds: was replaced by --trainings"),
    ],
)
def test_what_cannot_be_confirmed_is_said_in_one_line(
    swept: Sweep,
    confirmation: Sweep,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    assert main(["confirm", *argv, "--store", str(swept.store.folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


# who races


def test_equal_parameters_are_one_candidate_and_the_base_always_one(store: Store) -> None:
    sweep = start_sweep(STUDY, store, trials=1, command=["run"])
    with pytest.raises(ConfigError, match="mini has no finished trial yet to confirm"):
        candidates(sweep, top=3)
    base = defaults(STUDY.space, STUDY.base)
    ranges = {range_.parameter: range_.distribution for range_ in STUDY.space.values()}
    sweep.optuna.add_trial(create_trial(params=base, distributions=ranges, value=1.0))
    with pytest.raises(ConfigError, match="mini has no finished trial yet besides its base"):
        candidates(sweep, top=3)
    for rate, value in ((1e-3, 50.0), (2e-3, 80.0), (1e-3, 60.0), (4e-3, 10.0)):
        params = base | {"ppo.learning_rate": rate}
        sweep.optuna.add_trial(create_trial(params=params, distributions=ranges, value=value))
    chosen = candidates(sweep, top=2)
    rates = {number: params["ppo.learning_rate"] for number, params in chosen.items()}
    assert rates == {0: base["ppo.learning_rate"], 3: 2e-3, 4: 1e-3}


def test_the_tuned_defaults_race_where_the_study_begins_elsewhere(store: Store) -> None:
    base = '"env.bins" = 7\n"ppo.learning_rate" = 1e-3\n"env.reward_scale" = 0.01'
    study = read_study(changed(MINI, {'"env.bins" = 7': base}), source="mini.toml")
    sweep = start_sweep(study, store, trials=1, command=["run"])
    end(sweep, take(sweep), 1.0)
    chosen = candidates(sweep, top=3)
    assert list(chosen) == [DEFAULTS, TUNED]
    different = {name: (chosen[DEFAULTS][name], value) for name, value in chosen[TUNED].items()}
    assert {name: pair for name, pair in different.items() if pair[0] != pair[1]} == {
        "ppo.learning_rate": (1e-3, TrainConfig().ppo.learning_rate),
        "env.reward_scale": (0.01, TrainConfig().env.reward_scale),
    }


def test_tuned_defaults_outside_the_space_do_not_race(quick: Sweep) -> None:
    """Its update_epochs are 1 or 2, those of `lander` 10."""
    assert sorted(candidates(quick, top=1)) == [DEFAULTS, 3]


@pytest.mark.parametrize(("top", "least"), [(1, 4), (2, 12), (3, 18)])
def test_a_race_takes_some_trainings_at_least(quick: Sweep, top: int, least: int) -> None:
    with pytest.raises(ConfigError, match=f"takes at least {least} trainings, got {least - 1}"):
        define(quick, None, top=top, trainings=least - 1)
    assert "mini@confirm" not in quick.store.study_names()
    assert (
        Plan(**define(quick, None, top=top, trainings=least).plan).choosing
        == {4: 1, 12: 6, 18: 9}[least]
    )


# a race of two, ended by scores instead of trainings


def test_candidates_race_and_the_winner_meets_the_base_under_report_seeds(quick: Sweep) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=20)
    first = end_stage(confirmation, steady({3: 40.0, 2: 200.0}))
    assert first == [(1000 + seed, one) for seed in range(3) for one in (3, 2)]
    judgement = judgement_of(quick.store, "mini")
    assert [row.number for row in judgement.standings] == [2, 3]
    assert sorted(judgement.course.out) == [3]
    configs = [trial_configs(trial, confirmation.study) for trial in confirmation.read_trials().all]
    assert [config.final_seeds for (config,) in configs] == ["choice"] * 6 + ["test"] * 14
    assert conclude(quick.store, "mini")[1].startswith("14 trainings are missing: run the same")
    assert read_looks(confirmation) == []
    second = end_stage(confirmation, steady({0: 10.0, 2: 200.0}))
    assert second == [(2000 + seed, one) for seed in range(7) for one in (2, 0)]
    assert confirmation.read_trials().left == 0
    assert verdict(judgement_of(quick.store, "mini")).startswith("Confirmed: trial 2, better than")


def test_the_race_goes_on_among_those_that_are_in(quick: Sweep) -> None:
    confirmation = begun_race(quick.store, "mini", top=3, trainings=36)
    wild = {1: [290.0, 300.0, 310.0, 1.0], 2: [291.0, 301.0, 311.0, 1.0], 3: [1.0, 2.0, 3.0]}
    end_stage(confirmation, lambda index, one: wild[one][index - 1000])
    assert sorted(judgement_of(quick.store, "mini").course.out) == [3]
    assert end_stage(confirmation, lambda index, one: wild[one][index - 1000]) == [
        (1003, 2),
        (1003, 1),
    ]


def test_a_race_is_extended_under_report_seeds_only(quick: Sweep) -> None:
    store = quick.store

    def score(index: int, candidate: int) -> float:
        return 10.0 * candidate + 40 * (index % 2)

    confirmation = begun_race(store, "mini", top=1, trainings=4)
    end_stage(confirmation, score)
    assert judgement_of(store, "mini").look == 0
    assert conclude(store, "mini")[1] == "models:/mini@confirmed does not exist"
    begun_race(store, "mini", top=1, trainings=8)
    assert (judgement_of(store, "mini").waiting, judgement_of(store, "mini").look) == (4, 1)
    conclude(store, "mini")
    assert read_looks(confirmation) == [2]  # half of a race is no look
    assert end_stage(confirmation, score) == [(2002, 3), (2002, 0), (2003, 3), (2003, 0)]
    conclude(store, "mini")
    judgement = judgement_of(store, "mini")
    assert judgement.final is not None
    assert read_looks(confirmation) == [2, 4]
    assert judgement.final.level == pytest.approx(0.008)
    with pytest.raises(ConfigError, match="it can only be extended, to more than 8"):
        begun_race(store, "mini", top=1, trainings=6)


def test_before_anything_is_measured_fewer_trainings_may_be_asked_for(quick: Sweep) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=1000)
    begun_race(quick.store, "mini", top=2, trainings=20)
    assert require_race(confirmation).plan == {
        "trainings": 20,
        "choosing": 6,
        "first": 3,
        "looks": 3,
    }
    end_stage(confirmation, steady({0: 10.0, 3: 40.0, 2: 200.0}))
    assert confirmation.read_trials().left == 14
    begun_race(quick.store, "mini", top=2, trainings=18)
    assert confirmation.read_trials().left == 12  # the others are withdrawn


def test_candidates_stay_whatever_the_sweep_does_later(quick: Sweep) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=20)
    start_sweep(quick.study, quick.store, trials=5, command=["run"])
    end(quick, take(quick), 1000.0)
    begun_race(quick.store, "mini", top=2, trainings=20)
    assert sorted(require_race(confirmation).candidates) == [0, 2, 3]
    with pytest.raises(ConfigError, match="its best 2, and its candidates stay: leave --top out"):
        begun_race(quick.store, "mini", top=3, trainings=20)


def test_who_fails_in_the_race_trains_no_more(quick: Sweep) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=20)
    end_stage(confirmation, lambda _, candidate: {0: 10.0, 2: 10.0, 3: None}[candidate])
    judgement = judgement_of(quick.store, "mini")
    assert sorted(judgement.course.out) == [3]
    assert end_stage(confirmation, lambda _, candidate: 1.0)[0] == (2000, 2)


def test_two_commands_that_fill_a_race_enqueue_each_training_once(quick: Sweep) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=20)
    begun_race(quick.store, "mini", top=2, trainings=20)
    trials = given(confirmation.read_trials().counted)
    assert len(trials) == len({seed_and_point(trial) for trial in trials}) == 6


class Nobody:
    """A launcher that must not be asked."""

    remote = False

    @property
    def slots(self) -> int:
        return 1

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> NoReturn:
        raise AssertionError("no worker is needed")


def test_a_command_waits_for_the_trainings_of_another(
    quick: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    confirmation = begun_race(quick.store, "mini", top=1, trainings=4)
    running = [take(confirmation) for _ in range(4)]
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        end(confirmation, running.pop(), 1.0)

    monkeypatch.setattr("analysis.confirm.run.time.sleep", nap)
    assert run_race(confirmation, Nobody(), workers=1)
    assert len(naps) == 4
    said = capsys.readouterr().out
    assert "other commands are running 4 trainings of this stage: waiting" in said
    assert judgement_of(quick.store, "mini").waiting == 0


def test_a_race_whose_trainings_all_fail_alike_stops(
    quick: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=20)

    def failing(*_: object, **__: object) -> bool:
        for trial in [take(confirmation) for _ in range(5)]:
            trial.set_user_attr(REASON, "OSError: no such device")
            confirmation.optuna.tell(trial, state=TrialState.FAIL)
        return True

    monkeypatch.setattr("analysis.confirm.run.run_trials_left", failing)
    with pytest.raises(RuntimeError, match="stopped after 5 identical failures: OSError: no such"):
        run_race(confirmation, Nobody(), workers=1)


def test_an_elimination_is_said_once(
    quick: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=20)

    def train(*_: object, **__: object) -> bool:
        end_stage(confirmation, steady({0: 10.0, 3: 40.0, 2: 200.0}))
        return True

    monkeypatch.setattr("analysis.confirm.run.run_trials_left", train)
    assert run_race(confirmation, Nobody(), workers=1)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("candidates: trial 3, trial 2; the best of them then meets the base;")
    assert said[2:] == [
        "out after 3 choice seeds: trial 3, 41.0 against 201.0 of trial 2, p 2e-09 < 0.033",
    ]


# before it starts


def test_time_and_power_are_said_beforehand(quick: Sweep) -> None:
    confirmation = begun_race(quick.store, "mini", top=2, trainings=20)
    judgement = judgement_of(quick.store, "mini")
    first, second = forecast(quick, confirmation, judgement, workers=2)
    meets = "candidates: trial 3, trial 2; the best of them then meets the base; "
    assert first.startswith(f"{meets}20 trainings, at most ")
    proven = (
        "7 report seeds each, or more, prove with power 0.8 what returns more than the base in "
    )
    assert second == f"{proven}90% of all pairs of trainings"
    end_stage(confirmation, lambda index, one: {0: 10.0, 2: 20.0, 3: 30.0}[one] + 40 * (index % 2))
    judgement = judgement_of(quick.store, "mini")
    first, second = forecast(quick, confirmation, judgement, workers=2)
    assert first.startswith(f"{meets}14 of 20 trainings are left, at most ")
    # two groups of x, x + 40, x: deviation sqrt(1067 / 2) = 23.09
    assert second == (
        f"{proven}90% of all pairs of trainings: 42 on average, if scores vary over seeds by 23 as "
        "so far"
    )


def test_a_race_too_short_to_prove_anything_says_so() -> None:
    """Three above three others is no proof: z(0.98) error(1/2) = 2.0537 sqrt(7 / 108) > 1/2."""
    said = [proof(seeds, level=0.04, deviation=1.0) for seeds in (0, 3, 4)]
    assert said[:2] == [
        "0 report seeds each can prove nothing: give --trainings more",
        "3 report seeds each can prove nothing: give --trainings more",
    ]
    assert said[2].startswith("4 report seeds each, or more, prove with power 0.8")


def test_the_deviation_is_pooled_over_groups() -> None:
    assert seed_deviation([[1.0, 3.0], [10.0, 10.0, 13.0], [5.0], []]) == pytest.approx(
        ((2 + 6) / 3) ** 0.5
    )
    assert np.isnan(seed_deviation([[1.0], []]))


# earlier versions


def test_a_confirmation_of_an_earlier_version_is_no_race(quick: Sweep) -> None:
    """Its seeds count from 0, and the same seeds chose and measured."""
    store = quick.store
    create(quick.study.confirming(), store, command=["confirm"])
    confirmation = open_sweep(store, "mini@confirm")
    chosen = {0: quick.read_trials().all[0].params, 3: quick.read_trials().all[3].params}
    with store.lock:
        fill_points(confirmation, under_seeds(chosen, seeds=2))
    for _ in range(3):
        end(confirmation, take(confirmation), 100.0)
    with pytest.raises(ConfigError, match="is of an earlier version, whose seeds both chose and"):
        judgement_of(store, "mini")
    (config,) = trial_configs(confirmation.read_trials().all[0], confirmation.study)
    assert config.final_seeds == "test"
    begun_race(store, "mini", top=1, trainings=4)
    assert judgement_of(store, "mini").waiting == 4
    assert [seed for seed, _ in end_stage(confirmation, steady({0: 1.0, 3: 90.0}))] == [
        *(FIRST_REPORT, FIRST_REPORT),
        *(FIRST_REPORT + 1, FIRST_REPORT + 1),
    ]
    final = judgement_of(store, "mini").final
    assert final is not None
    assert final.gain.value == 89.0


# interrupted


def test_an_interrupted_race_says_where_it_stands_and_how_to_resume(
    quick: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(confirmation: Sweep, **_: object) -> bool:
        end(confirmation, take(confirmation), 12.0)
        return False

    monkeypatch.setattr("analysis.confirm.run.run_trials_left", interrupted)
    store = quick.store
    options = ("--study", "mini", "--store", str(store.folder), "--top", "2", "--trainings", "20")
    assert main(["confirm", *options]) == 130
    said = capsys.readouterr().out
    assert "The race is on: 2 of 2 candidates are in after 0 choice seeds." in said
    assert said.endswith("5 trainings are missing: run the same command to resume\n")
    run_id = open_sweep(store, "mini@confirm").run_id
    assert store.runs().get_run(run_id).info.status == "KILLED"

    def killed(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.confirm.run.run_trials_left", killed)
    assert main(["confirm", *options]) == 130
    assert "interrupted; run the same command to resume" in capsys.readouterr().err
    assert store.runs().get_run(run_id).info.status == "KILLED"
