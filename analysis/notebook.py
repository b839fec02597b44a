"""What every notebook begins with: the sweep that it looks at."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from sweeps.storage import Store, quiet
from sweeps.sweep import Sweep, open_sweep

STORE, STUDY = "SWEEPS_STORE", "SWEEPS_STUDY"
"""Environment variables that say which sweep; without them it is `lander` in `mlruns`."""


def sweep_here() -> Sweep:
    """The sweep that the environment names.

    Raises:
        ConfigError: there is none.
    """
    torch.set_num_threads(1)  # before the first op: what is trained here equals what sweeps train
    quiet()
    folder = Path(os.environ.get(STORE, Path(__file__).parents[1] / "mlruns"))
    return open_sweep(Store(folder), os.environ.get(STUDY, "lander"))
