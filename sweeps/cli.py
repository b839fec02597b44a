"""What the commands about a sweep are given: a store, a study, how long, where to serve."""

from __future__ import annotations

import argparse
import os
from math import isfinite
from pathlib import Path
from typing import Final

from lander.arguments import add_trust
from lander.errors import ConfigError
from sweeps.hints import DEFAULT_STORE
from sweeps.study.study import find_study

DEFAULT_STUDY: Final = "lander"


def add_store(parser: argparse.ArgumentParser) -> None:
    """Which folder holds the records, and what of them may be run."""
    parser.add_argument(
        "--store", type=Path, default=DEFAULT_STORE, help=f"folder [{DEFAULT_STORE}]"
    )
    add_trust(parser)


def add_study(parser: argparse.ArgumentParser) -> None:
    """Which sweep of the store."""
    text = f"its name, or its file [{DEFAULT_STUDY}]"
    parser.add_argument("--study", type=study_name, default=DEFAULT_STUDY, help=text)


def study_name(text: str) -> str:
    """The name of a sweep, also where its file was given."""
    if not text.endswith(".toml"):
        return text
    one_thread()
    try:
        return find_study(text).name
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def hours(text: str) -> float:
    """A positive number of hours."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a number of hours above 0, got {text}")
    return value


def port(text: str) -> int:
    """A TCP port that a user may open."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a port from 1024 to 65535, got {text}")
    return int(text)


def one_thread() -> None:
    """To be called before torch's first op: sums depend on the number of threads."""
    import torch

    torch.set_num_threads(1)


VARIABLES: Final = {
    # nothing here reports to anyone, draws bars for small files, or runs code that a store holds
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # a server that does not answer must not hold training up; `sweeps.record.outbox` asks again,
    # and knows what has arrived
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "SDL_VIDEODRIVER": "dummy",  # pictures are drawn without a screen
}


def prepare_process() -> None:
    """Set the environment of this process and its children; what is set already stays."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
