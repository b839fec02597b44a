"""python -m analysis: confirm a sweep, report on it, run notebooks and experiments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from lander.arguments import Parser, between, positive
from lander.errors import ConfigError
from lander.terminal import filtered, program
from lander.trust import agree
from sweeps.cli import (
    Command,
    add_no_report,
    add_store,
    add_study,
    exit_code,
    one_thread,
    parse_command,
    prepare_process,
)
from sweeps.hints import with_extra
from sweeps.run.cores import usable_cores
from sweeps.store.disk import reporting_full_disk, requiring_space
from sweeps.store.environment import clean_environment
from sweeps.store.store import Store
from sweeps.store.trials import collector_paused
from sweeps.study.settings import MOST_SEEDS


def confirm_arguments(parser: Parser) -> None:
    add_study(parser)
    parser.add_argument("--top", type=positive, help="how many of the best trials race [3]")
    parser.add_argument("--trainings", type=positive, help="trainings altogether, at most [40]")
    parser.add_argument("--seeds", type=replaced, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=positive, help="processes [one per usable core]")
    add_no_report(parser)


def why_arguments(parser: Parser) -> None:
    add_study(parser)
    seeds = "trainings of each configuration; 0: train nothing, show what is known [5]"
    parser.add_argument("--seeds", type=between(0, MOST_SEEDS), help=seeds)
    parser.add_argument("--workers", type=positive, help="processes [one per usable core]")
    add_no_report(parser)


def race_arguments(parser: Parser) -> None:
    parser.add_argument("--races", type=positive, default=4_000, help="of each setting [4000]")


def notebooks_arguments(parser: Parser) -> None:
    add_study(parser)
    parser.add_argument(
        "--markdown", type=Path, metavar="DIR", help="write each as Markdown to DIR as well"
    )


def replaced(_: str) -> NoReturn:
    """Refuse an option of earlier versions, and name the one that took its part."""
    raise argparse.ArgumentTypeError("was replaced by --trainings, the number of all trainings")


def export_arguments(parser: Parser) -> None:
    parser.add_argument("name", help="study with points")
    add_store(parser)


def check_arguments(parser: Parser) -> None:
    parser.add_argument("name", help="study with exported results")
    parser.add_argument("point", help="name of a point of the study")
    parser.add_argument("seed", type=int, help="training seed")


def bakeoff_arguments(parser: Parser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="rule [all that are not done]")
    parser.add_argument("--sweeps", type=positive, default=500, help="simulated sweeps [500]")
    parser.add_argument("--workers", type=positive, help="processes [one per usable core]")


def tables_arguments(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", type=Path, nargs="*", help="[README.md docs/*.md]")


COMMANDS = {
    "confirm": Command(
        "Race a sweep's best trials, its base and the tuned defaults under fresh seeds.",
        confirm_arguments,
        trains=True,
    ),
    "why": Command(
        "Train the path from a sweep's base to its winner, one field at a time.",
        why_arguments,
        trains=True,
    ),
    "race": Command(
        "Simulate races: how often equals, and better ones, are confirmed.", race_arguments
    ),
    "report": Command("Write a report about a sweep, as one HTML page and as Markdown.", add_study),
    "notebooks": Command(
        "Run the notebooks on a sweep, write each as an HTML page.",
        notebooks_arguments,
        trains=True,
    ),
    "export": Command("Write the results of a study's points as lines of JSON.", export_arguments),
    "check": Command("Retrain an exported result and compare every number.", check_arguments),
    "bakeoff": Command(
        "Simulate sweeps on the landscape: which search finds the best, which rule recognises it.",
        bakeoff_arguments,
    ),
    "tables": Command("Write what was measured into the pages that show it.", tables_arguments),
}


def perform(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    args = parse_command(argv, COMMANDS, prog=program("analysis"), description=__doc__)
    guard = requiring_space if COMMANDS[args.command].trains else reporting_full_disk
    with guard(getattr(args, "store", Path())):
        return run_command(args)


def run_command(args: argparse.Namespace) -> int:
    """Import what a command needs, which takes seconds, and run it; the exit code."""
    with collector_paused():  # all that imports make is kept
        one_thread()
        if "store" in args:
            clean_environment(Store(args.store))
            agree(Store(args.store).origin, args.trust_env)
        function = function_of(args.command)
    return function(args)


def function_of(command: str) -> Callable[[argparse.Namespace], int]:
    """The function behind a command, imported only now."""
    if command == "confirm":
        from analysis.confirm.run import confirm

        return confirm
    if command == "why":
        from analysis.why.run import why

        return why
    if command == "report":
        from analysis.report.report import report

        return report
    if command == "notebooks":
        try:
            from analysis.notebooks.run import notebooks
        except ModuleNotFoundError as error:
            raise ConfigError(f"notebooks need {error.name}: {with_extra('notebooks')}") from None
        return notebooks
    if command == "bakeoff":
        from analysis.bakeoff.bakeoff import bakeoff

        def simulate(args: argparse.Namespace) -> int:
            bakeoff(args.names, sweeps=args.sweeps, workers=args.workers or usable_cores())
            return 0

        return simulate
    from analysis.experiments.check import check
    from analysis.experiments.export import export

    if command == "race":
        from analysis.bakeoff.races import simulate_all

        def simulated(args: argparse.Namespace) -> int:
            print(simulate_all(races=args.races))
            return 0

        return simulated
    from analysis.experiments.documents import documents, write_tables

    def print_exported(args: argparse.Namespace) -> int:
        print(export(Store(args.store), args.name))
        return 0

    def write(args: argparse.Namespace) -> int:
        for path in args.files or documents():
            write_tables(path)
        return 0

    def compare(args: argparse.Namespace) -> int:
        return 0 if check(args.name, args.point, args.seed) else 1

    return {"export": print_exported, "tables": write, "check": compare}[command]


IN_SWEEPS = {
    name: replace(COMMANDS[name], perform=run_command)
    for name in ("confirm", "why", "report", "notebooks")
}
"""Commands that `sweeps` has as well, by an entry point: they are about one sweep."""


@filtered()
def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code, after one line on stderr if it failed."""
    prepare_process()
    resume = "interrupted; run the same command to resume"
    return exit_code("analysis", perform, argv, interrupted=resume)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
