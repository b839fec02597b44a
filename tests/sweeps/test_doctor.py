"""The doctor: finds what is wrong with a store, mends it once, and says what only people can."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState

import analysis.__main__
from analysis.flight import best_policy
from lander.errors import ConfigError
from sweeps.doctor.doctor import examine
from sweeps.endings import ending
from sweeps.schema import PARENT_RUN, REASON, ROLE, RUN_ID, TRIAL_NUMBER, TRIAL_STATE, Ending
from sweeps.store.best_policy import recorded_policy
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_sweep
from tests.processes import python_m
from tests.sweeps.conftest import Command


@pytest.fixture
def copy(mini: Store, tmp_path: Path) -> Store:
    """The finished miniature sweep in another folder, made at home there."""
    moved = Store(Path(shutil.copytree(mini.folder, tmp_path / "copy")))
    assert all(finding.repaired for finding in examine(moved, dry_run=False))
    return moved


def findings(store: Store, *, dry_run: bool = False) -> list[str]:
    return [finding.text for finding in examine(store, dry_run=dry_run)]


def artifact(sweep: Sweep, number: int, name: str) -> Path:
    """A file of a trial's run."""
    run_id = sweep.read_trials().all[number].user_attrs[RUN_ID]
    return Path(sweep.store.artifacts / "mini" / run_id / "artifacts" / name)


def test_of_a_healthy_store_it_says_so(command: Command, mini: Store) -> None:
    done = command("doctor", "--store", mini.folder)
    assert done.returncode == 0
    assert done.stdout == f"nothing is wrong in {mini.folder}: mini\n"


def test_a_moved_store_is_refused_until_its_paths_are_updated(
    command: Command, mini: Store, tmp_path: Path
) -> None:
    moved = tmp_path / "new home"
    shutil.copytree(mini.folder, moved)
    refused = command("trials", "--study", "mini", "--store", moved)
    assert refused.returncode == 2
    assert f"sweeps doctor --store '{moved}' updates its paths" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert command("status", "--store", moved).returncode == 0

    dry = command("doctor", "--store", moved, "--dry-run")
    assert dry.stdout.startswith("would repair: mini was written to file://")
    assert command("trials", "--study", "mini", "--store", moved).returncode == 2
    assert command("doctor", "--store", moved).stdout.startswith("repaired: mini was written to")
    assert command("doctor", "--store", moved).stdout == f"nothing is wrong in {moved}: mini\n"

    before = mini.artifacts.as_uri().encode()
    assert before not in (moved / "mlflow.db").read_bytes().replace(b"copy", b"")
    assert not [path for path in moved.rglob("MLmodel") if before in path.read_bytes()]
    again = command("reproduce", "--study", "mini", "--trial", "1", "--store", moved)
    assert again.returncode == 0, again.stdout + again.stderr
    client = Store(moved).runs()
    uri = client.get_model_version_download_uri(
        "mini", client.get_model_version_by_alias("mini", "best").version
    )
    assert (moved / "artifacts").as_uri() in uri
    assert analysis.__main__.main(["report", "--study", "mini", "--store", str(moved)]) == 0


def test_a_run_that_disagrees_with_its_trial_follows_it(copy: Store) -> None:
    client, run_id = copy.runs(), open_sweep(copy, "mini").read_trials().all[0].user_attrs[RUN_ID]
    client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, TRIAL_STATE, "RUNNING")
    said = (
        "trial 0 of mini is COMPLETE, its run is RUNNING with optuna.state RUNNING: "
        "set to FINISHED with COMPLETE"
    )
    assert findings(copy, dry_run=True) == [said]
    assert client.get_run(run_id).info.status == "RUNNING"
    assert findings(copy) == [said]
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags[TRIAL_STATE]) == ("FINISHED", "COMPLETE")
    assert findings(copy) == []


def test_a_run_without_a_trial_and_a_parent_without_workers_are_closed(
    copy: Store,
) -> None:
    sweep, client = open_sweep(copy, "mini"), copy.runs()
    tags = {PARENT_RUN: sweep.run_id, ROLE: "trial", TRIAL_NUMBER: "1"}
    orphan = client.create_run(sweep.experiment_id, run_name="trial-0001", tags=tags)
    client.update_run(sweep.run_id, status="RUNNING")
    assert findings(copy) == [
        "trial-0001 of mini is open, but no trial knows it: closed",
        "the run of mini is open, but none of its trials is running: closed",
    ]
    assert client.get_run(orphan.info.run_id).info.status == "FAILED"
    assert client.get_run(sweep.run_id).info.status == "FINISHED"
    assert findings(copy) == []


def test_a_trial_whose_worker_is_gone_is_closed(copy: Store) -> None:
    sweep = open_sweep(copy, "mini")
    sweep.optuna.enqueue_trial({"ppo.clip_range": 0.1})
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = sweep.optuna.ask()
    storage = copy.trials()
    gone = sweep.optuna.trials[trial.number].user_attrs["sweeps.worker"].split(":")
    gone[1] = "999999999"
    storage.set_trial_user_attr(trial._trial_id, "sweeps.worker", ":".join(gone))
    assert findings(copy) == [
        f"trial {trial.number} of mini lost its worker: closed and queued again"
    ]
    trials = open_sweep(copy, "mini").read_trials().all
    assert trials[trial.number].state == TrialState.FAIL
    assert trials[trial.number].user_attrs[REASON] == "worker lost"
    assert [ending(other) for other in trials[trial.number :]] == [Ending.LOST]
    assert findings(copy) == []


def test_what_is_missing_is_listed_and_the_rest_stays_readable(
    command: Command, copy: Store
) -> None:
    sweep = open_sweep(copy, "mini")
    best = sweep.read_trials().best
    assert best is not None
    artifact(sweep, best.number, "policy.pt").unlink()
    done = command("doctor", "--store", copy.folder)
    assert done.returncode == 1
    assert (
        done.stdout
        == f"not repaired: trial {best.number} of mini lacks policy.pt: its record is incomplete\n"
    )
    again = command("reproduce", "--study", "mini", "--store", copy.folder)
    assert again.returncode == 0, again.stdout + again.stderr  # its config is enough
    artifact(sweep, best.number, "config.toml").unlink()
    again = command("reproduce", "--study", "mini", "--store", copy.folder)
    assert again.returncode == 2
    assert f"trial-{best.number:04d} has no config.toml in its record" in again.stderr
    assert again.stderr.count("\n") == 1


def test_a_newer_config_or_weights_of_another_shape_are_one_line(
    command: Command,
    copy: Store,
) -> None:
    sweep = open_sweep(copy, "mini")
    config = artifact(sweep, 1, "config.toml")
    config.write_text(config.read_text() + '\n[env]\n"tomorrow" = 1\n')
    again = command("reproduce", "--study", "mini", "--trial", "1", "--store", copy.folder)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    best = recorded_policy(sweep.optuna)
    assert best is not None
    weights = artifact(sweep, best.trial, "policy.pt")
    content = torch.load(weights, weights_only=True)
    wrong = {name: torch.zeros(3, 3) for name in content["weights"]}
    torch.save(content | {"weights": wrong}, weights)
    with pytest.raises(ConfigError, match=r"policy\.pt"):
        best_policy(sweep)


def half(file: Path) -> None:
    """Cut off in the middle."""
    os.truncate(file, file.stat().st_size // 8192 * 4096)


def noise(file: Path) -> None:
    """Something else altogether."""
    file.write_bytes(bytes(range(256)) * 20)


def other_version(file: Path) -> None:
    """A schema that this program does not know."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'tomorrow'")


@pytest.mark.parametrize("database", ["optuna.db", "mlflow.db"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            half,
            "is damaged (database disk image is malformed): restore a copy of it",
            marks=pytest.mark.slow,
        ),
        (noise, "is damaged (file is not a database): restore a copy of it"),
        (other_version, "was written by another version: install that"),
    ],
)
def test_an_unreadable_database_is_one_line_with_the_remedy(
    copy: Store, database: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(copy.folder / database)
    done = python_m("sweeps", "doctor", "--store", copy.folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{database} {message}" in done.stderr
    if database == "mlflow.db":  # scores are in the other one
        assert " finished" in python_m("sweeps", "status", "--store", copy.folder).stdout


def test_pages_that_are_damaged_inside_are_found(command: Command, copy: Store) -> None:
    file = copy.folder / "mlflow.db"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    done = command("doctor", "--store", copy.folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "mlflow.db is damaged (" in done.stderr
