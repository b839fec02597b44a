"""What the command lines of `sweeps` and `analysis` share: subcommands, arguments, exit codes."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from lander.arguments import Parser, add_trust
from lander.errors import ConfigError, unknown
from lander.terminal import drop_output
from sweeps.errors import redacted
from sweeps.hints import DEFAULT_STORE
from sweeps.store.environment import unreadable_variable
from sweeps.store.retry import explain
from sweeps.study.study import find_study

DEFAULT_STUDY: Final = "lander"
MOST_HOURS: Final = 100_000
"""Eleven years."""
GROUP: Final = "sweeps.commands"
"""Entry points of this group are tables of commands that other packages add to `sweeps`."""


@dataclass(frozen=True)
class Command:
    """A subcommand, apart from the function that it runs."""

    help: str
    add_arguments: Callable[[Parser], None]
    trains: bool = False
    """Whether it refuses to begin on a full disk; other commands may have no need to write."""
    perform: Callable[[argparse.Namespace], int] | None = None
    """What runs it, if another package adds it to `sweeps`; its arguments have those of `add_store`
    among them."""


def added_commands() -> dict[str, Command]:
    """The commands that other packages add to `sweeps`."""
    tables = (point.load() for point in entry_points(group=GROUP))
    return {name: command for table in tables for name, command in table.items()}


def parse_command(
    argv: Sequence[str], commands: Mapping[str, Command], *, prog: str, description: str | None
) -> argparse.Namespace:
    """The arguments of one of these commands; only that one adds its own, which may take time.

    Raises:
        ConfigError: they are wrong.
    """
    first = argv[0] if argv else "--help"
    if first.startswith("-") and first not in ("-h", "--help"):
        raise ConfigError(f"the command comes first: {prog} COMMAND {first} ..")
    if not first.startswith("-") and first not in commands:
        raise ConfigError(unknown("command", first, list(commands)))
    return command_parser(commands, argv, prog=prog, description=description).parse_args(argv)


def command_parser(
    commands: Mapping[str, Command], wanted: Collection[str], *, prog: str, description: str | None
) -> Parser:
    """A parser of these commands; only those wanted have their arguments."""
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        subparser = subparsers.add_parser(
            name, help=command.help, description=command.help, allow_abbrev=False
        )
        if name in wanted:
            command.add_arguments(subparser)
    return parser


def exit_code(
    program: str,
    run: Callable[[Sequence[str]], int],
    argv: Sequence[str],
    *,
    interrupted: str = "interrupted",
) -> int:
    """Run a program; the exit code. An expected error becomes one line on stderr.

    2: the user's arguments, files or environment are wrong; 1: the work failed; 130: interrupted.
    """
    try:
        return run(argv)
    except (ConfigError, RuntimeError) as error:
        code = 2 if isinstance(error, ConfigError) else 1
        message = redacted(" ".join(str(error).split()))
    except KeyboardInterrupt:
        code, message = 130, interrupted
    except BrokenPipeError:
        drop_output()
        return 0
    except Exception as error:
        variable = unreadable_variable(error)
        code, message = 2 if variable else 1, variable or explain(error)
        if not message:
            raise
    print(f"{program}: {message}", file=sys.stderr)
    return code


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the records, and which modules named in them may be imported."""
    text = f"folder of the records [{DEFAULT_STORE}]"
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help=text)
    add_trust(parser)


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the store, and a sweep in it."""
    add_store(parser)
    text = f"name of the sweep, or its study file [{DEFAULT_STUDY}]"
    parser.add_argument("--study", type=study_name, default=DEFAULT_STUDY, help=text)


def study_name(text: str) -> str:
    """The name of a sweep, given its name or its file."""
    if not text.endswith(".toml"):
        return text
    one_thread()
    try:
        return find_study(text).name
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_no_report(parser: argparse.ArgumentParser) -> None:
    """Add the option to leave out the page of a sweep."""
    parser.add_argument(
        "--no-report", action="store_true", help="do not write the report at the end"
    )


def hours(text: str) -> float:
    """A positive number of hours."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_HOURS:
        raise argparse.ArgumentTypeError(
            f"must be a number of hours above 0, at most {MOST_HOURS:,}, got {text}"
        )
    return value


def port(text: str) -> int:
    """A TCP port that needs no special rights."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a port from 1024 to 65535, got {text}")
    return int(text)


VARIABLES: Final = {
    # no library reports usage, draws progress bars for small files, or unpickles what a store holds
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # a server that does not answer must not delay training; `sweeps.record.outbox` asks again, and
    # knows what has arrived
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "SDL_VIDEODRIVER": "dummy",  # pictures are drawn without a screen
}


def prepare_process() -> None:
    """Set environment variables for this process and its children, unless they are set already, and
    let it end at once."""
    atexit.register(gc.freeze)  # or Python would look for garbage in all that was imported
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)


def one_thread() -> None:
    """Limit torch to one thread, before its first op: sums depend on the number of threads."""
    import torch  # here: most commands of `sweeps` that fail early do without

    torch.set_num_threads(1)
