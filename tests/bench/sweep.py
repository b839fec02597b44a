"""What a sweep costs: wall time by purpose, two workers beside one, memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from sweeps.schema import RUN_ID, SECONDS, WORKER, TimePart
from sweeps.store.store import Store, quiet
from sweeps.store.worker_id import parse_worker
from sweeps.sweep import open_sweep
from tests.bench.process import QUICK, Options, interleaved, origin
from tests.processes import ROOT, python_m
from tests.studies import BENCH

STUDY: Final = "lander"
WORKERS: Final = 2
ALONE: Final = 12
"""Trials with one worker, enough to measure its steps per second."""
CURVE: Final = "time/env_steps_per_second"
"""A curve that has a point at every update."""
LONG, LONG_QUICK = 50, 6
"""Trials of the study that shows whether a worker's memory grows."""
FINISHED: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

Memory = list[tuple[datetime, int]]
"""The resident set of a process in bytes, now and then."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Observations of a sweep from outside."""

    launched: datetime
    ended: datetime
    memory: Mapping[int, Memory] = field(repr=False)
    """Process id -> resident set of each process that it started."""

    @property
    def seconds(self) -> float:
        return (self.ended - self.launched).total_seconds()


def run(options: Options) -> dict[str, Any]:
    """The default study in every version, then with one worker, and many small trials in one
    process."""
    sweeps = []
    turns = [*interleaved(options.sweeps, [(side, WORKERS) for side in options.sides])]
    for turn, (side, workers) in [*turns, (1, (options.now, 1))]:
        figures = side.measure("sweep", workers, *options.flags)
        sweeps.append({"round": turn, "side": side.name} | figures)
        label = f"{side.name:<7} workers: {workers}, trials: {figures['trials']}"
        print(f"sweep    {label}, {figures['seconds']:.0f} s", flush=True)
    memory = options.now.measure("sweep", "memory", *options.flags)
    print(f"sweep    memory of one worker over {len(memory['rss'])} trials", flush=True)
    return origin(options) | {"sweeps": sweeps, "memory": memory}


def watch(store: Path, *arguments: str, interval: float) -> Watched:
    """`python -m sweeps run` to its end, looked at every `interval` seconds.

    Raises:
        RuntimeError: it failed.
    """
    psutil = import_module("psutil")
    command = [sys.executable, "-m", "sweeps", "run", "--store", str(store), *arguments]
    memory: defaultdict[int, Memory] = defaultdict(list)
    launched = datetime.now()  # as Optuna notes the start and the end of trials
    process = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    try:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            for child in seen.children(recursive=True):
                try:
                    size = child.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
                if size > 0:  # else it is about to end, and has given its memory back
                    memory[child.pid].append((datetime.now(), size))
            try:
                process.wait(timeout=interval)
            except subprocess.TimeoutExpired:
                continue
    except psutil.NoSuchProcess:
        process.wait()
    finally:
        process.terminate()
        process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:4])} ended with {process.returncode}")
    return Watched(launched, datetime.now(), memory)


def account(folder: Path, study: str, watched: Watched) -> dict[str, Any]:
    """Trials, steps, and where the wall time of every worker went."""
    store = Store(folder)
    sweep, client = open_sweep(store, study), store.runs()
    recorded = sweep.read_trials()
    best, trials = recorded.best, [trial for trial in recorded.all if trial.state in FINISHED]
    by_worker: defaultdict[str, list[FrozenTrial]] = defaultdict(list)
    env_steps = 0
    for trial in trials:
        by_worker[trial.user_attrs[WORKER]].append(trial)
        curve = client.get_metric_history(trial.user_attrs[RUN_ID], CURVE)
        env_steps += max((point.step for point in curve), default=0)
    starts, ends = zip(*(span(trial) for trial in trials), strict=True)
    seconds: defaultdict[str, float] = defaultdict(float)
    for mine in by_worker.values():
        for part, spent in worker_seconds(mine, client, watched).items():
            seconds[part] += spent
    return {
        "seconds": watched.seconds,
        "busy": (max(ends) - min(starts)).total_seconds(),
        "trials": len(trials),
        "finished": sum(trial.state == TrialState.COMPLETE for trial in trials),
        "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
        "failed": sum(trial.state == TrialState.FAIL for trial in trials),
        "best": best.values[0] if best else None,
        "env_steps": env_steps,
        "worker_seconds": dict(seconds),
        "peak_rss": [max(rss for _, rss in samples) for samples in workers_memory(trials, watched)],
    }


def workers_memory(trials: Sequence[FrozenTrial], watched: Watched) -> list[Memory]:
    """Of the processes that ran trials: others start workers, or look after them."""
    workers = {int(parse_worker(trial.user_attrs[WORKER]).pid) for trial in trials}
    return [samples for pid, samples in watched.memory.items() if pid in workers]


def worker_seconds(
    trials: Sequence[FrozenTrial], client: MlflowClient, watched: Watched
) -> dict[str, float]:
    """One worker's share of the sweep's wall time, by purpose; the parts add up to all of it."""
    spans = sorted(span(trial) for trial in trials)
    first, last = spans[0][0], max(end for _, end in spans)
    seconds = dict.fromkeys(("training", *TimePart), 0.0)
    for trial in trials:
        whole = tagged(client, trial, SECONDS)
        parts = {part: tagged(client, trial, f"{SECONDS}.{part}") for part in TimePart}
        for part, spent in parts.items():
            seconds[part] += spent
        seconds["training"] += whole - sum(parts.values())
    between = (last - first).total_seconds() - sum(seconds.values())
    return seconds | {
        "between trials": between,
        "start-up": (first - watched.launched).total_seconds(),
        "end": (watched.ended - last).total_seconds(),
    }


def span(trial: FrozenTrial) -> tuple[datetime, datetime]:
    """When a trial began and ended."""
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    return trial.datetime_start, trial.datetime_complete


def tagged(client: MlflowClient, trial: FrozenTrial, name: str) -> float:
    """A number that the recorder left as a tag of a trial's run.

    Raises:
        RuntimeError: there is no such tag.
    """
    tags = client.get_run(trial.user_attrs[RUN_ID]).data.tags
    if name not in tags:
        raise RuntimeError(f"the run of trial {trial.number} has no tag {name}")
    return float(tags[name])


def one_sweep(workers: int, *, quick: bool) -> dict[str, Any]:
    """The default study in a store of its own; one worker makes its first trials only."""
    with TemporaryDirectory() as folder:
        store = Path(folder) / "mlruns"
        study = str(tiny_study(Path(folder))) if quick else STUDY
        arguments = ["--study", study, "--workers", str(workers)]
        if workers == 1 and not quick:
            arguments += ["--trials", str(ALONE)]
        watched = watch(store, *arguments, interval=1.0)
        return {"workers": workers} | account(store, "tiny" if quick else STUDY, watched)


def many_trials(count: int) -> dict[str, Any]:
    """The resident set of one worker as each of its trials ends."""
    with TemporaryDirectory() as folder:
        store, study = Path(folder) / "mlruns", tiny_study(Path(folder))
        arguments = ("--study", str(study), "--trials", str(count), "--workers", "1")
        # often, as the size right after a trial counts
        watched = watch(store, *arguments, interval=0.1)
        recorded = open_sweep(Store(store), "tiny").read_trials().all
        trials = [trial for trial in recorded if trial.state in FINISHED]
        (samples,) = workers_memory(trials, watched)
        ends = sorted(span(trial)[1] for trial in trials)
    return {"rss": [size_after(samples, end) for end in ends]}


def size_after(samples: Memory, end: datetime) -> int:
    """The first size that was seen after `end`, or the last one before."""
    return next((rss for seen, rss in samples if seen >= end), samples[-1][1])


def tiny_study(folder: Path) -> Path:
    """A file that holds the tiny study."""
    path = folder / "tiny.toml"
    path.write_text(BENCH)
    return path


def finished_store(folder: Path) -> Path:
    """A store with one finished tiny sweep."""
    store = folder / "mlruns"
    command = ("run", "--store", store, "--workers", "1", "--study", tiny_study(folder))
    done = python_m("sweeps", *command, "--trials", "1", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return store


def main(argv: Sequence[str]) -> None:
    """WORKERS, or memory: measure one sweep."""
    quiet()
    what, *flags = argv
    quick = QUICK in flags
    if what == "memory":
        print(json.dumps(many_trials(LONG_QUICK if quick else LONG)))
    else:
        print(json.dumps(one_sweep(int(what), quick=quick)))


if __name__ == "__main__":
    main(sys.argv[1:])
