"""Which browser `make test-browser` takes, and what it does where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import __main__ as program

APT = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *chromium*) printf '#!/bin/sh\\n' > {chromium}; chmod +x {chromium};; esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.usefixtures("programs")
def test_without_a_browser_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main() == 0
    assert capsys.readouterr().out == (
        "no page was tested: there is no Chromium; on Debian: apt-get install chromium\n"
    )


@pytest.mark.parametrize("user", [0, 1000])
def test_only_root_installs_a_browser(
    programs: Path, user: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = programs / "log"
    text = APT.format(log=log, chromium=programs / "chromium").replace("chmod", "/bin/chmod")
    add(programs / "apt-get", text)
    monkeypatch.setattr("os.geteuid", lambda: user)
    ran = list[list[str]]()

    def record(words: list[str]) -> int:
        ran.append(words)
        return 0

    monkeypatch.setattr("pytest.main", record)
    assert program.main() == 0
    said = capsys.readouterr().out
    if user:
        assert (ran, log.exists()) == ([], False)
        assert said.startswith("no page was tested: ")
    else:
        assert said == "installing chromium and fonts-dejavu-core\n"
        assert log.read_text().splitlines() == [
            "-qq update",
            "-qq install --yes --no-install-recommends chromium fonts-dejavu-core",
        ]
        assert ran == [["-m", "browser", str(Path(program.__file__).parent)]]


def test_a_browser_that_is_there_is_taken(programs: Path) -> None:
    assert program.chromium() is None
    add(programs / "google-chrome", "#!/bin/sh\n")
    assert program.chromium() == str(programs / "google-chrome")
    add(programs / "chromium", "#!/bin/sh\n")
    assert program.chromium() == str(programs / "chromium")
