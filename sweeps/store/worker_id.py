"""Names the process that runs a trial, and tells whether it is still alive."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
ENDED_STATES: Final = "ZXx"
"""States in /proc of a process that has ended and was not waited for yet."""


@dataclass(frozen=True)
class WorkerId:
    """A process among all processes that share a store; its text is recorded with the trial.

    Two containers may have one host name and equal process ids, and so may two copies of a virtual
    machine: the boot and the process id namespace tell them apart.
    """

    host: str
    pid: str
    started: str
    """Clock ticks from the boot to its start; empty where there is no /proc."""
    boot: str = ""
    """Empty in stores of an earlier version, and where there is no /proc."""
    namespace: str = ""
    word: str = ""
    """Random, in case all other parts are equal by accident."""

    def __str__(self) -> str:
        parts = (self.host, self.pid, self.started, self.boot, self.namespace, self.word)
        return ":".join(parts)

    @property
    def is_visible(self) -> bool:
        """Whether this host and container sees the process, if it still exists, under this id."""
        if self.host != socket.gethostname() or not self.started:
            return False
        return not self.boot or (self.boot, self.namespace) == (boot_id(), pid_namespace())


def parse_worker(name: str) -> WorkerId:
    """The worker of a recorded name; names of earlier versions have three parts."""
    parts = [*name.split(":"), *[""] * 6][:6]
    return WorkerId(*parts)


def this_worker() -> str:
    """The name of this process."""
    pid = os.getpid()
    return str(
        WorkerId(
            socket.gethostname(),
            str(pid),
            start_of(str(pid)),
            boot_id(),
            pid_namespace(),
            word_of(pid),
        )
    )


def is_alive(name: str) -> bool:
    """Whether a worker's process exists: it runs, is stopped, or sleeps with its host."""
    worker = parse_worker(name)
    return worker.is_visible and start_of(worker.pid) == worker.started


def is_gone(name: str) -> bool:
    """Whether a worker's process has ended for certain. False for one on another host or in another
    container, which only heartbeats tell about."""
    worker = parse_worker(name)
    if not worker.is_visible or not worker.pid.isdecimal():
        return False
    if _read(PROC / worker.pid / "stat"):
        return start_of(worker.pid) != worker.started
    return not exists(int(worker.pid))


def exists(pid: int) -> bool:
    """Whether a process exists, even if /proc hides other users' processes."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def start_of(pid: str) -> str:
    """Clock ticks from the boot to the start of a process; empty if it is missing or has ended."""
    fields = _read(PROC / pid / "stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in ENDED_STATES else ""


@lru_cache(maxsize=1)
def boot_id() -> str:
    """The id of the running kernel's boot, which all its containers share."""
    return _read(PROC / "sys/kernel/random/boot_id").strip()


def pid_namespace() -> str:
    """The namespace in which this process's ids are valid."""
    try:
        return str((PROC / "self/ns/pid").readlink()).removeprefix("pid:").strip("[]")
    except OSError:
        return ""


@lru_cache(maxsize=4)
def word_of(_pid: int) -> str:
    """A random word for each process, even a forked one, which inherits the cache."""
    return secrets.token_hex(4)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
