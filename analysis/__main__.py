"""python -m analysis: experiments of several seeds, and the tables that README shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from analysis.experiment import check, names, read_experiment, run
from analysis.tables import write_tables
from lander.arguments import Parser, positive
from lander.fields import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    torch.set_num_threads(1)  # before the first op: sums depend on the number of threads
    parser = Parser(prog="python -m analysis", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "Do the trainings of an experiment that are missing."
    sub = commands.add_parser("run", help=text, description=text, allow_abbrev=False)
    sub.add_argument("name", help=f"one of {', '.join(names())}")
    sub.add_argument("--jobs", type=positive, help="at a time [one per core]")
    text = "Train a recorded outcome again and compare, bit for bit."
    sub = commands.add_parser("check", help=text, description=text, allow_abbrev=False)
    sub.add_argument("name", help=f"one of {', '.join(names())}")
    sub.add_argument("variant")
    sub.add_argument("seed", type=int)
    text = "Write the experiments' tables into a document."
    sub = commands.add_parser("tables", help=text, description=text, allow_abbrev=False)
    sub.add_argument("file", type=Path, nargs="?", default=Path("README.md"))
    try:
        args = parser.parse_args(argv)
        if args.command == "run":
            run(read_experiment(args.name), jobs=args.jobs or os.cpu_count() or 1)
        elif args.command == "check":
            return 0 if check(read_experiment(args.name), args.variant, args.seed) else 1
        else:
            write_tables(args.file)
    except ConfigError as error:
        print("analysis:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("analysis: interrupted: the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
