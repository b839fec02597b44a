"""What of a sweep is in MLflow's trash, or gone for good: one line with the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

import analysis.__main__
from lander.errors import ConfigError
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import BEST_ALIAS, RUN_ID
from sweeps.store.store import Store
from sweeps.study.study import find_study, read_study
from sweeps.sweep import open_sweep
from tests.studies import TINY, changed
from tests.sweeps.conftest import Command


def run_deleted(store: Store) -> None:
    store.runs().delete_run(open_sweep(store, "tiny").run_id)


def run_gone(store: Store) -> None:
    """As after `mlflow gc`."""
    run_deleted(store)
    store.runs()._tracking_client.store._hard_delete_run(open_sweep(store, "tiny").run_id)


def experiment_deleted(store: Store) -> None:
    store.runs().delete_experiment(open_sweep(store, "tiny").experiment_id)


def experiment_gone(store: Store) -> None:
    experiment_id = open_sweep(store, "tiny").experiment_id
    tracking = store.runs()._tracking_client.store
    for run in store.runs().search_runs([experiment_id]):
        tracking.delete_run(run.info.run_id)
        tracking._hard_delete_run(run.info.run_id)
    experiment_deleted(store)
    tracking._hard_delete_experiment(experiment_id)


def optuna_study(store: Store) -> optuna.Study:
    return open_sweep(store, "tiny").optuna


def writers(study: Path) -> list[list[str]]:
    """The commands that would record something."""
    names = ["work", "reproduce", "figures"]
    lines = [[name, "--study", "tiny"] for name in names]
    lines[-1] += ["--out", str(study.parent / "figures")]
    return [["run", "--study", str(study), "--trials", "3"], *lines]


TRASHED = {run_deleted: "mlflow runs restore --run-id", experiment_deleted: "mlflow experiments"}
GONE = {run_gone: "the run of tiny is gone from MLflow", experiment_gone: "the experiment of tiny"}


@pytest.mark.parametrize(("deleted", "remedy"), [*TRASHED.items()])
def test_what_is_in_the_trash_is_refused_until_the_doctor_restores_it(
    command: Command,
    finished: Store,
    tiny_file: Path,
    deleted: Callable[[Store], None],
    remedy: str,
) -> None:
    deleted(finished)
    options = ("--store", finished.folder)
    optuna_study(finished).enqueue_trial({})
    for line in writers(tiny_file):
        refused = command(*line, *options)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), line
        assert "is in MLflow's trash: to restore it: " in refused.stderr
        assert remedy in refused.stderr
        assert f"MLFLOW_TRACKING_URI={finished.tracking_uri} mlflow " in refused.stderr
    assert [trial.state.name for trial in open_sweep(finished, "tiny").read_trials().all[2:]] == [
        "WAITING"
    ]

    done = command("doctor", *options)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert done.stdout.startswith("repaired: the ")
    assert remedy in done.stdout
    assert command("doctor", *options).stdout.startswith("nothing is wrong in ")
    resumed = start_sweep(find_study(str(tiny_file)), finished, trials=None, command=["run"])
    trials = resumed.read_trials()
    assert (trials.left, trials.total) == (1, 3)


def test_a_report_whose_run_is_deleted_is_one_line_as_well(
    finished: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_deleted(finished)
    line = ["report", "--study", "tiny", "--store", str(finished.folder)]
    assert analysis.__main__.main(line) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the run of tiny is in MLflow's trash: to restore it: " in error


@pytest.mark.parametrize(("lost", "message"), [*GONE.items()])
def test_what_is_gone_is_said_and_the_trials_stay_readable(
    command: Command, finished: Store, tiny_file: Path, lost: Callable[[Store], None], message: str
) -> None:
    lost(finished)
    options = ("--store", finished.folder)
    for line in writers(tiny_file):
        refused = command(*line, *options)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert message in refused.stderr
        assert "--warm-start tiny" in refused.stderr
    done = command("doctor", *options)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith(f"not repaired: {message}")
    assert command("trials", "--study", "tiny", *options).stdout.count("finished") == 2
    assert command("export", "--study", "tiny", *options).returncode == 0


def test_the_doctor_tells_a_deleted_run_of_a_trial_from_one_that_is_gone(
    command: Command, finished: Store
) -> None:
    client, trial = finished.runs(), open_sweep(finished, "tiny").read_trials().all[1]
    run_id, options = trial.user_attrs[RUN_ID], ("--store", finished.folder)
    client.delete_run(run_id)
    done = command("doctor", *options)
    assert (done.returncode, done.stdout) == (
        1,
        "not repaired: the run of trial 1 of tiny is in MLflow's trash: "
        f"MLFLOW_TRACKING_URI={finished.tracking_uri} mlflow runs restore --run-id {run_id}\n",
    )
    client._tracking_client.store._hard_delete_run(run_id)
    done = command("doctor", *options)
    gone = "the run of trial 1 of tiny is gone from MLflow: nothing but its score is left"
    assert (done.returncode, done.stdout) == (1, f"not repaired: {gone}\n")
    again = command("reproduce", "--study", "tiny", "--trial", "1", *options)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert f"run {run_id} is gone from MLflow" in again.stderr


def test_an_experiment_with_artifacts_elsewhere_is_refused_before_that(
    finished: Store, tmp_path: Path
) -> None:
    finished.runs().create_experiment("again", (tmp_path / "elsewhere").as_uri())
    study = read_study(changed(TINY, {'"tiny"': '"again"'}), source="again.toml")
    with pytest.raises(ConfigError, match="experiment again whose artifacts are not in"):
        start_sweep(study, finished, trials=None, command=["run"])
    assert finished.study_names() == ["tiny"]


@pytest.mark.parametrize("trashed", [True, False])
def test_a_name_that_mlflow_has_is_refused_before_anything_is_created(
    command: Command, finished: Store, tiny_file: Path, trashed: bool
) -> None:
    client = finished.runs()
    tiny_file.write_text(tiny_file.read_text().replace('"tiny"', '"again"'))
    if trashed:
        client.delete_experiment(
            client.create_experiment("again", f"{finished.artifacts_uri}/again")
        )
        message = "an experiment again is in MLflow's trash: give the study another name, or"
    else:
        client.create_registered_model("again")
        message = "MLflow's registry has a model again from elsewhere"
    refused = command("run", "--study", tiny_file, "--store", finished.folder)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert message in refused.stderr
    assert finished.study_names() == ["tiny"]
    if trashed:
        restore = re.search(r"mlflow experiments restore --experiment-id (\d+)", refused.stderr)
        assert restore is not None
        client.restore_experiment(restore[1])
        again = start_sweep(find_study(str(tiny_file)), finished, trials=None, command=["run"])
        assert again.experiment_id == restore[1]


@pytest.mark.parametrize("what", ["model", "alias", "version"])
def test_what_was_deleted_from_the_registry_is_registered_again_once(
    command: Command, finished: Store, what: str
) -> None:
    client, options = finished.runs(), ("--store", finished.folder)
    version = client.get_model_version_by_alias("tiny", BEST_ALIAS)
    if what == "model":
        client.delete_registered_model("tiny")
    elif what == "alias":
        client.delete_registered_model_alias("tiny", BEST_ALIAS)
    else:
        client.delete_model_version("tiny", version.version)
    assert command("doctor", *options).stdout == (
        "repaired: models:/tiny@best is gone: registered again\n"
    )
    again = client.get_model_version_by_alias("tiny", BEST_ALIAS)
    assert again.run_id == version.run_id
    assert len(client.search_model_versions("name = 'tiny'")) == 1
    assert command("doctor", *options).stdout.startswith("nothing is wrong in ")


def test_a_run_of_a_sweep_that_no_study_knows_is_named(command: Command, finished: Store) -> None:
    client, sweep = finished.runs(), open_sweep(finished, "tiny")
    tags = {"sweeps.role": "study"}
    stray = client.create_run(sweep.experiment_id, run_name="tiny", tags=tags).info.run_id
    other = client.create_experiment("other", f"{finished.artifacts_uri}/other")
    client.create_run(other, run_name="other", tags=tags)
    done = command("doctor", "--store", finished.folder)
    assert (done.returncode, done.stdout.count("\n")) == (1, 2)
    assert (
        f"repaired: run {stray} was left by an interrupted start of tiny: moved to" in done.stdout
    )
    assert "not repaired: MLflow holds records of a sweep other which " in done.stdout
    assert client.get_run(stray).info.lifecycle_stage == "deleted"
    assert client.get_run(sweep.run_id).info.lifecycle_stage == "active"


def test_a_file_where_a_folder_should_be_is_named(command: Command, finished: Store) -> None:
    for name in ("spool", "logs"):
        path = finished.folder / name
        if path.exists():
            path.rename(path.with_name(f"{name}-before"))
        path.write_text("")
    done = command("doctor", "--store", finished.folder)
    assert (done.returncode, done.stdout.count("and should be a folder")) == (1, 2)
