"""What the cells of every notebook need: the sweep, estimates as a table, a film to look at."""

from __future__ import annotations

import builtins
import os
import sys
from base64 import b64encode
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

import pandas as pd

from analysis.stats import Estimate
from lander.errors import ConfigError
from sweeps.cli import one_thread, prepare_process
from sweeps.store.store import Store, quiet
from sweeps.sweep import Sweep, open_sweep


def studies_in(store: str | Path) -> list[str]:
    """Names of the studies in the folder of a store, the oldest first; none if it is new."""
    prepare()
    return Store(Path(store)).study_names()


def run(*words: str) -> None:
    """Run a command of `sweeps`, and print its lines as they come.

    Raises:
        ConfigError: it failed.
    """
    # Jupyter asks programs for colours; what then rewrites its lines cannot be read in a notebook
    environ = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    command = [sys.executable, "-m", "sweeps", *words]
    with Popen(command, stdout=PIPE, stderr=STDOUT, text=True, env=environ) as process:
        for line in process.stdout or ():
            print(line, end="")
    if process.returncode:
        raise ConfigError(f"sweeps {words[0]} failed: exit code {process.returncode}")


def read_sweep(store: str | Path, study: str) -> Sweep:
    """The sweep of this name in the folder of a store.

    Raises:
        ConfigError: it does not exist.
    """
    prepare()
    return open_sweep(Store(Path(store)), study)


def prepare() -> None:
    """Let this process work as those of a sweep do; in a notebook, tables have four digits and
    whole texts."""
    prepare_process()
    one_thread()  # what is trained here equals what sweeps train
    quiet()
    if hasattr(builtins, "get_ipython"):  # the tables of any other process are its own
        pd.set_option("display.float_format", "{:.4g}".format)
        pd.set_option("display.max_colwidth", None)


def as_table(estimates: Mapping[Any, Estimate]) -> pd.DataFrame:
    """A row per estimate: its value, and the ends of its 95 % interval."""
    rows = [(each.value, each.low, each.high) for each in estimates.values()]
    names = [" and ".join(name) if isinstance(name, tuple) else name for name in estimates]
    return pd.DataFrame(rows, index=names, columns=["value", "low", "high"])


def film(gif: bytes | None) -> Any:
    """A flight as a cell shows it, inline, so that a page needs no other file."""
    html = import_module("IPython.display").HTML  # an optional extra, which only notebooks need
    if gif is None:
        return html("This environment cannot be drawn.")
    return html(f'<img alt="a flight" src="data:image/gif;base64,{b64encode(gif).decode()}">')
