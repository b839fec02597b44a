"""What every notebook imports: the sweep it is about, and the form of its answers."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from matplotlib.figure import Figure

from lander.errors import ConfigError
from sweeps.hints import CHECKOUT, DEFAULT_STORE
from sweeps.store.store import Store, quiet
from sweeps.sweep import Sweep, open_sweep

STORE, STUDY = "SWEEPS_STORE", "SWEEPS_STUDY"
"""Environment variables that name the sweep; the default is study `lander` in `mlruns`."""
STEPS = "SWEEPS_STEPS"
"""Environment variable: the number of environment steps of a training inside a notebook."""


def sweep_here() -> Sweep:
    """The sweep that the environment variables name.

    Raises:
        ConfigError: it does not exist.
    """
    torch.set_num_threads(1)  # before the first op: what is trained here equals what sweeps train
    quiet()
    # Jupyter may run in any folder of a checkout
    usual = CHECKOUT / DEFAULT_STORE if (CHECKOUT / "Makefile").is_file() else DEFAULT_STORE
    return open_sweep(Store(Path(os.environ.get(STORE, usual))), os.environ.get(STUDY, "lander"))


def steps_here(default: int) -> int:
    """The number of environment steps to train for, from the environment variable or `default`.

    Raises:
        ConfigError: the variable holds no number of steps.
    """
    steps = os.environ.get(STEPS, str(default))
    if not steps.isdecimal() or int(steps) < 1:
        raise ConfigError(f'{STEPS} must be a whole number from 1 up, got "{steps}"')
    return int(steps)


@dataclass(frozen=True, slots=True)
class Answer:
    """A figure and one sentence about it; a notebook shows the sentence below the figure."""

    sentence: str
    """Markdown."""
    figure: Figure | None = None
    """None if there is nothing to draw; the sentence then says why."""
    gif: bytes | None = None
    """A moving picture, shown below the figure."""

    def _ipython_display_(self) -> None:
        ipython = import_module("IPython.display")  # an optional extra, which only notebooks need
        if self.figure is not None:
            ipython.display(self.figure)
        if self.gif is not None:  # inline, so that a page needs no other file
            data = b64encode(self.gif).decode()
            ipython.display(
                ipython.HTML(f'<img alt="a flight" src="data:image/gif;base64,{data}">')
            )
        ipython.display(ipython.Markdown(self.sentence))
