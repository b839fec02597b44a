"""A module that a file of somebody else's names is imported only with consent, kept elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from examples import homework
from lander.__main__ import main
from lander.checkpoint import load
from lander.config import EnvConfig, TrainConfig
from lander.dotted import flatten
from lander.errors import ConfigError
from lander.trust import (
    TYPED,
    UNKNOWN,
    VARIABLE,
    Origin,
    agree,
    agreed,
    consents,
    inherited,
    modules,
    trusted,
)
from tests.processes import python

MODULE = "payload_of_a_stranger"
PAYLOAD = """
import pathlib
import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

pathlib.Path(__file__).with_name("PWNED").touch()
gymnasium.register("Stranger-v0", CartPoleEnv, max_episode_steps=20)
"""
ID = f"{MODULE}:Stranger-v0"
SHORT = ["--total-steps", "128", "--env.num-envs", "2", "--ppo.rollout-steps", "64"]
SHORT += ["--ppo.minibatch-size", "64", "--checkpoints", "1", "--eval-episodes", "1"]
SHORT += ["--final-episodes", "1", "--env.id", ID]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a user who has not agreed to anything."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv(VARIABLE, "")
    return tmp_path / "settings"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path with a module that leaves a mark when it is imported."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{MODULE}.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield tmp_path / "code" / "PWNED"
    sys.modules.pop(MODULE, None)


def forget(mark: Path) -> None:
    """As in a new process."""
    sys.modules.pop(MODULE, None)
    mark.unlink(missing_ok=True)


def test_a_module_is_named_by_the_id_and_by_arguments_that_read_like_one() -> None:
    assert modules({"env.id": "a.b:Env-v0", "env.kwargs.env_id": "c:Env-v0"}) == ["a.b", "c"]
    harmless: dict[str, object] = {
        "env.id": "LunarLander-v3",
        "env.kwargs.mode": "a b: c",
        "policy.head": "a:B",
    }
    harmless |= {"env.kwargs.url": "http://host", "env.kwargs.file": "C:\\x", "env.kwargs.g": 1.0}
    assert modules(harmless) == []


@pytest.mark.parametrize("name", ["env.id", "env.kwargs.env_id"])
def test_what_is_read_needs_consent_the_refusal_names_module_and_option(
    tmp_path: Path, name: str
) -> None:
    values = {name: ID}
    TYPED.require(values)
    with pytest.raises(ConfigError) as refused:
        Origin.folder(tmp_path / "store").require(values)
    assert f"add --trust-env {MODULE} once, or set {VARIABLE}={MODULE}" in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match=f"set {VARIABLE}={MODULE}"):
        UNKNOWN.require(values)
    agree(Origin.folder(tmp_path / "store"), [MODULE])
    Origin.folder(tmp_path / "store").require(values)
    with pytest.raises(ConfigError):
        Origin.folder(tmp_path / "other").require(values)
    with pytest.raises(ConfigError):  # not even the module around it
        Origin.folder(tmp_path / "store").require({name: f"{MODULE}.inner:Env-v0"})


@pytest.mark.parametrize("module", ["", ".x", "a b", "a\x1b[2J", "a;b", "../x", "a..b", "a:b"])
def test_only_the_name_of_a_module_can_be_agreed_to(tmp_path: Path, module: str) -> None:
    with pytest.raises(ConfigError, match="must name a module") as refused:
        agree(Origin.folder(tmp_path), [module])
    assert str(refused.value).isprintable()
    with pytest.raises(ConfigError) as refused:
        Origin.folder(tmp_path).require({"env.id": f"{module}:Env-v0"})
    assert str(refused.value).isprintable()


def test_consent_is_a_line_of_the_settings_and_removing_it_withdraws_it(
    tmp_path: Path, settings: Path
) -> None:
    here = Origin.folder(tmp_path / "store")
    agree(here, ["a", "b"])
    agree(here, ["a"])
    file = settings / "lander-sweeps" / "trusted.jsonl"
    assert [json.loads(line)["module"] for line in file.read_text().splitlines()] == ["a", "b"]
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("garbage\n[]\n" + file.read_text().splitlines()[1] + "\n")
    assert agreed(here) == {"b"}
    assert inherited(here) == {VARIABLE: "b"}


def test_a_store_around_the_settings_cannot_bring_consent_along(
    tmp_path: Path, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    around = Origin.folder(tmp_path)
    (settings / "lander-sweeps").mkdir(parents=True)
    line = json.dumps({"store": around.name, "module": MODULE})
    (settings / "lander-sweeps" / "trusted.jsonl").write_text(line + "\n")
    assert trusted(around) == set()


def test_consent_that_cannot_be_kept_lasts_for_the_process_and_children(
    tmp_path: Path,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(VARIABLE, "other")
    settings.write_text("a file")
    here = Origin.folder(tmp_path / "store")
    agree(here, [MODULE])
    assert trusted(here) == {"other", MODULE}
    assert os.environ[VARIABLE] == f"other,{MODULE}"
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"next time set {VARIABLE}={MODULE}" in error


def test_a_relative_settings_folder_is_none_as_the_standard_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "store/settings")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert consents() == tmp_path / ".config" / "lander-sweeps" / "trusted.jsonl"


def test_a_policy_and_a_list_of_actions_need_consent(
    tmp_path: Path, stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    config = TrainConfig(env=EnvConfig(id=ID))
    torch.save({"config": flatten(config), "weights": {}}, theirs / "policy.pt")
    training = {"config": flatten(config), "env_steps": 1}
    (tmp_path / "theirs.unfinished").mkdir()
    torch.save({"training": training, "curve": []}, tmp_path / "theirs.unfinished" / "training.pt")
    document = {"env_id": ID, "seed": 0, "actions": [[0, 1]]}
    (theirs / "actions.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=f"--trust-env {MODULE}"):
        load(theirs / "policy.pt")
    commands = [
        (main, ["fly", str(theirs)]),
        (main, ["resume", str(theirs)]),
        (homework.main, ["record", str(theirs)]),
        (homework.main, ["judge", str(theirs / "actions.json")]),
    ]
    for program, command in commands:
        assert program(command) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.count("\n") == 1
        assert f"--trust-env {MODULE}" in error
    assert not stranger.exists()
    judge = ["judge", str(theirs / "actions.json"), "--trust-env", MODULE]
    assert homework.main(judge) == 2
    assert stranger.exists()
    assert "episode 1 is not over" in capsys.readouterr().err


def test_what_a_person_types_runs_and_its_record_is_theirs(
    tmp_path: Path, stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*SHORT, "--out", str(run)]) == 0, capsys.readouterr().err
    assert stranger.exists()
    forget(stranger)
    assert homework.main(["record", str(run), "--episodes", "1"]) == 0  # this user trained it
    assert stranger.exists()
    forget(stranger)
    copy = tmp_path / "copy"
    run.rename(copy)
    assert main(["fly", str(copy), "--episodes", "1"]) == 2
    assert not stranger.exists()
    assert main(["fly", str(copy), "--episodes", "1", "--trust-env", MODULE]) == 0
    forget(stranger)
    assert main(["fly", str(copy), "--episodes", "1"]) == 0  # asked for once
    assert stranger.exists()


def test_python_and_other_hosts_give_consent_by_the_variable(tmp_path: Path) -> None:
    config = TrainConfig(env=EnvConfig(id=ID))
    torch.save({"config": flatten(config), "weights": {}}, tmp_path / "policy.pt")
    (tmp_path / f"{MODULE}.py").write_text(PAYLOAD)
    program = "import sys, pathlib, lander.checkpoint as c; c.load(pathlib.Path('policy.pt'))"
    environ = os.environ | {VARIABLE: f"other, {MODULE}", "PYTHONPATH": str(Path.cwd())}
    done = python("-c", program, cwd=tmp_path, environ=environ)
    assert "is not a policy of this program" in done.stderr  # there are no weights
    assert (tmp_path / "PWNED").exists()
