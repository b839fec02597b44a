"""The versions of this project that are measured: the one at hand, and a commit beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from compileall import compile_dir
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any, Final

from lander.errors import ConfigError
from tests.old_store import check_out
from tests.processes import ROOT, python_c

BENCH: Final = Path("tests", "bench")
PACKAGES: Final = ("lander", "sweeps", "analysis")
"""Packages that may be installed, editable or not."""
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ORIGINS: Final = """
import importlib.util, sys
print(*(importlib.util.find_spec(name).origin for name in sys.argv[1:]), sep="\\n")
"""
"""A program that prints from which files packages are imported."""


@dataclass(frozen=True, slots=True)
class Side:
    """A version of the project, whose processes run in its folder."""

    name: str
    """ "now" or "before"."""
    root: Path
    commit: str
    """Ends in "-dirty" if there are uncommitted changes; empty outside a checkout."""

    def measure(
        self, module: str, *arguments: object, environ: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Run `python -m tests.bench.MODULE ARGUMENTS` of this version; what it printed last.

        Raises:
            RuntimeError: it failed; its traceback is on stderr.
        """
        command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | ONE_THREAD | (environ or {}),
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}")
        return dict(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def sides(beside: str | None, *, root: Path = ROOT) -> Generator[tuple[Side, ...]]:
    """The version at `root`, and that of the commit `beside` in a temporary folder.

    Without such a commit, as in a shallow clone, it says so and yields the first alone.

    Raises:
        ConfigError: Python would import the packages of another folder.
    """
    now = Side("now", root, git(root, "describe", "--always", "--dirty", "--exclude=*"))
    if beside is None:
        yield (now,)
        return
    commit = git(root, "rev-parse", "--short", "--verify", f"{beside}^{{commit}}")
    if not commit:
        print(f"no commit {beside} here: measured without the version before", flush=True)
        yield (now,)
        return
    with TemporaryDirectory() as folder:
        before = Side("before", Path(folder).resolve(), commit)
        check_out(commit, before.root, root=root)
        add_missing_scripts(before.root, root)
        require_own_packages(before.root)
        compile_dir(before.root, quiet=1)  # as those of `root` are: no start is the slower for it
        yield now, before


def git(root: Path, *command: str) -> str:
    """The output of git in a checkout; empty if it fails, or if `root` is not the top of one."""

    def output(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    top = output("rev-parse", "--show-toplevel")
    return output(*command) if top and Path(top).resolve() == root.resolve() else ""


def add_missing_scripts(earlier: Path, root: Path) -> None:
    """Give an earlier version the measurements that it lacks; those it has measure it as then."""
    for script in sorted((root / BENCH).glob("*.py")):
        if not (earlier / BENCH / script.name).exists():
            copy(script, earlier / BENCH)


def require_own_packages(root: Path) -> None:
    """Refuse to measure a folder whose processes import the packages of another.

    Raises:
        ConfigError: an installed package comes first.
    """
    for origin in python_c(ORIGINS, *PACKAGES, cwd=root).splitlines():
        if not Path(origin).resolve().is_relative_to(root.resolve()):
            raise ConfigError(
                f"Python imports {origin}, not what is in {root}: unset PYTHONSAFEPATH"
            )
