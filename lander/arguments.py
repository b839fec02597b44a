"""Command lines whose errors are one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from lander.fields import ConfigError
from lander.trust import OPTION


class Parser(argparse.ArgumentParser):
    """Raises what is wrong instead of printing its usage; the caller exits with 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Which modules of somebody else's may be imported."""
    parser.add_argument(
        OPTION,
        dest="trust_env",
        action="append",
        default=[],
        metavar="MODULE",
        help="let environments named MODULE:Env-v0 there import it; asked for once",
    )


def whole(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, got {text}")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text}")
    return int(text)
