"""python -m analysis confirm: from a sweep to a winner that stands up to fresh seeds."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.judgement import HEAD, Judgement, judge_sweep, legend, record, rows
from lander.errors import ConfigError
from lander.terminal import printable, unfiltered
from sweeps.confirm import start_confirmation
from sweeps.doctor.doctor import check_up
from sweeps.run.supervisor import run_trials_left
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.store.store import Store, quiet


def confirm(args: argparse.Namespace) -> int:
    """Run what is missing, print the table, record it; the exit code."""
    quiet()
    store = Store(args.store)
    command = ["confirm", *sys.argv[2:]]
    check_up(store, args.study, args.study + CONFIRM_SUFFIX)
    confirmation = start_confirmation(
        store, args.study, top=args.top, seeds=args.seeds, command=command
    )
    left = confirmation.read_trials().left
    finished = run_trials_left(confirmation, workers=args.workers) if left else True
    try:
        judgement = judge_sweep(store, args.study)
    except ConfigError:
        if finished:
            raise
        store.runs().set_terminated(confirmation.run_id, "KILLED")
        return 130  # interrupted before there was anything to judge
    show(judgement)
    print(record(store, args.study, judgement))
    return 0 if finished else 130


def show(judgement: Judgement) -> None:
    """The table and the verdict, as wide as the terminal allows."""
    width = None if sys.stdout.isatty() else 160
    console = Console(file=unfiltered(sys.stdout), width=width)
    table = Table(*HEAD, box=None, pad_edge=False)
    for row in list(rows(judgement))[1:]:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console.print(table)
    print(legend(len(judgement.winner.candidate.returns[0])))
    print(judgement.verdict)
