"""A sweep is created once, whatever interrupts that, and never in the records of another one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import optuna
import pytest

from lander.errors import ConfigError
from sweeps.doctor.doctor import examine
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import ROLE, RUN_ID, SWEEP_ID
from sweeps.store.store import Store
from sweeps.study.study import Study, read_study
from sweeps.sweep import open_sweep
from tests.races import begun_race
from tests.studies import TINY, changed
from tests.sweeps.conftest import Command, was_interrupted


def named(name: str) -> Study:
    return read_study(changed(TINY, {'"tiny"': f'"{name}"'}), source=f"{name}.toml")


@pytest.fixture(autouse=True)
def _without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes a process for each question."""
    monkeypatch.setattr("sweeps.lifecycle.creation.source_tags", lambda _: {})


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_creation_interrupted_at_any_call_is_continued_as_the_same_sweep(
    finished: Store, step: int
) -> None:
    def names() -> Iterator[str]:
        for number in count(1, step):
            name = f"sweep-{number}"

            def start(name: str = name) -> None:
                start_sweep(named(name), finished, trials=4, command=["run"], warm_start="tiny")

            interrupted = was_interrupted(start, number)
            start()
            yield name
            if not interrupted:
                return

    created = list(names())
    assert len(created) > 12 / step
    client = finished.runs()
    for name in created:
        (experiment,) = client.search_experiments(filter_string=f"name = '{name}'")
        (run,) = client.search_runs([experiment.experiment_id])
        sweep = open_sweep(finished, name)
        assert (sweep.run_id, sweep.experiment_id) == (run.info.run_id, experiment.experiment_id)
        identity = sweep.optuna.user_attrs[SWEEP_ID]
        assert run.data.tags[SWEEP_ID] == experiment.tags[SWEEP_ID] == identity
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == [
            "base.toml",
            "study.toml",
        ]
        points = Counter(
            json.dumps(trial.system_attrs["fixed_params"]) for trial in sweep.read_trials().all
        )
        # the defaults, and both trials of tiny, of which one had them as well
        assert sorted(points.values()) == [1, 2]
        trials = sweep.read_trials()
        assert (trials.left, trials.total) == (4, 4)
    closed = [finding.text for finding in examine(finished, dry_run=False)]
    assert len(closed) == len(created)
    assert all("is open, but none of its trials is running: closed" in text for text in closed)
    assert not list(examine(finished, dry_run=False))


def test_a_partly_created_study_is_one_line_for_every_command(
    command: Command, store: Store
) -> None:
    study = read_study(TINY, source="tiny.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.lifecycle.creation.own_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start_sweep(study, store, trials=None, command=["run"])
    for name in ("trials", "export", "reproduce", "work"):
        refused = command(name, "--study", "tiny", "--store", store.folder)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        again = "to complete it: run its study file again"  # no store knows where that is
        assert f"study tiny was only partly created; {again}" in refused.stderr
    done = command("doctor", "--store", store.folder)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "not repaired: study tiny was only partly created" in done.stdout


def interrupt(*_: object, **__: object) -> str:
    raise KeyboardInterrupt


def test_a_sweep_that_optuna_forgot_does_not_begin_anew_in_its_old_records(
    command: Command, finished: Store, tiny_file: Path
) -> None:
    optuna.delete_study(study_name="tiny", storage=finished.trials())
    done = command("run", "--study", tiny_file, "--store", finished.folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "MLflow holds records of a sweep tiny which " in done.stderr
    assert "optuna.db does not know: restore a copy of that database" in done.stderr
    assert finished.study_names() == []
    done = command("doctor", "--store", finished.folder)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith("not repaired: MLflow holds records of a sweep tiny which ")


@pytest.mark.parametrize("tagged", [True, False])
def test_two_stores_with_one_server_do_not_share_a_sweep_of_one_name(
    store: Store, finished: Store, monkeypatch: pytest.MonkeyPatch, tagged: bool
) -> None:
    """The server stands behind the same database, for both of them."""
    client = finished.runs()
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    if not tagged:  # it was started by a version without these tags
        client.delete_experiment_tag(experiment.experiment_id, SWEEP_ID)
    runs = len(client.search_runs([experiment.experiment_id]))
    monkeypatch.setattr(Store, "tracking_uri", finished.tracking_uri)
    monkeypatch.setattr(Store, "tracked_remotely", True)
    with pytest.raises(ConfigError, match="experiment tiny on the tracking server belongs to ano"):
        start_sweep(read_study(TINY, source=""), store, trials=None, command=["run"])
    assert store.study_names() == []
    assert len(client.search_runs([experiment.experiment_id])) == runs


def test_a_sweep_of_a_version_without_ids_gets_one_when_it_is_resumed(finished: Store) -> None:
    sweep, client = open_sweep(finished, "tiny"), finished.runs()
    client.delete_experiment_tag(sweep.experiment_id, SWEEP_ID)
    storage = finished.trials()
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM study_user_attributes WHERE key = ?", (SWEEP_ID,))
    study = read_study(TINY, source="tiny.toml")
    resumed = start_sweep(study, finished, trials=None, command=["run"])
    identity = resumed.optuna.user_attrs[SWEEP_ID]
    assert client.get_experiment(sweep.experiment_id).tags[SWEEP_ID] == identity
    assert resumed.run_id == sweep.run_id


def test_the_study_file_beside_the_run_is_the_one_that_it_was_resumed_with(
    finished: Store,
) -> None:
    text = changed(TINY, {'sampler = "random"': 'sampler = "tpe"', '"none"': '"median"'})
    sweep = start_sweep(read_study(text, source=""), finished, trials=None, command=["run"])
    assert finished.runs().get_run(sweep.run_id).info.status == "RUNNING"
    path = finished.runs().download_artifacts(sweep.run_id, "study.toml")
    assert Path(path).read_text() == text == sweep.optuna.user_attrs["study.toml"]


def test_a_confirmation_that_was_interrupted_shares_the_id_of_its_sweep(finished: Store) -> None:
    def start() -> None:
        begun_race(finished, "tiny", top=1, trainings=4)

    for number in range(1, 30):
        if not was_interrupted(start, number):
            break
    start()
    sweep, client = open_sweep(finished, "tiny"), finished.runs()
    query = f"tags.`{ROLE}` = 'confirmation'"
    (run,) = client.search_runs([sweep.experiment_id], query)
    confirmation = open_sweep(finished, "tiny@confirm")
    assert confirmation.optuna.user_attrs[RUN_ID] == run.info.run_id
    assert run.data.tags[SWEEP_ID] == sweep.optuna.user_attrs[SWEEP_ID]
    trials = confirmation.read_trials()
    assert (trials.left, len(trials.all)) == (4, 4)
