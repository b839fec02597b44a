"""Every variable of MLflow's or Optuna's that a shell may hold acts, or is named in one line."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

import analysis.__main__
from lander.errors import ConfigError
from sweeps.__main__ import main
from sweeps.store.database import STORAGE_ENV, TRACKING_ENV
from sweeps.store.environment import (
    NO_PICKLE,
    UNSERVED,
    UNUSED,
    clean_server_environment,
    unreadable_variable,
)
from sweeps.store.mlflow_private import server_application
from sweeps.store.store import Store


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is as before after a test, whatever a command removes from it."""
    for name in (
        *UNUSED,
        *UNSERVED,
        TRACKING_ENV,
        STORAGE_ENV,
        "MLFLOW_SERVER_ALLOWED_HOSTS",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which every kind of command ends."""
    lines = []
    for program, command in (
        (main, "status"),
        (main, "trials"),
        (analysis.__main__.main, "report"),
    ):
        capsys.readouterr()
        assert program([command, "--store", str(folder)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err[:-1].isprintable()
        lines.append(err.partition(": ")[2])
    assert len(set(lines)) == 1
    return lines[0]


@pytest.mark.parametrize(
    "value",
    [
        "databricks",
        "databricks://profile",
        "file:///tmp/x",
        "postgresql://me:s3cret@h/d",
        "http://[::1",
        "http://",
        "https://:5000",
        "http://host:abc",
        "http://host:99999",
        "http://h\x1b[2J",
        "./mlruns",
        "sqlite:////elsewhere/mlflow.db",
        "sqlite:///mlflow.db",
        "http ://host",
    ],
)
def test_what_is_no_server_is_refused(
    store: Store, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TRACKING_ENV, value)
    line = refused(store.folder, capsys)
    assert line.startswith(f"{TRACKING_ENV} must be http://HOST:PORT or https://HOST")
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "value", ["http://host", "https://me:x@host:5000/mlflow", "http://[::1]:5"]
)
def test_a_server_is_taken(store: Store, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACKING_ENV, value)
    assert store.tracking_uri == value


def test_mlflow_leaves_the_environment_and_names_the_same_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.runs()
    assert TRACKING_ENV not in os.environ
    assert mlflow.get_tracking_uri() == store.tracking_uri
    monkeypatch.setenv(TRACKING_ENV, store.tracking_uri)
    assert main(["status", "--store", str(store.folder)]) == 0


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://me:s3cret@127.0.0.1:abc/db",
        "postgresql://me:s3cret@h:99999/db",
        "postgresql://me:s3cret@h:0/db",
        "postgresql://[::1",
        "sqlite:///x",
        "s3cret",
    ],
)
def test_a_wrong_address_of_trials_is_refused(
    tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(STORAGE_ENV, value)
    line = refused(tmp_path, capsys)
    assert line.startswith(
        f"{STORAGE_ENV} must be postgresql://HOST/DATABASE, before HOST the user"
    )
    assert "s3cret" not in line


@pytest.mark.parametrize("name", UNUSED)
def test_a_variable_that_has_no_effect_is_named_once_and_gone(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "true")
    assert main(["status", "--store", str(store.folder)]) == 0
    err = capsys.readouterr().err
    assert err == f"sweeps: warning: {name} has no effect here: {UNUSED[name]}\n"
    assert os.environ.get(name) == ("false" if name == NO_PICKLE else None)
    assert main(["status", "--store", str(store.folder)]) == 0
    assert capsys.readouterr().err == ""


def test_what_excludes_each_other_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/x.pem")
    assert "exclude each other: unset one" in refused(store.folder, capsys)


def test_a_value_that_mlflow_cannot_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "perhaps")
    for variable in (
        mlflow.environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT,
        mlflow.environment_variables.MLFLOW_ENABLE_WORKSPACES,
    ):
        with pytest.raises(ValueError, match="MLFLOW_") as wrong:
            variable.get()
        assert variable.name in unreadable_variable(wrong.value)
    assert unreadable_variable(ValueError("another")) == ""


def test_the_ui_serves_one_store_here_whatever_servers_the_shell_names(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "sqlite:///other.db")
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", "sqlite:///other.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "file:///other")
    for name in UNSERVED:
        monkeypatch.setenv(name, "true")
    clean_server_environment(hosts="127.0.0.1:5001,localhost:5001")
    names = {
        "BACKEND_STORE_URI_ENV_VAR": "_MLFLOW_SERVER_FILE_STORE",
        "ARTIFACT_ROOT_ENV_VAR": "_MLFLOW_SERVER_ARTIFACT_ROOT",
    }
    modules = {"mlflow.server.constants": names, "mlflow.server": {"app": "the server"}}
    monkeypatch.setattr(
        "sweeps.store.mlflow_private.import_module", lambda name: SimpleNamespace(**modules[name])
    )
    application = server_application(store.tracking_uri, artifacts=store.artifacts_uri)
    assert str(application) == "the server"
    assert os.environ["_MLFLOW_SERVER_FILE_STORE"] == store.tracking_uri
    assert os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] == store.artifacts_uri
    assert os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] == "127.0.0.1:5001,localhost:5001"
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert not [name for name in UNSERVED if name in os.environ]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == list(UNSERVED)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:5001", True),
        ("localhost:5001", True),
        ("10.evil.example", False),
        ("evil", False),
    ],
)
def test_mlflows_server_takes_these_names_exactly(host: str, allowed: bool) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    assert is_allowed_host_header(["127.0.0.1:5001", "localhost:5001"], host) == allowed


def test_python_is_refused_as_a_command_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACKING_ENV, "databricks")
    with pytest.raises(ConfigError, match=f"^{TRACKING_ENV} must be"):
        store.runs()
