"""How a measurement is made: on one core, in turn with all others, with its origin noted."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, TypeVar

import torch

from sweeps.record.provenance import package_version
from tests.bench.sides import Side

QUICK: Final = "--quick"
PACKAGES: Final = ("torch", "gymnasium", "stable-baselines3", "envpool")

Contender = TypeVar("Contender")


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured, and how much of it."""

    sides: tuple[Side, ...]
    """This version first."""
    rounds: int
    seeds: int
    sweeps: int
    quick: bool = False
    """Everything tiny: shows only that the benchmark works."""

    @property
    def now(self) -> Side:
        """This version, for what is not measured beside another."""
        return self.sides[0]

    @property
    def flags(self) -> list[str]:
        """Arguments for the processes that measure."""
        return [QUICK] if self.quick else []


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


def origin(options: Options) -> dict[str, Any]:
    """The kind of machine, versions and commits, but nothing that identifies a machine."""
    return {
        "quick": options.quick,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: package_version(name) for name in PACKAGES},
        "commits": {side.name: side.commit for side in options.sides},
    }
