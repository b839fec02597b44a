"""python -m analysis confirm: race a sweep's candidates, judge, record what is confirmed."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.confirm.judgement import Judgement, judgement_of, wanted_trainings
from analysis.confirm.plan import define, forecast
from analysis.confirm.record import conclude
from analysis.confirm.words import elimination_line, legend, prediction, tables, verdict
from lander.terminal import printable, say, unfiltered
from sweeps.commands import write_report
from sweeps.confirm import fill_confirmation, start_confirmation
from sweeps.doctor.doctor import check_up
from sweeps.hints import hint
from sweeps.lifecycle.losses import requeue_lost
from sweeps.run.failures import ENOUGH, repeated_failure
from sweeps.run.fork_server import ForkServer
from sweeps.run.local import LocalLauncher
from sweeps.run.supervisor import LOOK_SECONDS, Launcher, run_trials_left
from sweeps.schema import CONFIRM_SUFFIX, TRACEBACK_FILE
from sweeps.store.store import Store, quiet
from sweeps.sweep import Sweep, open_sweep


def confirm(args: argparse.Namespace) -> int:
    """Run the race, judge, print and record; the exit code."""
    quiet()
    store, name = Store(args.store), args.study
    command = ["confirm", *sys.argv[2:]]
    check_up(store, name, name + CONFIRM_SUFFIX)
    asked = partial(define, top=args.top, trainings=args.trainings)
    confirmation = start_confirmation(store, name, define=asked, command=command)
    try:
        with ForkServer() as server:
            launcher = LocalLauncher(server)
            finished = run_race(confirmation, launcher, workers=args.workers)
    except KeyboardInterrupt:
        store.runs().set_terminated(confirmation.run_id, "KILLED")
        raise
    judgement, outcome = conclude(store, name)
    show(judgement)
    say(outcome)
    more = judgement.trainings_to_decide
    if more is not None:
        print(f"to extend it: {hint('confirm', store.folder, study=name, trainings=more)}")
    if finished:
        write_report(open_sweep(store, name), args)
    return 0 if finished else 130


def run_race(confirmation: Sweep, launcher: Launcher, *, workers: int | None) -> bool:
    """Train what the race wants, stage by stage, until it is complete; False if interrupted.

    Other commands may train with this one: each stage ends when all of its trainings have.

    Raises:
        RuntimeError: it stopped because its trainings fail, or its workers broke down.
    """
    store, name = confirmation.store, confirmation.study.settings.name
    known: set[int] | None = None
    while True:
        fill_confirmation(confirmation, wanted_trainings)
        judgement = judgement_of(store, name)
        out = judgement.course.out
        if known is None and judgement.waiting:
            sweep, size = open_sweep(store, name), workers or launcher.slots
            for line in forecast(sweep, confirmation, judgement, workers=size):
                say(line)
        for row in judgement.standings:
            if row.number in out and row.number not in (known or ()):
                say(elimination_line(row, judgement))
        known = set(out)
        trials = confirmation.read_trials()
        if trials.left:
            if not run_trials_left(confirmation, launcher=launcher, workers=workers):
                return False
            stop_if_failing(confirmation)
        elif trials.running:
            wait_for_others(confirmation)
        else:
            return True


def stop_if_failing(confirmation: Sweep) -> None:
    """Raise RuntimeError if trainings are left because the last ones failed alike."""
    trials = confirmation.read_trials()
    failure = repeated_failure(trials.all) if trials.left else ""
    if failure:
        raise RuntimeError(
            f"stopped after {ENOUGH} identical failures: {failure} (see {TRACEBACK_FILE} of the "
            "runs); fix the cause, then run the same command to resume"
        )


def wait_for_others(confirmation: Sweep) -> None:
    """Wait until the trainings that other commands run have ended, or one of them must be tried
    again."""
    running = confirmation.read_trials().running
    print(f"other commands are running {running} trainings of this stage: waiting", flush=True)
    while True:
        requeue_lost(confirmation)
        trials = confirmation.read_trials()
        if trials.left or not trials.running:
            return
        time.sleep(LOOK_SECONDS)


def show(judgement: Judgement) -> None:
    """Print tables and verdict, as wide as the terminal allows."""
    width = None if sys.stdout.isatty() else 160
    console = Console(file=unfiltered(sys.stdout), width=width)
    for head, *rows in tables(judgement):
        table = Table(*head, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(escape(printable(cell)) for cell in row))
        console.print(table)
    for text in filter(None, (legend(), prediction(judgement), verdict(judgement))):
        print(text)
