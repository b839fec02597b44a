"""What is published is published once, and is never what another tool put into the study."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import optuna
import pytest
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from optuna.trial import TrialState, create_trial

from lander.errors import ConfigError
from sweeps.doctor.doctor import check_up, examine
from sweeps.lifecycle.losses import requeue_lost
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.publish.registry import move_alias, remove_alias
from sweeps.schema import BEST_ALIAS, BUDGET, CONFIRMED_ALIAS, RUN_ID, SWEEP_ID
from sweeps.store.store import Store
from sweeps.study.space import suggest
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.studies import TINY, changed
from tests.sweeps.conftest import Command, at_each_call, was_interrupted
from tests.sweeps.test_dry_run import lost_trial


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which take seconds to draw."""
    monkeypatch.setattr("sweeps.charts.search.write_figures", lambda *_: [])


def move(sweep: Sweep, run_id: str, *, alias: str = BEST_ALIAS, description: str = "a") -> None:
    move_alias(sweep.store.runs(), sweep, run_id=run_id, alias=alias, description=description)


def first_line(version: ModelVersion) -> str:
    """What is behind it is a landing, and the tuning card."""
    text, picture, card, _ = str(version.description).split("\n\n")
    assert card == "### Tuning card: tiny"
    assert picture == f"![a landing](get-artifact?path=landing.gif&run_uuid={version.run_id})"
    return text


def test_a_registration_interrupted_at_any_call_is_completed_once(
    finished: Store,
) -> None:
    client, sweep = finished.runs(), open_sweep(finished, "tiny")
    run_id = sweep.read_trials().all[0].user_attrs[RUN_ID]
    for number in count(1):
        client.delete_registered_model("tiny")

        def register() -> None:
            move(sweep, run_id, description="Shown on 100 episodes")

        interrupted = was_interrupted(register, number)
        register()
        (version,) = client.search_model_versions("name = 'tiny'")
        assert client.get_model_version_by_alias("tiny", BEST_ALIAS).version == version.version
        assert version.run_id == run_id
        assert first_line(version) == "Shown on 100 episodes"
        assert version.tags["optuna.trial_number"] == "0"
        if not interrupted:
            break
    assert number > 5


def test_a_version_that_is_no_longer_the_best_says_what_it_is(finished: Store) -> None:
    client, sweep = finished.runs(), open_sweep(finished, "tiny")
    for trial in sweep.read_trials().all:
        move(sweep, trial.user_attrs[RUN_ID])
    by_trial = {
        version.tags["optuna.trial_number"]: version for version in client.search_model_versions()
    }
    assert set(by_trial) == {"0", "1"}
    score = client.get_run(str(by_trial["0"].run_id)).data.metrics["final/return_mean"]
    assert by_trial["0"].description == (
        f"The policy of trial-0000: final/return_mean {score:.1f}. It was models:/tiny@best before "
        f"version {by_trial['1'].version}."
    )
    version = client.search_model_versions()[0]
    client.update_model_version("tiny", version.version, "")  # as older versions left it
    assert [finding.text for finding in examine(finished, dry_run=False)] == [
        f"version {version.version} of models:/tiny has no description: added"
    ]
    assert not list(examine(finished, dry_run=False))


def test_two_aliases_name_two_policies_and_one_is_removed_alone(finished: Store) -> None:
    client, sweep = finished.runs(), open_sweep(finished, "tiny")
    first, second = (trial.user_attrs[RUN_ID] for trial in sweep.read_trials().all)
    move(sweep, first)
    move(sweep, second, alias=CONFIRMED_ALIAS, description="proven")
    aliases = client.get_registered_model("tiny").aliases
    assert set(aliases) == {BEST_ALIAS, CONFIRMED_ALIAS}
    proven = client.get_model_version_by_alias("tiny", CONFIRMED_ALIAS)
    assert (proven.run_id, first_line(proven)) == (second, "proven")
    assert [remove_alias(client, sweep, alias=CONFIRMED_ALIAS) for _ in range(2)] == [True, False]
    assert set(client.get_registered_model("tiny").aliases) == {BEST_ALIAS}
    assert client.get_model_version("tiny", proven.version).run_id == second
    assert client.get_model_version_by_alias("tiny", BEST_ALIAS).run_id == first


def test_a_version_that_is_shown_again_says_what_was_shown_last(finished: Store) -> None:
    client, sweep = finished.runs(), open_sweep(finished, "tiny")
    run_id = sweep.read_trials().all[0].user_attrs[RUN_ID]
    for description in ("of 3 policies", "of 8 policies"):
        move(sweep, run_id, description=description)
        version = client.get_model_version_by_alias("tiny", BEST_ALIAS)
        assert first_line(version) == description


def test_the_alias_of_another_sweep_of_this_name_is_left_alone(
    finished: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    client, sweep = finished.runs(), open_sweep(finished, "tiny")
    before = client.get_model_version_by_alias("tiny", BEST_ALIAS).version
    client.set_registered_model_tag("tiny", SWEEP_ID, "another")
    with pytest.raises(ConfigError, match="belongs to another sweep of this name"):
        move(sweep, sweep.read_trials().all[0].user_attrs[RUN_ID])
    publish(sweep)
    assert "warning: the best policy in the registry is missing" in capsys.readouterr().err
    assert client.get_model_version_by_alias("tiny", BEST_ALIAS).version == before


def test_a_run_without_a_model_cannot_become_the_best(finished: Store) -> None:
    client, sweep = finished.runs(), open_sweep(finished, "tiny")
    run = client.create_run(sweep.experiment_id)
    with pytest.raises(ConfigError, match=f"run {run.info.run_id} has no model in its record"):
        move(sweep, run.info.run_id)


def add_trial(store: Store, value: float, *, name: str = "tiny", known: bool = True) -> int:
    """What Optuna's own interface does with a result from elsewhere."""
    study = optuna.load_study(study_name=name, storage=str(store.trials_url))
    params = {"ppo.learning_rate": 1e-3} if known else {"lr": 1e-3}
    distribution = optuna.distributions.FloatDistribution(1e-4, 1e-1)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        parameter: study.trials[0].distributions.get(parameter, distribution)
        for parameter in params
    }
    study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    return len(study.trials) - 1


@pytest.mark.parametrize("value", [1e6, -1e6])
def test_a_trial_that_another_tool_added_counts_and_is_not_published(
    command: Command, finished: Store, tiny_file: Path, value: float
) -> None:
    client, options = finished.runs(), ("--store", finished.folder)
    before = client.get_model_version_by_alias("tiny", BEST_ALIAS).run_id
    number = add_trial(finished, value)
    for _ in range(2):
        done = command("run", "--study", tiny_file, *options)
        assert done.returncode == 0, done.stderr
        warned = f"trial {number}, the best, has no run in MLflow" in done.stderr
        assert warned == (value > 0)
    sweep = open_sweep(finished, "tiny")
    assert client.get_model_version_by_alias("tiny", BEST_ALIAS).run_id == before
    assert client.get_run(sweep.run_id).data.tags["sweeps.best_trial"] != str(number)
    done = command("doctor", *options)
    assert (done.returncode, done.stdout) == (
        1,
        f"not repaired: trial {number} of tiny was added by another tool: it has a score, and no "
        "run in MLflow\n",
    )
    assert command("export", "--study", "tiny", "--trial", str(number), *options).returncode == 0
    again = command("reproduce", "--study", "tiny", "--trial", str(number), *options)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert f"trial {number} has no record in MLflow: another tool added it" in again.stderr


def test_a_trial_of_other_parameters_has_no_config(command: Command, finished: Store) -> None:
    number = add_trial(finished, 1.0, known=False)
    done = command("export", "--study", "tiny", "--trial", str(number), "--store", finished.folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"trial {number} has no config in this study" in done.stderr


def test_a_trial_that_waits_has_no_config_yet(command: Command, finished: Store) -> None:
    sweep = start_sweep(read_study(TINY, source=""), finished, trials=3, command=["run"])
    sweep.optuna.enqueue_trial({"ppo.learning_rate": 1e-3})
    for name in ("export", "reproduce"):
        done = command(name, "--study", "tiny", "--trial", "2", "--store", finished.folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "sweeps: trial 2 has not run yet\n"


def test_workers_take_trials_while_others_create_publish_and_deliver(finished: Store) -> None:
    lock, held = finished.folder / "optuna.db.lock", list[str]()

    def note(name: str) -> None:
        try:
            with FileLock(lock, blocking=False):
                pass
        except Timeout:
            held.append(name)

    def note_mlflow(name: str) -> None:
        if name not in ("create_study", "set_user_attr", "add_trial"):
            note(name)

    def draw(*_: object) -> list[Path]:
        note("figures")
        return []

    lost_trial(finished)
    with at_each_call(note_mlflow, note_mlflow), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.charts.search.write_figures", draw)
        sweep = start_sweep(read_study(TINY, source=""), finished, trials=4, command=["run"])
        requeue_lost(sweep)
        publish(sweep)
        new = changed(TINY, {'"tiny"': '"other"'})
        start_sweep(read_study(new, source=""), finished, trials=None, command=["run"])
        list(examine(finished, dry_run=False))
    assert held == []
    assert [trial.state for trial in sweep.read_trials().all[2:]] == [TrialState.FAIL]


def test_a_start_examines_its_own_sweep_and_what_ended_since_the_last_one(
    finished: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.doctor import reconcile

    examined: list[str] = []

    def missing_files(_: MlflowClient, run: Run, *, seeds: int) -> list[str]:
        examined.append(run.info.run_name)
        return []

    monkeypatch.setattr(reconcile, "missing_files", missing_files)
    check_up(finished, "tiny")
    assert sorted(examined) == ["trial-0000", "trial-0001"]
    check_up(finished, "tiny")
    assert len(examined) == 2
    other = changed(TINY, {'"tiny"': '"other"'})
    start_sweep(read_study(other, source=""), finished, trials=None, command=["run"])
    check_up(finished, "other")
    assert len(examined) == 2
    assert not [finding for finding in examine(finished, dry_run=True) if not finding.repaired]
    assert len(examined) == 4  # the doctor examines all of them


def test_a_trial_that_ends_while_its_sweep_is_published_is_in_it(
    finished: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another host: the charts are drawn, and meanwhile the last trial ends."""
    sweep = open_sweep(finished, "tiny")
    sweep.optuna.set_user_attr(BUDGET, 3)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = sweep.optuna.ask()
    suggest(trial, sweep.study.space, sweep.study.base)
    drawn: list[int] = []

    def write_figures(*_: object) -> list[Path]:
        drawn.append(len(sweep.optuna.get_trials(states=[TrialState.RUNNING])))
        if drawn == [1]:
            sweep.optuna.tell(trial, 1.0)
        return []

    monkeypatch.setattr("sweeps.charts.search.write_figures", write_figures)
    publish(sweep)
    run = finished.runs().get_run(sweep.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["sweeps.trials_finished"] == "3"
    assert drawn == [1, 0]
