"""Commands to type next work as they are printed: they name the store, and quote it."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lander.terminal import program
from sweeps.commands import conclude
from sweeps.hints import CHECKOUT, COMMANDS, DEFAULT_STORE, hint, no_sweep, with_extra
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.notes import Leaderboard
from sweeps.publish.page import describe
from sweeps.store.store import Store
from sweeps.study.space import suggest
from sweeps.study.study import find_study
from sweeps.sweep import to_run_again

OTHER = Path("/data/store")


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (hint("ui", OTHER), "make ui STORE=/data/store"),
        (hint("confirm", OTHER, study="a"), "make confirm STUDY=a STORE=/data/store"),
    ],
)
def test_a_store_of_ones_own_is_named(command: str, expected: str) -> None:
    assert command == expected


@pytest.mark.usefixtures("checkout")
def test_the_default_store_is_not_named() -> None:
    advice = hint("reproduce", DEFAULT_STORE, study="a", trial="best")
    assert advice == "make reproduce STUDY=a TRIAL=best"
    assert hint("ui", Path("mlruns").resolve()) == "make ui"
    assert hint("sweep", Path("x"), study="a", trials=80) == "make sweep STUDY=a TRIALS=80 STORE=x"


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smoke", "make sweep STUDY=smoke STORE=/data/store"),
        ("mine", "run its study file again"),
        ("mine@confirm", "make confirm STUDY=mine STORE=/data/store"),
    ],
)
def test_a_sweep_is_run_again_by_what_names_its_study(name: str, expected: str) -> None:
    assert to_run_again(Store(OTHER), name) == expected


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("name", ["two words", "it's", "a#b", "a$(b)", "$HOME"])
def test_what_make_would_split_or_expand_goes_to_the_program_in_quotes(name: str) -> None:
    command = hint("doctor", Path(name))
    assert command.startswith(f"{program('sweeps')} doctor ")
    assert shlex.split(command)[-2:] == ["--store", name]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program `sweeps` beside the interpreter that runs, not on the PATH."""
    folder = tmp_path / "environment" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "sweeps"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.chdir(tmp_path)
    return folder


def test_where_there_is_no_makefile_the_program_itself_is_named(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(installed))
    assert hint("sweep", DEFAULT_STORE, study="a") == "sweeps run --study a"
    assert hint("confirm", OTHER) == "sweeps confirm --store /data/store"
    assert no_sweep(OTHER).endswith("start one with sweeps run --store /data/store")
    assert with_extra("fast") == "install lander-sweeps again, as 'lander-sweeps[fast]'"


def test_a_program_that_is_not_on_the_path_is_named_by_its_path(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hint("report", DEFAULT_STORE) == "environment/bin/sweeps report"
    monkeypatch.chdir(installed)
    assert hint("report", Path("x")) == "sweeps report --store x"
    monkeypatch.chdir(CHECKOUT / "lander")
    assert hint("trials", OTHER) == f"{installed}/sweeps trials --store /data/store"


@pytest.mark.usefixtures("installed")
def test_a_program_without_a_script_is_started_by_its_module() -> None:
    assert program("analysis") == "python -m analysis"


@pytest.mark.usefixtures("checkout")
def test_a_checkout_installs_what_an_extra_needs() -> None:
    assert with_extra("fast") == "make install EXTRAS=fast"


def test_a_command_without_a_make_target_is_never_given_to_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    for target in COMMANDS:
        word = shlex.split(hint(target, DEFAULT_STORE))[0]
        assert (word == "make") == (target in targets)


@pytest.mark.usefixtures("checkout")
def test_what_a_sweep_prints_and_notes_at_its_end_names_its_store(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = start_sweep(find_study("smoke"), store, trials=1, command=["run"])
    client, study = store.runs(), sweep.study
    sweep.optuna.optimize(lambda trial: suggest(trial, study.space, study.base).seed, n_trials=1)
    conclude(sweep, sweep.read_trials(), report=False)
    describe(client, sweep, Leaderboard(sweep.read_trials()))
    note = client.get_run(sweep.run_id).data.tags["mlflow.note.content"]
    printed = capsys.readouterr().out
    for text, count in ((printed, 4), (note, 3)):
        assert text.count(str(store.folder)) == count
        commands = re.findall(r"(?:make|sweeps) [^`\n]*", text)
        assert len(commands) == count
        assert all(str(store.folder) in command for command in commands)


NEXT_STEP = re.compile(
    r"make [a-z-]+ [^`]*\b(STUDY|STORE)=(?!\.\.)|with make sweep"
    r"|\b(sweeps|analysis) [a-z]+ [^`]*--(study|store)"
)


def literals(path: Path) -> Iterator[str]:
    """Strings of a module, f-strings with {} for what is filled in; without docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


def test_no_other_module_writes_such_commands_by_hand() -> None:
    written = [
        (path.name, text)
        for package in ("lander", "sweeps", "analysis")
        for path in (CHECKOUT / package).rglob("*.py")
        if path.name != "hints.py"
        for text in literals(path)
        if NEXT_STEP.search(text)
    ]
    assert written == []


def test_the_search_for_such_commands_sees_them() -> None:
    assert NEXT_STEP.search("next: make reproduce STUDY={} TRIAL=best")
    assert NEXT_STEP.search("sweeps doctor --store {}")
    assert NEXT_STEP.search("python -m analysis report --study {}")
    assert not NEXT_STEP.search("`make notebooks STORE=.. STUDY=..`")
