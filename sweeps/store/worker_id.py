"""Names the process that runs a trial, and tells whether it is still there."""

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
"""Of a process in /proc: it has ended, and its parent has not asked for it yet."""


@dataclass(frozen=True)
class Worker:
    """A process among all that share a store.

    Two containers may have one host name and equal process ids, and so may two copies of a virtual
    machine: the boot and the process id namespace tell them apart.
    """

    host: str
    pid: str
    started: str
    """In clock ticks after the boot; empty where there is no /proc."""
    boot: str = ""
    """Empty in stores of an earlier version, and where there is no /proc."""
    namespace: str = ""
    word: str = ""
    """Random: what else is equal by accident is not the same worker."""

    def __str__(self) -> str:
        parts = (self.host, self.pid, self.started, self.boot, self.namespace, self.word)
        return ":".join(parts)

    @property
    def is_visible(self) -> bool:
        """Whether its process, if it still exists, has this process id here as well."""
        if self.host != socket.gethostname() or not self.started:
            return False
        return not self.boot or (self.boot, self.namespace) == (boot_id(), pid_namespace())


def parse_worker(name: str) -> Worker:
    """A worker by its name, of this version or of an earlier one, which had three parts."""
    parts = [*name.split(":"), *[""] * 6][:6]
    return Worker(*parts)


def this_worker() -> str:
    """The name of this process."""
    pid = os.getpid()
    return str(
        Worker(
            socket.gethostname(),
            str(pid),
            start_of(str(pid)),
            boot_id(),
            pid_namespace(),
            word_of(pid),
        )
    )


def is_alive(name: str) -> bool:
    """That worker's process is there: it runs, is stopped, or sleeps with its host."""
    worker = parse_worker(name)
    return worker.is_visible and start_of(worker.pid) == worker.started


def is_gone(name: str) -> bool:
    """That worker's process has ended for certain. Of what cannot be seen from here, on other
    hosts and in other containers, only heartbeats tell."""
    worker = parse_worker(name)
    if not worker.is_visible or not worker.pid.isdecimal():
        return False
    if _read(PROC / worker.pid / "stat"):
        return start_of(worker.pid) != worker.started
    return not exists(int(worker.pid))


def exists(pid: int) -> bool:
    """Whether there is such a process: /proc can be mounted so that it does not show others'."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def start_of(pid: str) -> str:
    """When a process started, in clock ticks after the boot; empty if it is not there, or has
    ended."""
    fields = _read(PROC / pid / "stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in ENDED_STATES else ""


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Of the running kernel: another one after each boot, the same for all its containers."""
    return _read(PROC / "sys/kernel/random/boot_id").strip()


def pid_namespace() -> str:
    """In which process ids mean what they mean here."""
    try:
        return str((PROC / "self/ns/pid").readlink()).removeprefix("pid:").strip("[]")
    except OSError:
        return ""


@lru_cache(maxsize=4)
def word_of(_pid: int) -> str:
    """A random word for each process, also for one that was forked."""
    return secrets.token_hex(4)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
