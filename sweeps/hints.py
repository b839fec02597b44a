"""Commands that messages tell the user to type next; each names its store, unless that is the
default one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from lander.terminal import program

DEFAULT_STORE: Final = Path("mlruns")
UI_PORT: Final = 5000
CHECKOUT: Final = Path(__file__).resolve().parents[1]
COMMANDS: Final = {
    "sweep": "run",
    "reproduce": "reproduce",
    "export": "export",
    "trials": "trials",
    "doctor": "doctor",
    "health": "health",
    "ui": "ui",
    "dashboard": "dashboard",
    "confirm": "confirm",
    "why": "why",
    "report": "report",
    "notebooks": "notebooks",
}
"""Make target -> command of `sweeps` behind it."""
WITHOUT_TARGET: Final = ("export", "trials")
"""Names in `COMMANDS` that are no make target."""


def hint(
    target: str,
    store: Path,
    *,
    study: str | Path | None = None,
    trial: int | str | None = None,
    trials: int | None = None,
    trainings: int | None = None,
) -> str:
    """The shell command that runs `target` on a store, as it works where the user is.

    A make command in a checkout; elsewhere, and for values that make would split or expand, the
    program `sweeps`.
    """
    values = {
        "study": study,
        "trial": trial,
        "trials": trials,
        "trainings": trainings,
        "store": store_option(store),
    }
    options = {name: str(value) for name, value in values.items() if value is not None}
    plain = all(value == shlex.quote(value) for value in options.values())
    if plain and in_checkout() and target not in WITHOUT_TARGET:
        return " ".join(["make", target, *(f"{k.upper()}={v}" for k, v in options.items())])
    words = [COMMANDS[target]]
    for name, value in options.items():
        words += [f"--{name}", value]
    return f"{program('sweeps')} {shlex.join(words)}"


def with_extra(extra: str) -> str:
    """How to add an extra of this project to the installation that runs."""
    if in_checkout():
        return f"make install EXTRAS={extra}"
    return f"install lander-sweeps again, as 'lander-sweeps[{extra}]'"


def store_option(store: Path) -> Path | None:
    """The store as an option; None for the default store, which needs no option."""
    return None if store.resolve() == DEFAULT_STORE.resolve() else store


def in_checkout() -> bool:
    """Whether the current directory is this project's checkout, so that its make targets work."""
    return Path.cwd() == CHECKOUT and (CHECKOUT / "Makefile").is_file()


def no_sweep(store: Path) -> str:
    """The message for a store without a study, with the command that starts one."""
    return f"no sweep in {store} yet: start one with {hint('sweep', store)}"
