"""No command runs, follows, overwrites or prints what a hostile store would have it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch

import analysis.__main__
import examples.homework
import lander.__main__
import sweeps.__main__
from analysis.flight import best_policy
from analysis.load import load_trials
from analysis.notebooks.cells import read_sweep
from lander.config import EnvConfig, TrainConfig
from lander.dotted import flatten
from lander.errors import ConfigError
from lander.resolve import resolve
from lander.trust import VARIABLE
from sweeps.doctor.doctor import update_paths
from sweeps.publish.ui.application import Application
from sweeps.publish.ui.server import Server
from sweeps.store.store import Store
from sweeps.sweep import open_sweep
from tests.processes import HEADER
from tests.sweeps.hostile import ID, MODULE, PATH, Hostile, build, named

CONTROL = re.compile(r"[^\n\x20-\x7e\xa1-\uffff]|[\u202a-\u202e\u2066-\u2069]")
MAINS: dict[str, Callable[[Sequence[str]], int]] = {
    "sweeps": sweeps.__main__.main,
    "analysis": analysis.__main__.main,
    "lander": lander.__main__.main,
    "homework": examples.homework.main,
}
NEEDS_CONSENT = rf"would import the module {MODULE}, .* add --trust-env {MODULE} once"
LEADS_OUT = "leads out of .* nothing is read or written there"
NOT_IN_STORE = "which is not in the store: nothing is read or written there"
OTHERS = {"run", "check", "bakeoff", "race", "tables", "train", "random", "completion", "init"}
"""Commands that read no store: experiments of ours, and what a person types."""

CASES = [
    ("sweeps status", 0, ""),
    ("sweeps status --json", 0, ""),
    ("sweeps doctor --dry-run", 1, ""),
    ("sweeps doctor", 1, ""),
    ("sweeps ui", 0, ""),
    ("sweeps dashboard", 0, ""),
    ("sweeps trials --study honest", 0, ""),
    ("sweeps export --study honest", 0, ""),
    *(
        (f"sweeps {name} --study module", 2, NEEDS_CONSENT)
        for name in ("trials", "export", "work", "try", "health")
    ),
    ("sweeps figures --study module --out OUT", 2, NEEDS_CONSENT),
    ("sweeps run --study module.toml --trials 1", 2, NEEDS_CONSENT),
    ("sweeps run --study honest.toml --warm-start module", 2, NEEDS_CONSENT),
    ("sweeps run --study new.toml --fork module", 2, NEEDS_CONSENT),
    ("analysis confirm --study module", 2, NEEDS_CONSENT),
    ("analysis report --study module", 2, NEEDS_CONSENT),
    ("analysis why --study module", 2, NEEDS_CONSENT),
    ("sweeps reproduce --study record", 2, NEEDS_CONSENT),
    ("sweeps reproduce --study away", 2, NOT_IN_STORE),
    ("sweeps reproduce --study linked", 2, LEADS_OUT),
    ("sweeps figures --study away --out OUT", 2, NOT_IN_STORE),
    ("sweeps figures --study linked --out OUT", 2, LEADS_OUT),
    ("analysis report --study away", 2, NOT_IN_STORE),
    ("analysis report --study linked", 2, LEADS_OUT),
    *(
        (f"{command} --study {PATH}", 2, "holds another study, named$")
        for command in ("sweeps work", "sweeps trials", "analysis confirm", "analysis report")
    ),
    ("lander fly RECORD", 2, NEEDS_CONSENT),
    ("homework record RECORD", 2, NEEDS_CONSENT),
    ("lander fly LINKED", 2, LEADS_OUT),
    ("lander resume RUN", 2, NEEDS_CONSENT),
    ("homework judge RUN/actions.json", 2, NEEDS_CONSENT),
]


@pytest.fixture(scope="module")
def built(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    return build(empty, tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def hostile(built: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """The store as the current folder, from which Python imports; nobody has agreed to anything."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.syspath_prepend(built.store.folder)
    monkeypatch.chdir(built.store.folder)
    yield built
    sys.modules.pop(MODULE, None)
    built.mark.unlink(missing_ok=True)


def files_of(hostile: Hostile, name: str) -> Path:
    (folder,) = [
        path.parent for path in hostile.store.artifacts.glob(f"{name}/*/artifacts/policy.pt")
    ]
    return folder


def test_every_command_that_reads_a_store_is_tried_here() -> None:
    names = {
        *sweeps.__main__.COMMANDS,
        *analysis.__main__.COMMANDS,
        *lander.__main__.COMMANDS,
        "train",
    }
    tried = {case[0].split()[1] for case in CASES} | {"notebooks"}
    assert names - tried <= OTHERS


@pytest.mark.parametrize(("line", "code", "refusal"), CASES, ids=[case[0] for case in CASES])
def test_a_command_runs_nothing_of_the_store_and_stays_in_it(
    hostile: Hostile,
    line: str,
    code: int,
    refusal: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("honest", "module", "new"):
        (tmp_path / f"{name}.toml").write_text(named(name))
    run = tmp_path / "run"
    run.mkdir()
    (run / "actions.json").write_text(json.dumps({"env_id": ID, "seed": 0, "actions": [[0]]}))
    unfinished_run(run.with_name("run.unfinished"))
    words = {
        "OUT": str(tmp_path / "out"),
        "RECORD": str(files_of(hostile, "record")),
        "LINKED": str(files_of(hostile, "linked")),
        "RUN": str(run),
    }
    program, *argv = (
        str(tmp_path / word)
        if word.endswith(".toml")
        else re.sub("[A-Z]+", lambda match: words[match[0]], word)
        for word in line.split()
    )
    if program not in {"lander", "homework"}:
        argv += ["--store", str(hostile.store.folder)]
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "")
    monkeypatch.setattr("sweeps.publish.ui.commands.server_application", lambda *_, **__: None)
    monkeypatch.setattr("sweeps.publish.ui.commands.serve", visited)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", imitation())
    before = hostile.bystanders()
    capfd.readouterr()
    assert MAINS[program](argv) == code
    out, err = capfd.readouterr()
    assert not hostile.mark.exists()
    assert MODULE not in sys.modules
    assert hostile.bystanders() == before
    assert not CONTROL.search(out + err), out + err
    assert "\nhonest: 999" not in f"\n{out}"
    assert "secret of the reader" not in out + err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    if code == 2:
        # by the doctor before, or what `sweeps run` is about to do
        assert all(row.startswith(("not repaired: ", *HEADER)) for row in out.splitlines())
        *before_it, last = err.splitlines()
        assert re.search(refusal, last), err
        assert all(row.startswith("report: ") for row in before_it)


def unfinished_run(folder: Path) -> None:
    """A state to resume from that names the module."""
    folder.mkdir()
    training = {"config": flatten(TrainConfig(env=EnvConfig(id=ID))), "env_steps": 1}
    torch.save({"training": training, "curve": []}, folder / "training.pt")


def visited(server: Server, application: Application, **_: object) -> None:
    """The start page is read once, and the server stopped."""
    with server:
        list(application({"PATH_INFO": "/start", "REQUEST_METHOD": "GET"}, lambda *_: bytes))


def imitation() -> ModuleType:
    """Of the dashboard's package."""
    module = ModuleType("optuna_dashboard")
    module.__spec__ = ModuleSpec("optuna_dashboard", None)
    vars(module).update(wsgi=lambda _: None, get_note=lambda _: "", save_note=lambda *_: None)
    return module


def test_the_doctor_names_what_is_wrong_and_goes_on(
    hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert MAINS["sweeps"](["doctor", "--store", str(hostile.store.folder)]) == 1
    out = capsys.readouterr().out
    for pattern in (NEEDS_CONSENT, NOT_IN_STORE):
        (line,) = [line for line in out.splitlines() if re.search(pattern, line)]
        assert line.startswith("not repaired: ")
    assert r"x\x1b]0;owned\x07\x1b[2J\nhonest: 999 complete\u202e" in out


@pytest.mark.parametrize("name", ["module", "record", "linked", "away"])
def test_python_and_the_notebooks_are_refused_as_well(hostile: Hostile, name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        best_policy(read_sweep(hostile.store.folder, name))
    assert re.search("|".join((NEEDS_CONSENT, LEADS_OUT, NOT_IN_STORE)), str(refused.value))
    assert not hostile.mark.exists()
    if name != "module":  # what needs no artifact is there
        assert len(load_trials(read_sweep(hostile.store.folder, name))) == 1


def test_with_consent_the_store_is_read_and_its_workers_inherit_it(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ["trials", "--study", "module", "--store", str(hostile.store.folder)]
    assert MAINS["sweeps"]([*trials, "--trust-env", MODULE]) == 0
    assert not hostile.mark.exists()  # nothing has to be made for a table
    resolve(open_sweep(hostile.store, "module").study.base)
    assert hostile.mark.exists()
    assert MAINS["sweeps"](trials) == 0  # asked for once
    capsys.readouterr()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(hostile.victim))
    assert MAINS["sweeps"](trials) == 2
    monkeypatch.setenv(VARIABLE, MODULE)
    assert MAINS["sweeps"](trials) == 0
    assert open_sweep(hostile.store, "module").study.base.env.id == ID


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
@pytest.mark.parametrize("command", ["status", "trials", "doctor"])
def test_a_database_that_is_a_link_is_not_followed(
    empty: Path, tmp_path: Path, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    for file in ("optuna.db", "mlflow.db"):
        (tmp_path / "store" / file).write_bytes((empty / file).read_bytes())
    (tmp_path / "store" / name).rename(tmp_path / name)
    (tmp_path / "store" / name).symlink_to(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    assert MAINS["sweeps"]([command, "--store", str(tmp_path / "store")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(LEADS_OUT, err)
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("folder", ["logs", "reports", "spool", "artifacts"])
def test_a_folder_that_is_a_link_is_not_followed(
    empty: Path, tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A moved store is repaired, or a sweep is started: neither touches what a link leads to."""
    store, victim = tmp_path / "store", tmp_path / "victim"
    shutil.copytree(empty, store)
    shutil.rmtree(store / folder, ignore_errors=True)
    victim.mkdir()
    (store / folder).symlink_to(victim)
    file = tmp_path / "honest.toml"
    file.write_text(named("honest"))
    argv = ["run", "--no-report", "--study", str(file), "--workers", "1", "--store", str(store)]
    if folder == "reports":
        MAINS["sweeps"]([*argv[:-4], "--workers", "0", "--hours", "0.000001", *argv[-2:]])
        capsys.readouterr()
        code = MAINS["analysis"](["report", "--study", "honest", "--store", str(store)])
    else:
        code = MAINS["sweeps"](argv)
    assert code == 2
    assert re.search(LEADS_OUT, capsys.readouterr().err)
    assert list(victim.iterdir()) == []


def test_in_a_moved_store_a_linked_model_file_is_neither_read_nor_written(
    empty: Path, tmp_path: Path
) -> None:
    store = Store(Path(shutil.copytree(empty, tmp_path / "store")))
    secret, bashrc = tmp_path / "secret", tmp_path / "bashrc"
    secret.write_text("file:///before is kept")
    bashrc.write_text("mine")
    for name in ("a", "b"):
        (store.artifacts / name).mkdir(parents=True)
    (store.artifacts / "a" / "MLmodel").symlink_to(secret)
    (store.artifacts / "b" / "MLmodel").write_text("artifact_path: file:///before/x")
    (store.artifacts / "b" / ".MLmodel").symlink_to(bashrc)
    update_paths(store, "file:///before", store.artifacts_uri)
    assert secret.read_text() == "file:///before is kept"
    assert (store.artifacts / "a" / "MLmodel").is_symlink()
    assert bashrc.read_text() == "mine"
    assert (
        store.artifacts / "b" / "MLmodel"
    ).read_text() == f"artifact_path: {store.artifacts_uri}/x"
    assert (store.artifacts / "b" / "MLmodel").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("name", ["run/flight.gif", "run/actions.json", "run.unfinished/x"])
def test_a_run_folder_with_links_overwrites_nothing(tmp_path: Path, name: str) -> None:
    bashrc = tmp_path / "bashrc"
    bashrc.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    unfinished_run(tmp_path / "run.unfinished")
    (tmp_path / name).symlink_to(bashrc)
    for program, command in (("lander", "fly"), ("homework", "record"), ("lander", "resume")):
        assert MAINS[program]([command, str(run)]) == 2
    assert bashrc.read_text() == "mine"
