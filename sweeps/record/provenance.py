"""What a result depends on besides its config: versions, processor, commit, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweeps.errors import redacted
from sweeps.schema import (
    COMMAND,
    COMMIT,
    CPU_CAPABILITY,
    CPU_MODEL,
    TORCH_THREADS,
    VERSION,
)

HERE = Path(__file__).resolve()
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""Variables that make git use another repository, in a hook for example."""
OURS = "lander-sweeps"
"""This package; a version that computes other bits than the one before has another number."""
DIRTY = "-dirty"
"""Ends the commit of code that has uncommitted changes."""
BEHIND_SUMS = (CPU_MODEL, CPU_CAPABILITY, f"{VERSION}torch")
"""Tags of what decides in which order floating-point numbers are added."""
PACKAGES = (OURS, "torch", "numpy", "gymnasium", "Box2D", "optuna", "mlflow")


def environment() -> dict[str, str]:
    """Tags of the machine and the versions with which a run is made."""
    import torch  # for start-up time: the rest of this module does without

    return {
        VERSION + "python": platform.python_version(),
        **{VERSION + name.lower(): package_version(name) for name in PACKAGES},
        CPU_MODEL: cpu_model(),
        CPU_CAPABILITY: torch.backends.cpu.get_cpu_capability(),
        TORCH_THREADS: str(torch.get_num_threads()),
    }


def is_other_machine(recorded: Mapping[str, str]) -> bool:
    """Whether sums may come out differently here than where these tags were recorded: another
    processor, other vector instructions, or another version of torch."""
    here = environment()
    return any(recorded.get(name, here[name]) != here[name] for name in BEHIND_SUMS)


def environment_changes(recorded: Mapping[str, str]) -> list[str]:
    """Every tag of `environment` whose value here differs from the recorded one."""
    return [
        f"{name}: recorded {recorded[name]}, here {value}"
        for name, value in environment().items()
        if name in recorded and recorded[name] != value
    ]


def package_version(name: str) -> str:
    """The installed version, without a local build tag; "absent" if there is none."""
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "absent"


def cpu_model() -> str:
    """The name of the processor; only Linux has it in full."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def source_tags(command: Sequence[str]) -> dict[str, str]:
    """Tags with the command; in a checkout also with the commit, marked if there are uncommitted
    changes."""
    tags = {COMMAND: redacted(f"python -m sweeps {shlex.join(command)}")}
    commit = git("rev-parse", "HEAD") if is_checkout() else ""
    if commit:
        tags[COMMIT] = commit + (DIRTY if git("status", "-s", "-uno") else "")
    return tags


def is_checkout() -> bool:
    """Whether this file is in a checkout of this project.

    It may also be installed inside another repository, whose commit would be the wrong one.
    """
    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != HERE.parents[2]:
        return False
    return bool(git("ls-files", "--", HERE.name))


def git(*command: str) -> str:
    """The output of git as text, without white space around it; empty as in `git_bytes`."""
    return git_bytes(*command).decode(errors="replace").strip()


def git_bytes(*command: str) -> bytes:
    """The output of git in the folder of this file; empty if git fails or is not installed."""
    environ = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    try:
        done = subprocess.run(
            ["git", *command], cwd=HERE.parent, env=environ, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return b""
    return done.stdout
