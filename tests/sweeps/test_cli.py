"""Bad input: one line that says what would be right, exit 2, nothing created."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.__main__ import main
from tests.studies import MINI, changed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--study", "landr"], 'unknown study "landr": did you mean lander?'),
        (["run", "--study", "../lander"], 'unknown study "../lander"'),
        (["run", "--study", "nothing.toml"], "cannot read nothing.toml: No such file"),
        (["run", "--study", "bad.toml"], "bad.toml: [study] sampler: input should be 'tpe'"),
        (["run", "--study", "smoke", "--trials", "0"], "must be a whole number from 1 up, got 0"),
        (["run", "--study", "smoke", "--workers", "x"], "must be a whole number from 0 up, got x"),
        (["run", "--study", "smoke", "--hours", "nan"], "must be a number of hours above 0"),
        (["run", "--study", "smoke", "--store", "file"], "cannot create --store file"),
        (["run", "--bins", "3"], 'unknown option "--bins"'),
        (["statsu"], 'unknown command "statsu": did you mean status?'),
        (["--store", "x", "status"], "the command comes first: "),
        (["run", "--launcher", "lokal"], ": did you mean local?"),
        ([], "the following arguments are required: COMMAND"),
        (["reproduce"], "no sweep in mlruns yet: start one with "),
        (["try", "ppo.gamma=0.9"], "no sweep in mlruns yet"),
        (["export", "--for", "sb2"], ": did you mean sb3?"),
        (["export", "--study", "smoke"], "no sweep in mlruns yet"),
        (["export", "--study", "nothing.toml"], "cannot read nothing.toml: No such file"),
        (["ui"], "no sweep in mlruns yet"),
        (["ui", "--port", "80"], "must be a port from 1024 to 65535, got 80"),
        (["dashboard"], "no sweep in mlruns yet"),
        (["dashboard", "--port", "80"], "must be a port from 1024 to 65535, got 80"),
    ],
)
def test_bad_input_gets_one_line_and_exit_2_and_creates_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(changed(MINI, {"seed = 3": 'sampler = "best"'}))
    (tmp_path / "file").write_text("not a folder")
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("sweeps: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.iterdir()) == before
