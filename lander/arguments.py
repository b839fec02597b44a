"""Command lines whose errors are one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

from lander.errors import ConfigError, nearest
from lander.trust import OPTION


class Parser(argparse.ArgumentParser):
    """Raises a ConfigError instead of printing its usage; the caller exits with 2.

    An option may be written with - or with _, as the config field that it is named after.
    """

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        near = nearest(choice[1], re.findall(r"[\w.-]+", choice[2])) if choice else ""
        raise ConfigError(f"{message}: did you mean {near}?" if near else message)

    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse unknown arguments here: a command's own parser knows which options are near."""
        typed = sys.argv[1:] if args is None else list(args)
        read, rest = super().parse_known_args([hyphenated(word) for word in typed], namespace)
        if rest:
            first = next((word for word in typed if hyphenated(word) == rest[0]), rest[0])
            raise ConfigError(self._unknown(first))
        return read, []

    def _unknown(self, word: str) -> str:
        name = word.partition("=")[0]
        if not name.startswith("-"):
            return f'unknown argument "{word}": see {self.prog} --help'
        options = re.findall(r"^ +(?:-\w, )?--([\w.-]+)", self.format_help(), re.MULTILINE)
        near = nearest(hyphenated(name).lstrip("-"), options)
        hint = f"did you mean --{near}?" if near else f"see {self.prog} --help"
        return f'unknown option "{name}": {hint}'


SHELLS: Final = ("bash", "zsh", "fish")


def add_shell(parser: argparse.ArgumentParser) -> None:
    """Add the shell for which `completion` makes a script."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def completion(parser: argparse.ArgumentParser, program: str, shell: str) -> str:
    """A script after which the shell completes what is typed behind the name of the program."""
    import shtab  # here: no other command needs it

    parser.prog = program
    script: str = shtab.complete(parser, shell)
    return script


def hyphenated(word: str) -> str:
    """--ppo.clip_range=0.2 as --ppo.clip-range=0.2; other words unchanged."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust-env: the modules of other people that may be imported."""
    parser.add_argument(
        OPTION,
        dest="trust_env",
        action="append",
        default=[],
        metavar="MODULE",
        help="allow environments named MODULE:Env-v0 to import MODULE; consent is kept",
    )


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add the run and the checkpoint from which `lander.commands.saved_policy` reads a policy."""
    parser.add_argument("run", type=Path, metavar="DIR", help="folder of a training run")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--best", action="store_true", help="the best checkpoint, not the last")
    which.add_argument(
        "--checkpoint",
        type=between(1, 10**12),
        metavar="STEPS",
        help="the checkpoint after so many steps",
    )
    add_trust(parser)


def between(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`."""

    def read(text: str) -> int:
        digits = text.lstrip("0") or "0"
        if text.isdecimal() and (len(digits) > len(str(high)) or int(digits) > high):
            raise argparse.ArgumentTypeError(f"must be at most {high:,}, got {text[:40]}")
        if not text.isdecimal() or int(digits) < low:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} up, got {text}")
        return int(digits)

    return read


reset_seed = between(0, 2**63 - 1)
"""A seed that Gymnasium and torch both take."""
whole = between(0, 2**32 - 1)
"""A number from 0 up, within NumPy's range of seeds."""
positive = between(1, 1_000_000)
"""A count: from 1 to a million."""
