"""What is installed is whole: every file that the program reads is part of the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import analysis.experiments.results
import analysis.notebooks.run
from analysis.__main__ import main

ROOT = Path(__file__).parent.parent
NOT_READ = {"analysis/figures", "analysis/experiments/results"}
"""Pictures of README and docs; of the results only what notebooks read is needed."""


def test_the_wheel_holds_every_file_that_the_program_reads() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package).glob(pattern)
    }
    expected = {
        path
        for package in ("lander", "sweeps", "analysis")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    missing = {str(path.relative_to(ROOT)) for path in expected - shipped}
    assert {name for name in missing if not name.startswith(tuple(NOT_READ))} == set()
    read_by_notebooks = {
        ROOT / "analysis" / "experiments" / "results" / f"{name}.jsonl"
        for name in ("heads", "ladder", "tuned")
    }
    assert read_by_notebooks <= shipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["notebooks"], "holds no notebooks: install the package again"),
        (["check", "heads", "gaussian", "1"], "holds no results: install the package again"),
    ],
)
def test_an_installation_without_them_says_so_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(analysis.notebooks.run, "HERE", tmp_path)
    monkeypatch.setattr(analysis.experiments.results, "HERE", tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error == f"analysis: {tmp_path} {message}\n"
