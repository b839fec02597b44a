"""Whose code an environment id may import: a person's own, and that which they have agreed to.

`module:Env-v0` makes Gymnasium import a module. Typed on a command line or in a file of one's own
that is meant. Read from a store, a policy or a list of actions it runs what somebody else wrote, so
it needs consent: per place, kept among the user's settings, never beside what was read.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lander.errors import ConfigError

VARIABLE: Final = "LANDER_TRUST_ENV"
"""Environment variable: modules with commas between them, trusted wherever their names are read.
Workers inherit it; it serves on other hosts and in Python."""
OPTION: Final = "--trust-env"
MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
ARGUMENT: Final = re.compile(r"([A-Za-z_][\w.]*):(?!//|\\).+", re.DOTALL)
"""An environment's argument that reads like an id: some environments make another by it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a config was read."""

    name: str
    """A folder or a database without its password: what consent is kept for."""
    typed: bool = False
    """By a person, for this very command: nothing needs consent."""

    @classmethod
    def folder(cls, path: Path) -> Origin:
        """What is read from a folder."""
        return cls(str(path.resolve()))

    def require(self, values: Mapping[str, object]) -> None:
        """Refuse dotted fields that would import a module nobody has agreed to.

        Raises:
            ConfigError: names the module, and the option that gives consent.
        """
        if self.typed:
            return
        for module in modules(values):
            if not MODULE.fullmatch(module):
                raise ConfigError(f"env.id: {module!r} is not the name of a module")
            if module not in trusted(self):
                option = f"add {OPTION} {module} once, or " if self.name else ""
                raise ConfigError(
                    f"its environment would import the module {module}, which may run anything: "
                    f"if you trust it, {option}set {VARIABLE}={module}"
                )


TYPED: Final = Origin("", typed=True)
UNKNOWN: Final = Origin("")
"""Nobody can have agreed to anything from there."""


def modules(values: Mapping[str, object]) -> list[str]:
    """The modules that dotted fields of a config name, in `env.id` or an argument of its."""
    found = []
    for name, value in values.items():
        if name == "env.id" and ":" in str(value):
            found.append(str(value).partition(":")[0])
        elif name.startswith("env.kwargs.") and isinstance(value, str):
            found += [match[1] for match in [ARGUMENT.fullmatch(value)] if match]
    return list(dict.fromkeys(found))


def trusted(origin: Origin) -> set[str]:
    """The modules that somebody has agreed to for what is read there."""
    everywhere = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    return everywhere | (agreed(origin) if origin.name else set())


def agreed(origin: Origin) -> set[str]:
    """The same, as far as it is kept among the user's settings."""
    path = consents()
    if path is None or path.is_relative_to(origin.name) or not path.is_file():
        return set()
    found = set()
    for line in path.read_text(errors="replace").splitlines():
        try:
            consent = json.loads(line)
            if consent["store"] == origin.name:
                found.add(str(consent["module"]))
        except (ValueError, KeyError, TypeError):
            continue  # not by this program: no consent
    return found


def agree(origin: Origin, names: Iterable[str]) -> None:
    """Keep the consent to modules for what is read there.

    Where it cannot be kept it lasts as long as this process and those that it starts.

    Raises:
        ConfigError: not the name of a module.
    """
    for module in names:
        if not MODULE.fullmatch(module):
            raise ConfigError(f"{OPTION} must name a module, as in module:Env-v0, got {module!r}")
        if module in trusted(origin):
            continue
        try:
            keep(origin, module)
        except OSError as error:
            everywhere = os.environ.get(VARIABLE, "")
            os.environ[VARIABLE] = f"{everywhere},{module}".strip(",")
            print(
                f"warning: the consent to {module} cannot be kept ({error.strerror or error}): "
                f"next time set {VARIABLE}={module}",
                file=sys.stderr,
            )


def keep(origin: Origin, module: str) -> None:
    """A line of the user's settings; lines of several processes do not mix."""
    path = consents()
    if path is None or path.is_relative_to(origin.name):
        raise OSError("no folder for settings outside of what is read")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = json.dumps({"store": origin.name, "module": module}) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def inherited(origin: Origin) -> dict[str, str]:
    """For the environment of a process that is to read the same."""
    names = trusted(origin)
    return {VARIABLE: ",".join(sorted(names))} if names else {}


def consents() -> Path | None:
    """The file with the user's consents; None without a home."""
    named = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    try:
        settings = named if named.is_absolute() else Path.home() / ".config"
    except RuntimeError:
        return None
    return settings.resolve() / "lander-sweeps" / "trusted.jsonl"
