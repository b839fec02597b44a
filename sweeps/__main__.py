"""python -m sweeps: run a sweep, look at it, reproduce and export its trials."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import randbelow

from lander.arguments import Parser, positive, whole
from lander.errors import ConfigError
from lander.resolve import UnflyableWarning
from lander.terminal import filtered
from lander.trust import agree
from sweeps.cli import DEFAULT_STUDY, add_store, add_study, hours, one_thread, port, prepare_process
from sweeps.errors import redacted
from sweeps.store.disk import reporting_full_disk, requiring_space
from sweeps.store.environment import clean_environment, unreadable_variable
from sweeps.store.retry import explain
from sweeps.store.store import Store, quiet
from sweeps.study.study import shipped_studies

DASHBOARD_PORT = 8080
TRAINING = ("run", "work", "reproduce")
"""Commands that refuse to begin on a full disk; the others may have no need to write."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m sweeps`."""
    parser = Parser(prog="python -m sweeps", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> Parser:
        sub: Parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_store(sub)
        return sub

    def with_study(sub: Parser) -> Parser:
        add_study(sub)
        return sub

    sub = command("run", "Start a sweep, or take up one that was interrupted.")
    known = ", ".join(shipped_studies())
    sub.add_argument(
        "--study", default=DEFAULT_STUDY, help=f"{known}, or a .toml file [{DEFAULT_STUDY}]"
    )
    sub.add_argument("--trials", type=positive, help="trials in all [as the study says]")
    sub.add_argument(
        "--workers",
        type=whole,
        help="processes; 0: watch those that python -m sweeps work starts [one per usable core]",
    )
    sub.add_argument("--hours", type=hours, help="begin no trial after this time")
    sub.add_argument(
        "--launcher", choices=("local", "ray"), default="local", help="what places them [local]"
    )
    sub.add_argument("--address", help="of a Ray cluster, or auto [a new one on this machine]")
    sub.add_argument(
        "--warm-start", metavar="STUDY", help="sweep whose best trials a new one begins with"
    )

    sub = with_study(command("work", "Run waiting trials of a sweep in this process."))
    sub.add_argument(
        "--worker", type=whole, default=randbelow(2**31), help="seeds the sampler [a random number]"
    )
    sub.add_argument("--hours", type=hours, help="begin no trial after this time")
    sub.add_argument("--parent", type=int, metavar="PID", help="stop when it is not the parent")

    sub = command("status", "How far the sweeps of a store are.")
    sub.add_argument("--json", action="store_true", help="for programs")

    for name, text in (
        ("reproduce", "Retrain a trial from its record and compare, bit for bit."),
        ("export", "Print a trial's config for python -m lander --config."),
    ):
        sub = with_study(command(name, text))
        sub.add_argument("--trial", default="best", help="best, or a number [best]")

    with_study(command("trials", "Print every trial of a sweep as CSV."))

    sub = with_study(command("figures", "Copy a study's pictures out of its record."))
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")

    sub = command("ui", "Serve the MLflow UI on this machine, print a link per study.")
    if "ui" in argv[:1]:
        from sweeps.publish.publish import PORT  # and MLflow with it: the others start without

        sub.add_argument("--port", type=port, default=PORT, help=f"[{PORT}]")

    sub = command("doctor", "Find what is wrong with a store and mend it.")
    sub.add_argument("--dry-run", action="store_true", help="only say what is wrong")

    sub = command("dashboard", "Serve Optuna's dashboard on this machine, print a link per study.")
    sub.add_argument("--port", type=port, default=DASHBOARD_PORT, help=f"[{DASHBOARD_PORT}]")
    return parser.parse_args(argv)


def program(command: str) -> Callable[[argparse.Namespace], int]:
    """What runs a command, imported only now: for `status`, neither torch nor MLflow."""
    if command == "status":
        from sweeps.status import status

        return status
    from sweeps.commands import COMMANDS

    one_thread()
    return COMMANDS[command]


@filtered()
def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    prepare_process()
    try:
        args = parse(argv)
        clean_environment(Store(args.store))
        agree(Store(args.store).origin, args.trust_env)
        run = program(args.command)
        quiet()
        guard = requiring_space if args.command in TRAINING else reporting_full_disk
        with warnings.catch_warnings(), guard(args.store):
            warnings.simplefilter("ignore", UnflyableWarning)  # said in one line by `run`
            code = run(args)
    except ConfigError as error:
        print("sweeps:", redacted(" ".join(str(error).split())), file=sys.stderr)
        return 2
    except RuntimeError as error:
        print("sweeps:", redacted(" ".join(str(error).split())), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sweeps: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        wrong = unreadable_variable(error)
        line = wrong or explain(error)
        if not line:
            raise
        print(f"sweeps: {line}", file=sys.stderr)
        return 2 if wrong else 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
