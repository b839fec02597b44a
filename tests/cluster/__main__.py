"""python -m tests.cluster: a small sweep through a PostgreSQL, an MLflow server and two hosts."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Final, LiteralString

from lander.arguments import Parser
from sweeps.errors import redacted
from sweeps.store.database import STORAGE_ENV
from tests.cluster.hosts import Host
from tests.cluster.nodes import Nodes
from tests.cluster.postgres import Postgres
from tests.processes import TrackingServer
from tests.studies import TWO_HOSTS

TRACKING = "MLFLOW_TRACKING_URI"
NAME = "demo"
WORKERS: Final[LiteralString] = """
SELECT value_json, count(*) FROM trial_user_attributes
WHERE key = 'sweeps.worker' GROUP BY value_json ORDER BY value_json
"""


def say(text: str) -> None:
    print(text, flush=True)


def demonstrate(folder: Path, *, keep: bool) -> int:
    """Start everything, run the sweep, show its result, and stop everything in any case."""
    with ExitStack() as everything:
        postgres = everything.enter_context(Postgres())
        say(f"up: PostgreSQL at {postgres.host}:{postgres.port}")
        tracking = everything.enter_context(
            TrackingServer(postgres.create_database("mlflow"), folder / "server")
        )
        say(f"up: MLflow's server at {tracking.uri}, its runs in PostgreSQL, artifacts behind it")
        environ = {STORAGE_ENV: postgres.create_database("optuna"), TRACKING: tracking.uri}
        placed = launcher_arguments(everything, environ)
        first, second = (
            everything.enter_context(Host(folder / name, environ)) for name in ("first", "second")
        )
        say(f"set: {STORAGE_ENV}={redacted(environ[STORAGE_ENV])} {TRACKING}={tracking.uri}")
        code = sweep(first, second, placed, folder)
        if code == 0:
            show(second, postgres, tracking)
            if keep:
                say("look around; Ctrl-C takes everything down")
                signal.pause()
        say("taking it all down")
    say("down: nothing is left running")
    return code


def launcher_arguments(everything: ExitStack, environ: dict[str, str]) -> list[str]:
    """Where the workers of a run are to be: on two Ray nodes, or without Ray one beside it.

    Arguments for it; what they need is added to `environ`.
    """
    if find_spec("ray") is None:
        say("no Ray here: the first host gets a worker of its own")
        return ["--workers", "1"]
    nodes = everything.enter_context(Nodes())
    environ.update(nodes.environ)
    say(f"up: two Ray nodes, at {nodes.address}")
    return ["--launcher", "ray", "--address", nodes.address]


def sweep(first: Host, second: Host, placed: Sequence[str], folder: Path) -> int:
    """Run the study from one host, while another joins with a worker; the exit code."""
    study = folder / f"{NAME}.toml"
    study.write_text(TWO_HOSTS)
    say(f"first host: python -m sweeps run --study {study.name} {' '.join(placed)}")
    run = first.start("run", "--study", study, *placed, error=subprocess.STDOUT)
    joined = None
    assert run.stdout is not None
    for line in run.stdout:
        say(f"    {line.rstrip()}")
        if joined is None and line.startswith(f"starting {NAME}:"):
            say(f"second host: python -m sweeps work --study {NAME}")
            joined = second.start("work", "--study", NAME)
    if joined is not None:
        joined.communicate()
    return run.wait()


def show(host: Host, postgres: Postgres, tracking: TrackingServer) -> None:
    """Show the sweep as another host sees it, and the contents of the servers."""
    for command in ("status", "doctor"):
        say(f"second host: python -m sweeps {command}")
        say(f"    {host.run(command).rstrip()}")
    say("trials by worker (host, process, start):")
    for worker, trials in postgres.execute(WORKERS, "optuna"):
        say(f"    {trials:>3}  {json.loads(worker)}")
    files = sum(path.is_file() for path in tracking.artifacts.rglob("*"))
    runs = postgres.execute("SELECT count(*) FROM runs", "mlflow")[0][0]
    points = postgres.execute("SELECT count(*) FROM metrics", "mlflow")[0][0]
    say(f"MLflow's server has {runs} runs, {points} points of curves, {files} artifact files")


def main(argv: Sequence[str]) -> int:
    """Run it; the exit code."""
    parser = Parser(prog="python -m tests.cluster", description=__doc__, allow_abbrev=False)
    parser.add_argument("--keep", action="store_true", help="leave it up for a look, until Ctrl-C")
    args: argparse.Namespace = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="sweeps-demo-") as folder:
            return demonstrate(Path(folder), keep=args.keep)
    except KeyboardInterrupt:
        say("interrupted: nothing is left running")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
