"""How long a user waits for the first output of a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.bench.process import Options, interleaved, one_core, origin
from tests.bench.sweep import finished_store
from tests.processes import ROOT

COMMANDS: Final[dict[str, list[str]]] = {
    "python -m lander --help": ["lander", "--help"],
    "python -m sweeps status": ["sweeps", "status", "--store"],
}


def run(options: Options) -> dict[str, Any]:
    """Every command in every round."""
    samples: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        store = finished_store(Path(folder))
        for turn, command in interleaved(options.rounds, list(COMMANDS)):
            sample = options.now.measure("startup", command, store)
            samples.append({"round": turn, "command": command} | sample)
            print(
                f"startup  {turn}/{options.rounds}  {command:<24} {sample['seconds']:.2f} s",
                flush=True,
            )
    return origin(options) | {"samples": samples}


def first_byte(arguments: Sequence[str]) -> float:
    """Seconds from the start of `python -m ARGUMENTS` to the first byte of its output.

    Raises:
        RuntimeError: it failed, or printed nothing.
    """
    # as on a terminal: every line is flushed at once
    environ = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", *arguments]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if process.returncode != 0 or not first:
        raise RuntimeError(f"python -m {' '.join(arguments)} ended with {process.returncode}")
    return seconds


def main(argv: Sequence[str]) -> None:
    """COMMAND STORE: time one start."""
    one_core()
    command, store = argv
    arguments = COMMANDS[command]
    if arguments[-1] == "--store":
        arguments = [*arguments, store]
    print(json.dumps({"seconds": first_byte(arguments)}))


if __name__ == "__main__":
    main(sys.argv[1:])
