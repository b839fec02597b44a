"""Nothing in a store runs when it is read, nothing leaves it, and no password is told."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Literal

import mlflow
import pytest
import torch

from lander.checkpoint import load
from lander.errors import ConfigError
from sweeps.__main__ import main
from sweeps.errors import redacted
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.page import HOST
from sweeps.publish.ui.server import Server
from sweeps.record.outbox import outbox_path
from sweeps.record.provenance import source_tags
from sweeps.schema import DEFINITION
from sweeps.store.store import Store
from sweeps.study.samplers import Pruner, make_pruner, make_sampler
from sweeps.study.study import read_study
from sweeps.sweep import proposer
from tests.processes import python_c
from tests.studies import MINI, changed

ROOT = Path(__file__).parents[2]
PASSWORD = "open-sesame"
ADDRESS = f"http://ali:{PASSWORD}@127.0.0.1:9/"
"""Of a tracking server that nobody serves."""


# what is read


class Spring:
    """Pickled, a trap: it would create a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_policy_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    torch.save({"config": {}, "weights": Spring(tmp_path / "sprung")}, tmp_path / "policy.pt")
    with pytest.raises(ConfigError, match="is not a file of this program"):
        load(tmp_path / "policy.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_pickled_model_is_not_loaded(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    mlflow.pytorch.save_model(
        model, tmp_path / "model", serialization_format="pickle", pip_requirements=["torch"]
    )
    with pytest.raises(mlflow.MlflowException, match="pickle is disallowed"):
        mlflow.pytorch.load_model(str(tmp_path / "model"))


def test_no_program_loads_a_pickle() -> None:
    for path in (*ROOT.glob("lander/*.py"), *ROOT.glob("sweeps/*.py"), *ROOT.glob("analysis/*.py")):
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|joblib|dill|cloudpickle)\b", text, re.M)
        calls = re.findall(r"torch\.load\([^)]*\)", text)
        assert all("weights_only=True" in call for call in calls), path


# samplers that keep their state as a pickle in the database


SAMPLERS = ("tpe", "gp", "random", "qmc", "grid")
PRUNERS: tuple[Pruner, ...] = ("median", "hyperband", "halving", "wilcoxon", "none")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_sampler_or_pruner_loads_a_pickle(sampler: Literal["tpe", "gp"]) -> None:
    makes = [make_pruner(pruner, {}, checkpoints=3, seeds=1) for pruner in PRUNERS]
    for made in (make_sampler(sampler, {}, seed=0, study_seed=0), *makes):
        assert "pickle" not in inspect.getsource(sys.modules[type(made).__module__])


def test_cmaes_is_refused_with_what_to_take_and_its_sweeps_are_still_read(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_study(MINI, source="mini.toml")
    sweep = start_sweep(study, store, trials=1, command=["run"])
    text = changed(MINI, {"trials = 6": 'trials = 6\nsampler = "cmaes"'})
    sweep.optuna.set_user_attr(DEFINITION, text)
    trap = pickle.dumps(Spring(tmp_path / "sprung")).hex()
    storage = store.trials()
    storage.set_study_system_attr(sweep.optuna._study_id, "cma:optimizer:0", trap)
    storage.set_trial_system_attr(sweep.read_trials().all[0]._trial_id, "cma:optimizer:0", trap)
    (tmp_path / "mini.toml").write_text(text)
    where = ["--store", str(store.folder)]
    assert main(["trials", "--study", "mini", *where]) == 0
    capsys.readouterr()
    for command in (["run", "--study", str(tmp_path / "mini.toml")], ["work", "--study", "mini"]):
        assert main([*command, *where]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "sampler cmaes keeps a pickle in the database" in error
        assert "take tpe, or gp" in error
    assert not (tmp_path / "sprung").exists()
    confirming = read_study(text, source="mini.toml").confirming()  # nothing is proposed there
    assert proposer(confirming, seed=0) is not None


# passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@host:1/x", "http://***@host:1/x"),
        ("no: p+q://me:se%40cret@host/db", "no: p+q://***@host/db"),
        ("mysql://me:a@b@host/db", "mysql://***@host/db"),
        ("x://host/db?user=me&password=secret&x=1", "x://host/db?user=me&password=***&x=1"),
        ("http://:secret@host", "http://***@host"),
        ("sqlite:////tmp/optuna.db", "sqlite:////tmp/optuna.db"),
        ("see http://host:5000/a@b and me@host", "see http://host:5000/a@b and me@host"),
    ],
)
def test_passwords_are_masked_in_addresses_of_every_kind(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_no_message_names_the_password_of_a_tracking_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mini.toml").write_text(MINI)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    store = tmp_path / "store"
    code = main(["run", "--study", str(tmp_path / "mini.toml"), "--store", str(store)])
    assert code == 1
    output, error = capfd.readouterr()
    assert len(error.splitlines()) == 1
    assert error.startswith("sweeps: try again when MLflow answers: ")
    assert "http://***@127.0.0.1:9/" in error
    assert PASSWORD not in output + error
    assert not [path for path in store.rglob("*") if PASSWORD.encode() in content(path)]


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_the_recorded_command_has_no_password() -> None:
    command = ["run", "--store", ADDRESS]
    assert source_tags(command)["sweeps.command"] == (
        "python -m sweeps run --store http://***@127.0.0.1:9/"
    )


def test_the_ui_serves_this_machine_and_process_lists_show_no_address(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_sweep(read_study(MINI, source="mini.toml"), store, trials=1, command=["run"])
    served: list[tuple[str, str]] = []

    def serve(server: Server, *_: object, **__: object) -> None:
        with server:
            served.append((str(server.server_address[0]), " ".join(sys.orig_argv)))

    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "")  # and given back after the test
    monkeypatch.setattr("sweeps.publish.ui.commands.server_application", lambda *_, **__: None)
    monkeypatch.setattr("sweeps.publish.ui.commands.serve", serve)
    assert main(["ui", "--store", str(store.folder)]) == 0
    ((address, words),) = served
    assert address == HOST == "127.0.0.1"
    assert store.tracking_uri not in words


def test_consent_for_a_server_omits_its_password_and_holds_for_all_users(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.store.database.find_spec", lambda _: object())
    names = set()
    for user in ("me", "you:pass-word"):
        address = f"postgresql://{user}@host:5433/db?sslmode=require&port=1&password=pass-word"
        monkeypatch.setenv("SWEEPS_STORAGE", address)
        names.add(store.origin.name)
    assert names == {"postgresql+psycopg://host:5433/db?port=1"}


# names


@pytest.mark.parametrize(
    "name",
    ["../x", "..", "/tmp/x", "a/b", "a\\\\b", "", ".x", "a\\u0000b", "a b", "x@confirm"],
)
def test_the_name_of_a_study_cannot_leave_the_store(name: str) -> None:
    with pytest.raises(ConfigError, match=r"mini\.toml: \[study\] name"):
        read_study(changed(MINI, {'"mini"': f'"{name}"'}), source="mini.toml")


@pytest.mark.parametrize("command", ["export", "reproduce", "trials", "work"])
@pytest.mark.parametrize("name", ["../mini", "/etc/passwd", "mini/../../mini"])
def test_a_name_on_the_command_line_is_looked_up_and_never_a_path(
    store: Store, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    start_sweep(read_study(MINI, source="mini.toml"), store, trials=1, command=["run"])
    before = sorted(store.folder.parent.rglob("*"))
    assert main([command, "--study", name, "--store", str(store.folder)]) == 2
    assert "unknown study" in capsys.readouterr().err
    assert sorted(store.folder.parent.rglob("*")) == before


def test_the_longest_name_has_its_files_in_the_store(store: Store) -> None:
    name = "a..-_" + "b" * 59
    study = read_study(changed(MINI, {'"mini"': f'"{name}"'}), source="mini.toml")
    folder = outbox_path(store, study.confirming().name, 10**6).resolve()
    assert folder.parent == store.folder.resolve() / "spool"


# telemetry


@pytest.mark.parametrize("first", ["sweeps", "analysis.load"])
def test_mlflow_reports_to_nobody(first: str) -> None:
    program = f"import {first}, os, mlflow.telemetry.client as telemetry; "
    program += "print(os.environ['MLFLOW_DISABLE_TELEMETRY'], telemetry.get_telemetry_client())"
    of_tests = ("CI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST")
    environ = {name: value for name, value in os.environ.items() if name not in of_tests}
    assert python_c(program, environ=environ) == "true None\n"
