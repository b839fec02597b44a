"""What a number depends on besides its config: versions, processor, commit, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweeps.errors import redacted
from sweeps.schema import COMMAND, COMMIT, CPU_CAPABILITY, CPU_MODEL, TORCH_THREADS, VERSION

HERE = Path(__file__).resolve()
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""Variables by which git, in a hook for example, looks at another repository."""
PACKAGES = ("torch", "numpy", "gymnasium", "Box2D", "optuna", "mlflow")


def environment() -> dict[str, str]:
    """Tags that say where a run was made."""
    import torch  # here: the rest of this module is for those who do without

    return {
        VERSION + "python": platform.python_version(),
        **{VERSION + name.lower(): package_version(name) for name in PACKAGES},
        CPU_MODEL: cpu_model(),
        CPU_CAPABILITY: torch.backends.cpu.get_cpu_capability(),
        TORCH_THREADS: str(torch.get_num_threads()),
    }


def differences(recorded: Mapping[str, str]) -> list[str]:
    """What of `environment` is not as it was when the tags `recorded` were written."""
    return [
        f"{name}: recorded {recorded[name]}, here {value}"
        for name, value in environment().items()
        if name in recorded and recorded[name] != value
    ]


def package_version(name: str) -> str:
    """Installed version, without a local build tag; "absent" where it is not installed."""
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "absent"


def cpu_model() -> str:
    """The processor's own name, where the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def source_tags(command: Sequence[str]) -> dict[str, str]:
    """The version of the code and the command; in a checkout also the commit, with "-dirty" after
    uncommitted changes."""
    tags = {
        COMMAND: redacted(f"python -m sweeps {shlex.join(command)}"),
        VERSION + "lander-sweeps": package_version("lander-sweeps"),
    }
    commit = git("rev-parse", "HEAD") if is_checkout() else ""
    if commit:
        tags[COMMIT] = commit + ("-dirty" if git("status", "-s", "-uno") else "")
    return tags


def is_checkout() -> bool:
    """Whether this file belongs to a checkout of this project, not to an installation inside
    another repository, whose commit says nothing of this code."""
    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != HERE.parents[2]:
        return False
    return bool(git("ls-files", "--", HERE.name))


def git(*command: str) -> str:
    """What git says in the folder of this file; "" where it says nothing."""
    environ = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    try:
        done = subprocess.run(
            ["git", *command],
            cwd=HERE.parent,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
