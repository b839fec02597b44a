"""What the harness costs per trial as a store grows, and with how many workers: no training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import optuna
from optuna.trial import TrialState

from sweeps.lifecycle.start import start_sweep
from sweeps.store.database import STORAGE_ENV
from sweeps.store.store import Store
from sweeps.study.study import Study, find_study, read_study
from sweeps.sweep import open_sweep
from tests.bench.load import SIZES, SIZES_QUICK, STUDY
from tests.bench.process import Options, interleaved, origin
from tests.bench.sides import ONE_THREAD, Side

REPORTS: Final = 10
WARM: Final = 2
"""The first trials, which fill caches, are not counted."""
COUNTED, COUNTED_QUICK = 20, 3
ROUNDS: Final = 2
"""At most, as a round takes minutes."""
WORKERS: Final = (1, 2, 8, 32)
WORKERS_QUICK: Final = (1, 2)
SHARE: Final = 5
"""Trials of each worker."""
TRACKING: Final = "MLFLOW_TRACKING_URI"
BACKEND: Final = "MLFLOW_BACKEND_STORE_URI"
"""Of the MLflow server: its database is filled directly."""
COMMANDS: Final = {
    "status": ("sweeps", "status"),
    "trials": ("sweeps", "trials", "--study", STUDY),
    "report": ("analysis", "report", "--study", STUDY),
}


@dataclass(frozen=True)
class Kept:
    """A store, the version that works on it, and the variables that name its servers."""

    folder: Path
    side: Side
    environ: dict[str, str] = field(default_factory=dict)

    def change(self, verb: str, *words: object) -> int:
        """Let its version fill it, add trials or count them; how many it then has."""
        changed = self.side.measure("stores", self.folder, verb, *words, environ=self.environ)
        return int(changed["trials"])


Contender = tuple[str, Side]
"""An engine and the version that is measured on it."""


def run(options: Options) -> dict[str, Any]:
    """Costs by size of the store in every round, commands on the largest, rates by number of
    workers of this version."""
    sizes, counts = (SIZES_QUICK, WORKERS_QUICK) if options.quick else (SIZES, WORKERS)
    with TemporaryDirectory() as folder, servers(Path(folder), options) as make:
        stores = {
            contender: {size: make_store(size) for size in sizes}
            for contender, make_store in make.items()
        }
        return origin(options) | {
            "costs": costs(stores, options),
            "commands": commands(stores, options),
            "rates": rates(stores, counts),
        }


Stores = Mapping[Contender, Mapping[int, Kept]]
"""The store of each size, for each contender."""


def labels(contender: Contender) -> dict[str, str]:
    """The names of a contender in a sample."""
    engine, side = contender
    return {"engine": engine, "side": side.name}


def costs(stores: Stores, options: Options) -> list[dict[str, Any]]:
    """Seconds per trial, and their parts."""
    each = WARM + (COUNTED_QUICK if options.quick else COUNTED)
    samples = []
    turns = [(contender, size) for contender, by_size in stores.items() for size in by_size]
    for turn, (contender, size) in interleaved(min(options.rounds, ROUNDS), turns):
        (measured,) = run_workers(stores[contender][size], trials=each, workers=1)
        samples.append({"round": turn, "trials": size} | labels(contender) | measured)
        cost = measured["seconds"] / measured["count"]
        say(contender, f"{turn}  {size:>6} trials  {cost:.3f} s each")
    return samples


def commands(stores: Stores, options: Options) -> list[dict[str, Any]]:
    """Seconds of each command on the largest store of each contender."""
    samples = []
    turns = [(name, contender) for name in COMMANDS for contender in stores]
    for turn, (name, contender) in interleaved(min(options.rounds, ROUNDS), turns):
        size = max(stores[contender])
        seconds = command_seconds(stores[contender][size], *COMMANDS[name])
        samples.append({"round": turn, "command": name, "seconds": seconds} | labels(contender))
        say(contender, f"{turn}  {name} of {size} trials  {seconds:.1f} s")
    return samples


def rates(stores: Stores, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Trials per second of several workers on the smallest store of each engine."""
    samples = []
    for contender, by_size in stores.items():
        for count in counts if contender[1].name == "now" else ():
            done = run_workers(by_size[min(by_size)], trials=SHARE * count, workers=count)
            samples.append({"workers": count, "per_second": per_second(done)} | labels(contender))
            say(contender, f"{count} workers  {samples[-1]['per_second']:.1f} trials/s")
    return samples


def say(contender: Contender, result: str) -> None:
    """Print a result as soon as it is known."""
    engine, side = contender
    print(f"growth   {engine} {side.name}  {result}", flush=True)


@contextmanager
def servers(folder: Path, options: Options) -> Generator[dict[Contender, Callable[[int], Kept]]]:
    """Contender -> a function that makes a store with that many finished trials."""
    from tests.cluster.postgres import Postgres
    from tests.processes import TrackingServer, with_driver

    made = iter(range(1_000))

    def on_sqlite(side: Side, size: int) -> Kept:
        return filled(Kept(folder / f"sqlite-{next(made)}", side), size)

    with Postgres(max_connections=200) as postgres, ExitStack() as running:

        def on_postgres(size: int) -> Kept:
            """Each store has its own tracking server, where a study's name is unique."""
            number = next(made)
            database = postgres.create_database(f"mlflow_{number}")
            server = running.enter_context(TrackingServer(database, folder / f"mlflow-{number}"))
            environ = {
                STORAGE_ENV: postgres.create_database(f"optuna_{number}"),
                TRACKING: server.uri,
                BACKEND: with_driver(server.database),
            }
            return filled(Kept(folder / f"postgres-{number}", options.now, environ), size)

        on_files = {("SQLite", side): partial(on_sqlite, side) for side in options.sides}
        yield on_files | {("PostgreSQL", options.now): on_postgres}


def filled(kept: Kept, size: int) -> Kept:
    """The same store, with that many finished trials."""
    kept.change("fill", size)
    return kept


def run_workers(kept: Kept, *, trials: int, workers: int) -> list[dict[str, Any]]:
    """Run more trials in processes that begin together; what each of them measured.

    Raises:
        RuntimeError: a worker or a trial failed, or trials were lost.
    """
    budget = kept.change("add", trials)
    command = [sys.executable, "-m", "tests.bench.stub_worker", str(kept.folder)]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(workers)],
            cwd=kept.side.root,
            env=os.environ | ONE_THREAD | kept.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(workers)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    results = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"a worker of the growth benchmark ended with {process.returncode}")
        results.append(dict(json.loads(output.splitlines()[-1])))
    ended = kept.change("count")
    if ended != budget:
        raise RuntimeError(f"{ended} trials have finished, not {budget}")
    return results


def add(store: Store, trials: int) -> int:
    """Raise the budget by that many trials; the new budget."""
    budget = len(open_sweep(store, STUDY).read_trials().all) + trials
    start_sweep(study(), store, trials=budget, command=["run"])
    return budget


def finished(store: Store) -> list[optuna.trial.FrozenTrial]:
    """The finished trials, in the order in which they ended."""
    trials = [
        t for t in open_sweep(store, STUDY).read_trials().all if t.state == TrialState.COMPLETE
    ]
    return sorted(trials, key=lambda trial: trial.datetime_complete or trial.datetime_start or 0)


def per_second(parts: Sequence[Mapping[str, Any]]) -> float:
    """Trials per second, from the first begin to the last end."""
    begin, end = min(part["begin"] for part in parts), max(part["end"] for part in parts)
    return float(sum(part["all"] for part in parts) / (end - begin))


def command_seconds(kept: Kept, package: str, *words: str) -> float:
    """How long a command takes from launch to end."""
    command = [sys.executable, "-m", package, *words, "--store", str(kept.folder)]
    environ = os.environ | kept.environ
    started = time.perf_counter()
    subprocess.run(command, cwd=kept.side.root, env=environ, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def study() -> Study:
    """The default study, with `REPORTS` checkpoints."""
    text = find_study(STUDY).text
    return read_study(text.replace("[base]", f"[base]\ncheckpoints = {REPORTS}"), source=STUDY)
