"""What every notebook begins with: the sweep that it looks at, and how it answers."""

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
"""Environment variables that say which sweep; without them it is `lander` in `mlruns`."""
STEPS = "SWEEPS_STEPS"
"""Environment variable: how many environment steps a notebook trains for where it trains."""


def sweep_here() -> Sweep:
    """The sweep that the environment names.

    Raises:
        ConfigError: there is none.
    """
    torch.set_num_threads(1)  # before the first op: what is trained here equals what sweeps train
    quiet()
    # Jupyter may run in any folder of a checkout
    usual = CHECKOUT / DEFAULT_STORE if (CHECKOUT / "Makefile").is_file() else DEFAULT_STORE
    return open_sweep(Store(Path(os.environ.get(STORE, usual))), os.environ.get(STUDY, "lander"))


def steps_here(default: int) -> int:
    """How many environment steps to train for: what the environment says, or else `default`.

    Raises:
        ConfigError: it says something that is no number of steps.
    """
    given = os.environ.get(STEPS, str(default))
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f'{STEPS} must be a whole number from 1 up, got "{given}"')
    return int(given)


@dataclass(frozen=True, slots=True)
class Answer:
    """A figure and the one sentence that it allows to say; a notebook shows one below the other."""

    sentence: str
    """Markdown."""
    figure: Figure | None = None
    """None where there is nothing to draw: the sentence then says why."""
    gif: bytes | None = None
    """A moving picture below the figure."""

    def _ipython_display_(self) -> None:
        shown = import_module("IPython.display")  # here: only notebooks have it
        if self.figure is not None:
            shown.display(self.figure)
        if self.gif is not None:  # inline, so that a page needs no other file
            data = b64encode(self.gif).decode()
            shown.display(shown.HTML(f'<img alt="a flight" src="data:image/gif;base64,{data}">'))
        shown.display(shown.Markdown(self.sentence))
