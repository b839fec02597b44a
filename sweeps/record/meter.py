"""What a trial takes of its machine: processor time, memory, and energy where that is reported."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sweeps.schema import COST_CPU, COST_JOULES, COST_MEMORY

POWERCAP: Final = Path("/sys/class/powercap")
"""Where Linux counts the energy of each processor; most systems let only root read it."""
PACKAGE: Final = re.compile(r"intel-rapl:\d+")
"""A whole processor, of AMD as well; what is inside of it has a further number."""
UNIT: Final = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of `ru_maxrss`."""


@dataclass(frozen=True)
class Meter:
    """Counts from the moment at which it is made."""

    powercap: Path = POWERCAP
    _cpu: float = field(default_factory=lambda: cpu_seconds())
    _energy: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_energy", energies(self.powercap))

    def read(self) -> dict[str, float]:
        """What has been spent since; joules only if they can be read."""
        spent: dict[str, float] = {
            COST_CPU: round(cpu_seconds() - self._cpu, 3),
            COST_MEMORY: round(usage().ru_maxrss * UNIT / 1e6, 1),
        }
        now = energies(self.powercap)
        if now and now.keys() == self._energy.keys():
            parts = (self._since(name, count) for name, count in now.items())
            spent[COST_JOULES] = round(sum(parts) / 1e6, 1)
        return spent

    def _since(self, name: str, count: int) -> int:
        """Microjoules of a processor, whose counter begins again at 0 when it is full."""
        passed = count - self._energy[name]
        return (
            passed
            if passed >= 0
            else passed + number_in(self.powercap, name, "max_energy_range_uj")
        )


def usage() -> resource.struct_rusage:
    """What this process has used since it began."""
    return resource.getrusage(resource.RUSAGE_SELF)


def cpu_seconds() -> float:
    """Processor time of this process, in all of its threads."""
    used = usage()
    return used.ru_utime + used.ru_stime


def energies(powercap: Path) -> dict[str, int]:
    """The counter of each processor in microjoules; empty if none can be read."""
    counters = dict[str, int]()
    with suppress(OSError, ValueError):
        for zone in sorted(powercap.iterdir()):
            if PACKAGE.fullmatch(zone.name):
                counters[zone.name] = number_in(powercap, zone.name, "energy_uj")
        return counters
    return {}


def number_in(powercap: Path, zone: str, file: str) -> int:
    """The whole number in a file of a zone."""
    return int((powercap / zone / file).read_text())
