"""The Makefile sets .venv up: with which Python, by which installer, with what in it.

The interpreters and installers are scripts here that write down their arguments.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHON = """#!/bin/sh
case "$*" in
    *version_info*) exit {unfit} ;;
    *python_version*) echo is Python {version}; exit ;;
    "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/bin/python ;;
esac
echo "{name} $*" >>log
"""
UV = """#!/bin/sh
case "$1" in venv) mkdir -p .venv/bin; touch .venv/bin/python ;; esac
echo "uv $*" >>log
"""


@dataclass
class Checkout:
    """A folder with the Makefile, and a PATH with a few tools and what a test adds, no more."""

    folder: Path

    def add(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(script)
        path.chmod(0o755)

    def add_python(self, name: str, version: str, *, fits: bool) -> None:
        self.add(name, PYTHON.format(unfit=int(not fits), version=version, name=name))

    def make(
        self, *words: str, stderr: int = subprocess.PIPE, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("make") or "make", *words],
            cwd=self.folder,
            env={"PATH": str(self.folder / "bin"), "HOME": str(self.folder), **environ},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
        )

    @property
    def log(self) -> list[str]:
        """The calls of installers and interpreters so far."""
        return (self.folder / "log").read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "two words"
    (folder / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for tool in ("cp", "echo", "mkdir", "sh", "touch"):
        (folder / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    made = Checkout(folder)
    made.add("uname", "#!/bin/sh\necho Linux x86_64\n")
    return made


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The line that a user gets, beside make's own about the failed recipe."""
    assert done.returncode == 2
    assert done.stdout == ""
    line, of_make = done.stderr.splitlines()
    assert of_make.startswith("make: *** [Makefile")
    return line


def test_the_makefile_takes_the_pythons_that_the_project_requires() -> None:
    oldest, newest = re.findall(r"^(?:OLDEST|NEWEST) +:= (\d+)$", makefile(), re.M)
    assert PROJECT["requires-python"] == f">=3.{oldest},<3.{int(newest) + 1}"


def test_every_extra_can_be_added_by_the_makefile_and_says_what_it_is() -> None:
    assert re.findall(r"^ADDS_(\w+) +:= .", makefile(), re.M) == sorted(
        PROJECT["optional-dependencies"]
    )


def makefile() -> str:
    return (ROOT / "Makefile").read_text()


def test_a_python_that_is_too_old_is_one_line_and_creates_nothing(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.10.13", fits=False)
    assert refusal(checkout.make("sweep")) == (
        "this project needs Python 3.11 to 3.13: python3 is Python 3.10.13; install one, "
        "then: make sweep PYTHON=python3.13"
    )
    assert not (checkout.folder / ".venv").exists()


def test_a_python_that_is_too_new_is_refused_with_one_that_fits(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.14.1", fits=False)
    checkout.add_python("python3.12", "3.12.1", fits=True)
    assert refusal(checkout.make("test", "PYTHON=python3")) == (
        "this project needs Python 3.11 to 3.13: python3 is Python 3.14.1; what would work is "
        "make test PYTHON=python3.12"
    )
    assert "python9 is no Python; " in refusal(checkout.make("test", "PYTHON=python9"))


def test_a_python_that_fits_is_taken_if_the_usual_one_does_not(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.14.1", fits=False)
    checkout.add_python("python3.12", "3.12.1", fits=True)
    assert checkout.make("install").returncode == 0
    assert checkout.log[0] == "python3.12 -m venv --clear .venv"


def test_an_environment_that_failed_is_created_again(checkout: Checkout) -> None:
    failing = "#!/bin/sh\n[ $1 = -c ] || { mkdir -p .venv/bin; touch .venv/bin/python; false; }\n"
    checkout.add("python3", failing)
    assert checkout.make("install").returncode == 2
    checkout.add_python("python3", "3.12.1", fits=True)
    assert checkout.make("install").returncode == 0
    assert checkout.log[0] == "python3 -m venv --clear .venv"


def test_what_comes_is_printed_first_and_a_sweep_gets_no_extras(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    done = checkout.make("sweep")
    first, size, cuda = done.stdout.splitlines()
    assert first.startswith("setting up .venv, once, with python3: PyTorch, MLflow, Optuna, ")
    assert size == "that is 0.4 GB to download and 1.5 GB on disk, and takes about 3 minutes"
    assert "CUDA" in cuda
    _, install, sweep = checkout.log
    assert install.startswith("python3 -m pip install ")
    assert install.endswith(" --constraint constraints.txt --editable .")
    assert sweep == "python3 -m sweeps run --study lander --store mlruns"


def test_pip_shows_its_bars_on_a_terminal_and_only_in_the_first_install(
    checkout: Checkout,
) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    reader, terminal = os.openpty()
    checkout.make("install", "EXTRAS=test", stderr=terminal)
    _, first, second = checkout.log
    assert ("--quiet" in first, "--quiet" in second) == (False, True)
    shutil.rmtree(checkout.folder / ".venv")
    checkout.make("install")
    assert "--quiet" in checkout.log[-1]
    os.close(reader)
    os.close(terminal)


def test_an_extra_is_added_once_and_leaves_the_others(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    checkout.make("install", "EXTRAS=test fast")
    assert [call.rpartition(" ")[2] for call in checkout.log[1:]] == [".", ".[test]", ".[fast]"]
    assert checkout.make("notebooks").stdout.startswith("adding to .venv, once: nbconvert")
    checkout.make("test", "install", "EXTRAS=fast")
    installed = [call.rpartition(" ")[2] for call in checkout.log if " pip install " in call]
    assert installed == [".", ".[test]", ".[fast]", ".[notebooks]"]
    assert len([call for call in checkout.log if " venv " in call]) == 1


@pytest.mark.parametrize("uv", [False, True])
def test_bytecode_is_compiled_at_once_where_python_may_not_keep_it(
    uv: bool, checkout: Checkout
) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    if uv:
        checkout.add("uv", UV)
    checkout.make("install")
    shutil.rmtree(checkout.folder / ".venv")
    checkout.make("install", PYTHONDONTWRITEBYTECODE="1")
    _, lazy, _, eager = checkout.log
    expected = (False, True) if uv else (True, False)
    assert ("--no-compile" in lazy, "--compile-bytecode" in eager) == expected
    assert "--no-compile" not in eager
    assert "--compile-bytecode" not in lazy


def test_an_unknown_extra_is_refused(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    done = checkout.make("install", "EXTRAS=nothing")
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert not (checkout.folder / ".venv").exists()


def test_arguments_for_pip_reach_it_and_what_they_avoid_is_not_announced(
    checkout: Checkout,
) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    done = checkout.make("install", "PIP_ARGS=--extra-index-url URL")
    assert "CUDA" not in done.stdout
    assert checkout.log[1].endswith("--extra-index-url URL --editable .")


def test_uv_is_taken_if_there_is_one_and_torch_stays_pinned(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    checkout.add("uv", UV)
    checkout.make("install", "EXTRAS=test", "PIP_ARGS=--torch-backend cpu")
    options = "--python .venv/bin/python --constraint constraints.txt --torch-backend cpu"
    assert checkout.log == [
        "uv venv --quiet --seed --clear --python python3 .venv",
        f"uv pip install {options} --editable .",
        f"uv pip install {options} --editable .[test]",
    ]
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_uv_can_be_left_out_and_fetches_a_python_if_none_fits(checkout: Checkout) -> None:
    checkout.add("uv", UV)
    assert refusal(checkout.make("install", "UV=")).startswith("this project needs Python")
    assert checkout.make("install").returncode == 0
    assert checkout.log[0].endswith(" --python 3.13 .venv")


def test_linux_on_arm_is_refused_before_the_install(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.12.1", fits=True)
    checkout.add("uname", "#!/bin/sh\necho Linux aarch64\n")
    assert refusal(checkout.make("sweep")).startswith("Box2D has no wheel for Linux on ARM: ")
    assert checkout.make("install", "PIP_ARGS=--find-links wheels").returncode == 0


@pytest.mark.parametrize("target", ["sweep", "confirm", "report", "notebooks", "reproduce"])
def test_names_with_spaces_stay_one_argument(target: str, checkout: Checkout) -> None:
    done = checkout.make("--dry-run", target, "STUDY=my study.toml", "STORE=my store")
    words = shlex.split(done.stdout.replace("\\\n", " "))
    assert words[words.index("--study") + 1] == "my study.toml"
    assert words[words.index("--store") + 1] == "my store"
