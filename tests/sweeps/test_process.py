"""Whose process it is: imports leave it alone, commands prepare their own; whose code it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import create_engine

import sweeps.record.provenance
from sweeps.cli import VARIABLES
from sweeps.store.store import Store
from tests.processes import python_c

PROGRAM = """
import json, os, warnings
before = dict(os.environ)
import analysis.load, analysis.flight, sweeps.commands
from sqlalchemy import create_engine
with create_engine("sqlite://").connect() as connection:
    text = connection.exec_driver_sql("SELECT 'busy_timeout = 20000'").scalar()
changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
print(json.dumps([changed, text]))
"""


def test_imports_change_nothing_in_the_process_but_mlflows_telemetry() -> None:
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in VARIABLES and name != "MLFLOW_DISABLE_TELEMETRY"
    }
    changed, text = json.loads(python_c(PROGRAM, environ=environ).splitlines()[-1])
    assert not changed.keys() & VARIABLES.keys()
    assert changed["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert text == "busy_timeout = 20000"


def test_mlflow_waits_for_locks_of_a_store_as_long_as_optuna(store: Store) -> None:
    client = store.runs()
    for half in (client._tracking_client.store, client._get_registry_client().store):
        with half.ManagedSessionMaker() as session:
            assert session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    with create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 20000")
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 20_000


def git(folder: Path, *command: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        ["git", *who, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("subfolder", [".", ".venv/lib", "vendored"])
@pytest.mark.parametrize("tracked", [True, False])
def test_a_commit_is_recorded_only_of_a_checkout_of_this_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subfolder: str, tracked: bool
) -> None:
    package = tmp_path / subfolder / "sweeps" / "record"
    package.mkdir(parents=True)
    shutil.copy(sweeps.record.provenance.__file__, package)
    git(tmp_path, "init")
    (tmp_path / "notes.txt").write_text("mine")
    git(tmp_path, "add", "." if tracked else "notes.txt")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.setattr(sweeps.record.provenance, "HERE", (package / "provenance.py").resolve())
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))  # as a hook of git sets it
    tags = sweeps.record.provenance.source_tags(["run"])
    monkeypatch.delenv("GIT_DIR")
    expected = git(tmp_path, "rev-parse", "HEAD") if subfolder == "." and tracked else None
    assert tags.get("mlflow.source.git.commit") == expected
