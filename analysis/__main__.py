"""python -m analysis: experiments of several seeds, and the tables that README shows."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lander.arguments import Parser, positive
from lander.errors import ConfigError
from lander.terminal import filtered
from lander.trust import agree
from sweeps.cli import add_store, add_study, one_thread, prepare_process
from sweeps.errors import redacted
from sweeps.run.cores import usable_cores
from sweeps.store.disk import reporting_full_disk, requiring_space
from sweeps.store.environment import clean_environment, unreadable_variable
from sweeps.store.retry import explain
from sweeps.store.store import Store

COMMANDS = {
    "confirm": "Train a sweep's best trials and the defaults again, under seeds kept for that.",
    "report": "Write a sweep's report: one HTML page, and the same as Markdown.",
    "notebooks": "Run every notebook against a sweep, write each as an HTML page.",
    "run": "Do the trainings of an experiment that are missing.",
    "check": "Train a recorded outcome again and compare, bit for bit.",
    "tables": "Write the experiments' tables into a document.",
}

TRAINING = ("confirm", "notebooks")
"""Commands that refuse to begin on a full disk."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m analysis`."""
    parser = Parser(prog="python -m analysis", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subs = {
        name: commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in COMMANDS.items()
    }
    for name in ("run", "check"):
        if name in argv[:1]:
            from analysis.experiments.experiment import names  # and torch with it

            subs[name].add_argument("name", help=f"one of {', '.join(names())}")
    for name in ("confirm", "report", "notebooks"):
        add_store(subs[name])
        add_study(subs[name])
    confirm = subs["confirm"]
    confirm.add_argument("--top", type=positive, default=3, help="best trials of the sweep [3]")
    confirm.add_argument("--seeds", type=positive, default=10, help="trainings of each [10]")
    confirm.add_argument("--workers", type=positive, help="processes [one per usable core]")
    subs["run"].add_argument("--jobs", type=positive, help="at a time [one per usable core]")
    subs["check"].add_argument("variant")
    subs["check"].add_argument("seed", type=int)
    subs["tables"].add_argument("file", type=Path, nargs="?", default=Path("README.md"))
    return parser.parse_args(argv)


def perform(args: argparse.Namespace) -> int:
    """Run a command; the exit code. What is slow to import is imported here: not for --help."""
    one_thread()
    if args.command in {"confirm", "report", "notebooks"}:
        clean_environment(Store(args.store))
        agree(Store(args.store).origin, args.trust_env)
    if args.command == "confirm":
        from analysis.confirm import confirm

        return confirm(args)
    if args.command == "report":
        from analysis.report.report import report

        return report(args)
    if args.command == "notebooks":
        try:
            from analysis.notebooks.run import notebooks
        except ModuleNotFoundError as error:
            raise ConfigError(f"no {error.name} here: pip install '.[notebooks]'") from None
        return notebooks(args)
    from analysis.experiments.experiment import check, read_experiment, run
    from analysis.experiments.readme import write_tables

    if args.command == "run":
        run(read_experiment(args.name), jobs=args.jobs or usable_cores())
    elif args.command == "check":
        return 0 if check(read_experiment(args.name), args.variant, args.seed) else 1
    else:
        write_tables(args.file)
    return 0


@filtered()
def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    prepare_process()
    try:
        args = parse(argv)
        guard = requiring_space if args.command in TRAINING else reporting_full_disk
        with guard(getattr(args, "store", Path())):
            return perform(args)
    except ConfigError as error:
        print("analysis:", redacted(" ".join(str(error).split())), file=sys.stderr)
        return 2
    except RuntimeError as error:
        print("analysis:", redacted(" ".join(str(error).split())), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("analysis: interrupted: the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        wrong = unreadable_variable(error)
        line = wrong or explain(error)
        if not line:
            raise
        print(f"analysis: {line}", file=sys.stderr)
        return 2 if wrong else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
