"""What a command imports before it answers: libraries that take seconds come only where they act.

Every command runs in a fresh interpreter, whose modules are looked at when it has ended.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import optuna
import pytest

import analysis.__main__
import sweeps.__main__
from lander.terminal import program
from sweeps.store.store import Store
from tests.processes import python, python_c

HEAVY = {"torch", "gymnasium", "mlflow", "matplotlib", "pandas", "scipy"}

RUN = """
import json, sys
from {package}.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print("modules", json.dumps([code, sorted(sys.modules)]))
"""


def run(package: str, *argv: str) -> tuple[int, str, set[str]]:
    """Exit code, what was printed, and the top-level packages that were imported."""
    done = python("-c", RUN.format(package=package), *argv)
    assert done.returncode == 0, done.stderr
    printed, _, last = done.stdout.rpartition("modules ")
    code, modules = json.loads(last)
    return code, printed + done.stderr, {name.partition(".")[0] for name in modules}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one study of two trials, one of them finished, without MLflow's half."""
    (tmp_path / "mlruns").mkdir()
    store = Store(tmp_path / "mlruns")
    study = optuna.create_study(study_name="mini", storage=store.trials(), direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=7.25))
    study.enqueue_trial({})
    (store.folder / "mlflow.db").touch()
    return store.folder


@pytest.mark.parametrize("package", ["lander", "sweeps", "analysis"])
def test_help_imports_nothing_heavy(package: str) -> None:
    code, printed, imported = run(package, "--help")
    assert code == 0
    assert printed.startswith(f"usage: {program(package)} ")
    assert not imported & HEAVY


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--ppo.lambda 1", 'unknown option "--ppo.lambda": did you mean --ppo.gae-lambda?'),
        ("--ppo.gae-lambda 2", "ppo.gae_lambda: "),
        ("--ppo.surrogate clipp", 'unknown ppo.surrogate "clipp": did you mean clip?'),
        ("--config no/such.toml", "cannot read no/such.toml: No such file or directory"),
        ("resume", "the following arguments are required: DIR"),
    ],
)
def test_lander_refuses_without_anything_heavy(argv: str, message: str) -> None:
    code, printed, imported = run("lander", *argv.split())
    assert code == 2
    assert printed.startswith(f"lander: {message}")
    assert printed.count("\n") == 1
    assert not imported & HEAVY


def test_lander_help_imports_neither_a_terminal_library_nor_a_tuner() -> None:
    _, _, imported = run("lander", "--help")
    assert not imported & {"rich", "numpy", "optuna", "PIL"}


def test_status_imports_nothing_heavy(store: Path) -> None:
    code, printed, imported = run("sweeps", "status", "--store", str(store))
    assert code == 0
    assert printed == "mini: 1 finished, 1 waiting; best: trial 0, promised 7.2, expect 7\n"
    assert not imported & HEAVY
    code, printed, imported = run("sweeps", "status", "--json", "--store", str(store))
    assert code == 0
    [row] = json.loads(printed)
    assert (row["study"], row["best_trial"], row["best_value"]) == ("mini", 0, 7.25)
    assert not imported & HEAVY


def test_a_wrong_command_of_sweeps_imports_nothing_heavy() -> None:
    code, printed, imported = run("sweeps", "statsu")
    assert code == 2
    assert printed == 'sweeps: unknown command "statsu": did you mean status?\n'
    assert not imported & HEAVY


def test_the_package_itself_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import lander; print({*sys.modules} - before)"
    assert python_c(code) == "{'lander'}\n"


@pytest.mark.parametrize("main", [sweeps.__main__, analysis.__main__])
def test_imports_of_a_command_run_without_the_garbage_collector(
    main: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collecting: list[bool] = []

    def command(_: object) -> int:
        collecting.append(gc.isenabled())
        return 0

    def function_of(_: str) -> Callable[[object], int]:
        collecting.append(gc.isenabled())
        return command

    monkeypatch.setattr(main, "function_of", function_of)
    word = "trials" if main is sweeps.__main__ else "report"
    assert main.perform([word, "--store", str(tmp_path)]) == 0
    assert collecting == [False, True]
