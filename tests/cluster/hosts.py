"""Hosts that share a database and a tracking server: here each is a store folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sweeps.store.store import Store
from tests.processes import ROOT, output_of

SWEEPS: Final = (sys.executable, "-m", "sweeps")
SECONDS: Final = 20.0
"""How long a command may take to end after SIGTERM."""
LIMIT: Final = 300.0
"""Seconds that any command here may take."""


@dataclass
class Host:
    """A host on which commands run; none of them outlives the `with` block."""

    folder: Path
    """Its commands write in here only."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables added to those of this process."""
    prefix: Sequence[str] = ()
    """Words before every command."""
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._started:
            with process:  # closes its pipes
                if process.poll() is None:
                    process.terminate()  # workers close their trials, a sweep ends its workers
                    try:
                        process.wait(SECONDS)
                    except subprocess.TimeoutExpired:
                        process.kill()

    @property
    def store(self) -> Store:
        return Store(self.folder / "mlruns")

    def start(
        self, *args: str | Path, command: Sequence[str] = SWEEPS, error: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Begin `python -m sweeps ... --store ...` here, or a program like it; `error` says where
        its messages go."""
        process = subprocess.Popen(
            [*self.prefix, *command, *map(str, args), "--store", str(self.store.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=error,
            text=True,
            cwd=self.folder,
            env=os.environ | self.environ | {"PYTHONPATH": str(ROOT)},
            start_new_session=True,  # Ctrl-C reaches only this process
        )
        self._started.append(process)
        return process

    def run(self, *args: str | Path, command: Sequence[str] = SWEEPS) -> str:
        """Run the same to its end, which must be a good one; its output."""
        return output_of(self.start(*args, command=command), seconds=LIMIT)
