"""The programs `sweeps` and `lander` as pyproject.toml installs them, and the commands that another
package adds to `sweeps`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import lander.__main__
import sweeps.__main__
import sweeps.cli
from sweeps.cli import GROUP, Command, add_store
from sweeps.hints import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
ADDED = PROJECT["entry-points"][GROUP]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The entry points of an installation; the tests run in a checkout as well."""
    points = [EntryPoint(name=name, value=value, group=GROUP) for name, value in ADDED.items()]
    monkeypatch.setattr(sweeps.cli, "entry_points", lambda *, group: points)
    return points


@pytest.mark.parametrize("name", PROJECT["scripts"])
def test_a_program_reads_the_arguments_of_its_process(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "nothing"])
    script = EntryPoint(name=name, value=PROJECT["scripts"][name], group="console_scripts")
    assert script.load()() == 2
    assert "nothing" in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
def test_analysis_adds_the_commands_about_one_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweeps.__main__.main(["--help"])
    printed = capsys.readouterr().out
    for command in ("run", "confirm", "report", "notebooks"):
        assert f"\n    {command}" in printed
    args = sweeps.__main__.parse(["confirm", "--study", "mine", "--top", "3"])
    assert (args.command, args.study, args.top, args.trainings) == ("confirm", "mine", 3, None)


@pytest.mark.usefixtures("installed")
def test_an_added_command_refuses_as_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweeps.__main__.main(["report", "--store", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sweeps: no sweep in {tmp_path} yet: start one with ")
    assert error.count("\n") == 1


def test_another_package_adds_a_command_and_replaces_none(
    installed: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    def perform(args: argparse.Namespace) -> int:
        ended.append(args.store)
        return 7

    extra = Command("Something else.", add_store, perform=perform)
    (tmp_path / "elsewhere.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("elsewhere")
    monkeypatch.setattr(module, "TABLE", {"other": extra, "status": extra}, raising=False)
    installed.append(EntryPoint(name="elsewhere", value="elsewhere:TABLE", group=GROUP))
    assert sweeps.__main__.main(["other", "--store", str(tmp_path)]) == 7
    assert ended == [tmp_path]
    assert sweeps.__main__.parse(["status"]).definition is sweeps.__main__.COMMANDS["status"]


def test_a_command_of_its_own_looks_for_no_other_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps.cli, "entry_points", pytest.fail)
    assert sweeps.__main__.parse(["status"]).command == "status"


COMPLETE = """
source /dev/stdin
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
read -ra registered < <(complete -p "$1")
"${registered[-2]}"
echo "${COMPREPLY[@]}"
"""
"""Completes the last of its arguments, as bash does at a press of TAB."""


@pytest.mark.usefixtures("installed")
def test_bash_completes_commands_options_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweeps.__main__.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "sweeps re") == ["reproduce", "report"]
    assert completed(script, "sweeps run --st") == ["--store", "--study"]
    assert completed(script, "sweeps completion ") == ["bash", "zsh", "fish"]
    assert completed(script, "sweeps confirm --tr") == ["--trust-env", "--trainings"]


def test_bash_completes_the_fields_of_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert lander.__main__.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "lander re") == ["resume"]
    assert completed(script, "lander --ppo.gae") == ["--ppo.gae-lambda"]
    assert completed(script, "lander --seed 1 --out a --env.b") == ["--env.backend", "--env.bins"]


def completed(script: str, typed: str) -> list[str]:
    """What bash offers at a press of TAB behind the words typed."""
    command = [shutil.which("bash") or "bash", "-c", COMPLETE, "bash", *typed.split(" ")]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    return done.stdout.split()
