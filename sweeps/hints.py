"""Commands to type next, complete: they name the store unless it is the default one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

DEFAULT_STORE: Final = Path("mlruns")
UI_PORT: Final = 5000
CHECKOUT: Final = Path(__file__).resolve().parents[1]
COMMANDS: Final = {
    "sweep": "sweeps run",
    "reproduce": "sweeps reproduce",
    "export": "sweeps export",
    "trials": "sweeps trials",
    "doctor": "sweeps doctor",
    "ui": "sweeps ui",
    "dashboard": "sweeps dashboard",
    "confirm": "analysis confirm",
    "report": "analysis report",
    "notebooks": "analysis notebooks",
}
"""Module and subcommand behind each make target, and of what has no target."""
WITHOUT_TARGET: Final = ("export", "trials")


def hint(
    target: str,
    store: Path,
    *,
    study: str | None = None,
    trial: int | str | None = None,
    trials: int | None = None,
) -> str:
    """The command that does `target` to a store, ready to be pasted into a shell.

    A make command in a checkout; `python -m` elsewhere, and where make would split or expand what
    it is given.
    """
    options = {"study": study, "trial": trial, "trials": trials, "store": named(store)}
    given = {name: str(value) for name, value in options.items() if value is not None}
    plain = all(value == shlex.quote(value) for value in given.values())
    if plain and in_checkout() and target not in WITHOUT_TARGET:
        return " ".join(["make", target, *(f"{k.upper()}={v}" for k, v in given.items())])
    python = Path(".venv/bin/python")
    words = [str(python) if python.exists() else "python", "-m", *COMMANDS[target].split()]
    for name, value in given.items():
        words += [f"--{name}", value]
    return shlex.join(words)


def named(store: Path) -> Path | None:
    """A store as an option; None for the one that every command looks at by itself."""
    return None if store.resolve() == DEFAULT_STORE.resolve() else store


def in_checkout() -> bool:
    """Whether make, in this directory, reads this project's Makefile."""
    return Path.cwd() == CHECKOUT and (CHECKOUT / "Makefile").is_file()


def no_sweep(store: Path) -> str:
    """What is missing in a store without a study, and what makes one."""
    return f"no sweep in {store} yet: start one with {hint('sweep', store)}"
