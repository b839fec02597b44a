"""A measurement is a process of its own, on one core, that prints one line of JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

from sweeps.record.provenance import package_version

ROOT: Final = Path(__file__).parents[2]
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
QUICK: Final = "--quick"
PACKAGES: Final = ("torch", "gymnasium", "stable-baselines3", "envpool")

Contender = TypeVar("Contender")


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int
    seeds: int
    quick: bool = False
    """Everything tiny: shows only that the benchmark works."""

    @property
    def flags(self) -> list[str]:
        """Arguments for the processes that measure."""
        return [QUICK] if self.quick else []


def measure(module: str, *arguments: object) -> dict[str, Any]:
    """Run `python -m tests.bench.MODULE ARGUMENTS`; what it printed last.

    Raises:
        RuntimeError: it failed; its traceback is on stderr.
    """
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_core() -> None:
    """Keep this process, its later threads and its children on one core."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        # the last core: the first one serves most interrupts
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def interleaved(rounds: int, contenders: Sequence[Contender]) -> Iterator[tuple[int, Contender]]:
    """Every contender once, then every one again: slow minutes of a machine hit all alike."""
    return ((turn, contender) for turn in range(1, rounds + 1) for contender in contenders)


def envpool_installed() -> bool:
    """Whether the extra [fast] is installed; otherwise its rows are left out."""
    return find_spec("envpool") is not None


def origin() -> dict[str, Any]:
    """The kind of machine and the versions, but nothing that identifies a machine."""
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: package_version(name) for name in PACKAGES},
    }
