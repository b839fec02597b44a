"""python -m analysis why: trains the path from a sweep's base to its winner, and says what it
shows."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.why.model import model_of
from analysis.why.path import (
    SEEDS,
    order_of,
    path_name,
    path_study,
    read_path,
    steps_in,
    winner_of,
)
from analysis.why.words import (
    importance_legend,
    importance_table,
    model_sentences,
    path_legend,
    path_sentence,
    path_table,
)
from lander.terminal import printable, say, unfiltered
from sweeps.commands import write_report
from sweeps.confirm import minutes_of, seconds_of_training
from sweeps.doctor.doctor import check_up
from sweeps.lifecycle.creation import is_created
from sweeps.lifecycle.start import start_sweep
from sweeps.run.fork_server import ForkServer
from sweeps.run.local import LocalLauncher
from sweeps.run.supervisor import run_trials_left
from sweeps.store.store import Store, quiet
from sweeps.study.space import defaults
from sweeps.study.timing import timing_of
from sweeps.sweep import Sweep, open_sweep


def why(args: argparse.Namespace) -> int:
    """Train the path, unless no seeds are asked for, and print what is known; the exit code."""
    quiet()
    store = Store(args.store)
    check_up(store, args.study)
    sweep = open_sweep(store, args.study)
    winner = winner_of(sweep)
    seeds, finished = SEEDS if args.seeds is None else args.seeds, True
    if seeds:
        finished = train_path(sweep, seeds=seeds, workers=args.workers)
    path = read_path(store, sweep, winner)
    if path is not None:
        show(path_table(path), path_legend(path))
        say(path_sentence(path))
    trials, space = sweep.read_trials().counted, sweep.study.space
    times = timing_of(trials, space)
    show(importance_table(trials, space, times), importance_legend(times))
    base = defaults(space, sweep.study.base)
    for sentence in model_sentences(model_of(trials, space), winner=winner, base=base):
        say(sentence)
    if finished and seeds:
        write_report(sweep, args)
    return 0 if finished else 130


def train_path(sweep: Sweep, *, seeds: int, workers: int | None) -> bool:
    """Train what is missing of the path to the winner; False if interrupted."""
    store, winner = sweep.store, winner_of(sweep)
    name = path_name(sweep, winner)
    if is_created(store, name):  # its order stays, whatever trials came since
        begun = open_sweep(store, name).study
        steps, seeds = steps_in(begun), max(seeds, begun.settings.seed_count)
    else:
        model = model_of(sweep.read_trials().counted, sweep.study.space)
        steps = order_of(sweep, winner.params, model)
    study = path_study(sweep, winner, steps, seeds=seeds)
    with ForkServer() as server:
        launcher = LocalLauncher(server)
        started = start_sweep(study, store, trials=None, command=["why", *sys.argv[2:]])
        trials = started.read_trials()
        if not trials.left:
            return True
        say(takes(sweep, trials.left, points=len(study.points), workers=workers or launcher.slots))
        finished = run_trials_left(started, launcher=launcher, workers=workers)
    status = "FINISHED" if finished else "KILLED"
    store.runs().set_terminated(started.run_id, status)
    return finished


def takes(sweep: Sweep, left: int, *, points: int, workers: int) -> str:
    """How many trainings are left, and how long they take at most."""
    text = f"{points} configurations from the base to the winner and back, {left} trainings left"
    each = seconds_of_training(sweep)
    if each is None:
        return text
    seconds = left * each / workers
    minutes = minutes_of(left, each=each, workers=workers)
    took = f"{seconds:.0f} seconds" if seconds < 120 else f"{minutes} minutes"
    return f"{text}, about {took} with {workers} workers"


def show(rows: list[list[str]], legend: str) -> None:
    """Print a table and its legend, as wide as the terminal allows."""
    width = None if sys.stdout.isatty() else 160
    console = Console(file=unfiltered(sys.stdout), width=width)
    head, *body = rows
    table = Table(*map(plain, head), box=None, pad_edge=False)
    for row in body:
        table.add_row(*map(plain, row))
    console.print(table)
    console.print(plain(legend), style="dim")


def plain(text: str) -> str:
    """Text of a table without marks of Markdown or of `rich`."""
    return escape(printable(text.replace("`", "")))
