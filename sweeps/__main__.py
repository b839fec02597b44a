"""python -m sweeps: run a sweep, look at it, reproduce and export its trials."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from optuna.trial import TrialState

from lander.arguments import Parser, positive
from lander.fields import ConfigError, to_toml
from lander.resolve import UnflyableWarning
from sweeps.objective import trial_config
from sweeps.publish import HOST, PORT, link, publish
from sweeps.reproduce import reproduce
from sweeps.space import troubles
from sweeps.storage import Store, find_trial, quiet
from sweeps.study import find_study, shipped_studies
from sweeps.sweep import Sweep, open_sweep, start_sweep
from sweeps.watch import Watch, clock
from sweeps.workers import measure_speed, run_workers, work

DEFAULT_STUDY = "lander"


def hours(text: str) -> float:
    """A positive number of hours."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a number of hours above 0, got {text}")
    return value


def study_name(text: str) -> str:
    """The name of a sweep, also where its file was given."""
    try:
        return find_study(text).name if text.endswith(".toml") else text
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def port(text: str) -> int:
    """A TCP port that a user may open."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a port from 1024 to 65535, got {text}")
    return int(text)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m sweeps`."""
    parser = Parser(prog="python -m sweeps", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int], text: str) -> Parser:
        sub: Parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(function=function)
        sub.add_argument("--store", type=Path, default=Path("mlruns"), help="folder [mlruns]")
        return sub

    def with_study(sub: Parser) -> Parser:
        sub.add_argument(
            "--study",
            type=study_name,
            default=DEFAULT_STUDY,
            help=f"its name, or its file [{DEFAULT_STUDY}]",
        )
        return sub

    sub = command("run", run, "Start a sweep, or take up one that was interrupted.")
    known = ", ".join(shipped_studies())
    sub.add_argument(
        "--study", default=DEFAULT_STUDY, help=f"{known}, or a .toml file [{DEFAULT_STUDY}]"
    )
    sub.add_argument("--trials", type=positive, help="trials in all [as the study says]")
    sub.add_argument("--workers", type=positive, help="processes [one per core]")
    sub.add_argument("--hours", type=hours, help="begin no trial after this time")

    sub = with_study(command("work", run_worker, "Run waiting trials of a sweep in this process."))
    sub.add_argument("--worker", type=int, default=0, help="tells workers of a sweep apart")
    sub.add_argument("--hours", type=hours, help="begin no trial after this time")

    sub = command("status", status, "How far the sweeps of a store are.")
    sub.add_argument("--json", action="store_true", help="for programs")

    for name, function, text in (
        ("reproduce", run_reproduce, "Retrain a trial from its record and compare, bit for bit."),
        ("export", export, "Print a trial's config for python -m lander --config."),
    ):
        sub = with_study(command(name, function, text))
        sub.add_argument("--trial", default="best", help="best, or a number [best]")

    sub = with_study(command("figures", figures, "Copy a study's pictures out of its record."))
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")

    sub = command("ui", ui, "Serve the MLflow UI on this machine, print a link per study.")
    sub.add_argument("--port", type=port, default=PORT, help=f"[{PORT}]")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    """Start or resume, show progress, publish; the exit code."""
    study = find_study(args.study)
    for trouble in troubles(study.space, study.base):
        print(f"sweeps: warning: {trouble}", file=sys.stderr)
    store = Store(args.store)
    workers = args.workers or os.cpu_count() or 1
    sweep = start_sweep(study, store, trials=args.trials, command=sys.argv[1:])
    waiting = sum(trial.state == TrialState.WAITING for trial in sweep.trials)
    if not waiting:
        total = len(sweep.counted)
        publish(sweep)
        print(f"study {study.name} is complete: {total} trials in {store.folder}")
        print(f"extend it: python -m sweeps run --study {args.study} --trials {2 * total}")
        conclude(sweep)
        return 0
    workers = min(workers, waiting)
    speed = measure_speed(study.base)
    seconds = waiting * study.base.total_steps / (speed * workers)
    print(
        f"study {study.name}: {waiting} trials of {study.base.total_steps:,} steps, {workers} "
        f"workers at {speed:,.0f} steps/s: about {clock(seconds)}, less what is pruned"
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    watch = Watch(
        trials=len(sweep.counted), checkpoints=study.base.checkpoints, steps=study.base.total_steps
    )
    started = time.monotonic()
    try:
        run_workers(sweep, workers=workers, seconds=args.hours and args.hours * 3600, watch=watch)
    except KeyboardInterrupt:
        publish(sweep)
        print("\ninterrupted: the same command takes the sweep up again", file=sys.stderr)
        return 130
    publish(sweep)
    print(f"study {study.name}: {clock(time.monotonic() - started)}")
    conclude(sweep)
    return 0


def conclude(sweep: Sweep) -> None:
    """The best trial, and where to look."""
    best, name = sweep.best, sweep.study.name
    if best is None:
        failed = [trial for trial in sweep.trials if trial.state == TrialState.FAIL]
        reason = failed[0].user_attrs.get("sweeps.reason", "unknown") if failed else "none ended"
        print(f"no trial finished; first failure: {reason}")
        return
    for field, range_ in sweep.study.space.items():
        if range_.parameter not in best.params:
            continue  # did nothing in this trial
        value = range_.to_field(best.params[range_.parameter])
        print(
            f"  {field:<22} {value:.6g}" if isinstance(value, float) else f"  {field:<22} {value}"
        )
    print(f"best: trial {best.number}, final/return_mean {best.values[0]:.1f}, models:/{name}@best")
    print(f"next: make ui  ->  {link(sweep)}")
    print(f"      make reproduce STUDY={name} TRIAL=best")


def run_worker(args: argparse.Namespace) -> int:
    """One worker."""
    seconds = args.hours and args.hours * 3600
    work(Store(args.store), args.study, index=args.worker, seconds=seconds)
    return 0


def status(args: argparse.Namespace) -> int:
    """One line, or one JSON object, per study."""
    store = Store(args.store)
    report = [summary(open_sweep(store, name)) for name in store.study_names()]
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    for row in report:
        best = "no trial finished yet"
        if row["best_trial"] is not None:
            best = f"best {row['best_value']:.1f} (trial {row['best_trial']})"
        counts = ", ".join(f"{count} {name}" for name, count in row["trials"].items() if count)
        print(f"{row['study']}: {counts}; {best}")
    if not report:
        print(f"no sweep in {store.folder} yet: start one with make sweep")
    return 0


def summary(sweep: Sweep) -> dict[str, Any]:
    """A study's state as plain values."""
    best = sweep.best
    return {
        "study": sweep.study.name,
        "trials": {
            state.name.lower(): sum(trial.state == state for trial in sweep.trials)
            for state in TrialState
        },
        "best_trial": best.number if best else None,
        "best_value": best.values[0] if best else None,
    }


def run_reproduce(args: argparse.Namespace) -> int:
    """0 if every number is bit-equal, else 1."""
    return 0 if reproduce(Store(args.store), args.study, args.trial) else 1


def export(args: argparse.Namespace) -> int:
    """A trial's resolved config as TOML."""
    sweep = open_sweep(Store(args.store), args.study)
    print(to_toml(trial_config(find_trial(sweep.optuna, args.trial), sweep.study)), end="")
    return 0


def figures(args: argparse.Namespace) -> int:
    """The PNGs and GIFs of the parent run, as files."""
    sweep = open_sweep(Store(args.store), args.study)
    client = sweep.store.runs()
    args.out.mkdir(parents=True, exist_ok=True)
    for artifact in client.list_artifacts(sweep.run_id):
        if artifact.path.endswith((".png", ".gif")):
            print(client.download_artifacts(sweep.run_id, artifact.path, str(args.out)))
    return 0


def ui(args: argparse.Namespace) -> int:
    """Becomes the MLflow server of the store."""
    store = Store(args.store)
    names = store.study_names()
    if not names:
        raise ConfigError(f"no sweep in {store.folder} yet: start one with make sweep")
    for name in names:
        print(f"{name}: {link(open_sweep(store, name), port=args.port)}", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    server = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    server += ["--host", HOST, "--port", str(args.port), "--backend-store-uri", store.tracking_uri]
    os.execv(sys.executable, server)


def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    torch.set_num_threads(1)  # before the first op: sums depend on the number of threads
    quiet()
    try:
        args = parse(argv)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnflyableWarning)  # said in one line by `run`
            code: int = args.function(args)
    except ConfigError as error:
        print("sweeps:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"sweeps: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sweeps: interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
