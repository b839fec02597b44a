"""python -m tests.wheel: builds the wheel, installs it, runs a sweep with it in another folder.

The environment of the wheel borrows the libraries of the interpreter that runs this: their folder
is on its path, behind its own. The checkout is not, so that code and files of the project come from
the wheel or not at all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("lander", "sweeps", "analysis")
IMPORTED: Final = f"import {', '.join(PACKAGES)}; print({'.__file__, '.join(PACKAGES)}.__file__)"
COMMANDS: Final = (
    ["sweeps", "run", "--study", "smoke", "--trials", "2"],
    ["sweeps", "status"],
    ["sweeps", "report", "--study", "smoke"],
    ["lander", "random", "--env.id", "LunarLander-v3", "--episodes", "1"],
)


def build(folder: Path) -> Path:
    """The wheel, built from a copy of its sources: a build leaves files beside them."""
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """The programs of a new environment with the wheel in it."""
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    programs = environment / "bin"
    pip("--python", str(programs / "python"), "install", "--no-deps", str(wheel))
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return programs


def pip(*words: str) -> None:
    """Run pip without its usual output."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, env=environ)  # with it, what is there counts as installed


def use(programs: Path, folder: Path) -> None:
    """Run every command in an empty folder, as a user who has activated the environment."""
    folder.mkdir()
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "SWEEPS_STORAGE", "MLFLOW_TRACKING_URI")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ["PATH"] = f"{programs}{os.pathsep}{environ['PATH']}"
    files = printed(["python", "-c", IMPORTED], folder, environ).split()
    if not all(Path(file).is_relative_to(programs.parent) for file in files):
        raise SystemExit(f"not imported from the wheel: {files}")
    for command in COMMANDS:
        print(f"$ {' '.join(command)}", flush=True)
        print(printed(command, folder, environ), flush=True)


def printed(command: list[str], folder: Path, environ: Mapping[str, str]) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        [shutil.which(command[0], path=environ["PATH"]) or command[0], *command[1:]],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def main() -> None:
    """Build, install, use."""
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        wheel = build(folder)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        use(install(wheel, folder), folder / "elsewhere")


if __name__ == "__main__":
    main()
