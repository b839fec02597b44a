"""Consent to import the module that an environment id names.

`module:Env-v0` makes Gymnasium import a module. That is intended where a person types the id on a
command line or in a file. An id in a store, a policy or an action list may run the code of other
people, so it needs consent: per origin, kept in the user's settings, never beside the data.
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
"""Environment variable: modules, separated by commas, that are trusted from every origin. Workers
inherit it; it also serves on other hosts and in Python."""
OPTION: Final = "--trust-env"
MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
ARGUMENT: Final = re.compile(r"([A-Za-z_][\w.]*):(?!//|\\).+", re.DOTALL)
"""An environment's argument that looks like an id: some environments make another one from it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of a config."""

    name: str
    """A folder, or a database URL without its password: consent is kept under this name."""
    typed: bool = False
    """A person typed the config for this command: nothing needs consent."""

    @classmethod
    def folder(cls, path: Path) -> Origin:
        """The origin of files in a folder."""
        return cls(str(path.resolve()))

    def require(self, values: Mapping[str, object]) -> None:
        """Refuse dotted fields that would import a module without consent.

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
"""An origin without a name, for which no consent can be kept."""


def modules(values: Mapping[str, object]) -> list[str]:
    """The modules that dotted fields of a config name, in `env.id` or its arguments."""
    names = []
    for name, value in values.items():
        if name == "env.id" and ":" in str(value):
            names.append(str(value).partition(":")[0])
        elif name.startswith("env.kwargs.") and isinstance(value, str):
            names += [match[1] for match in [ARGUMENT.fullmatch(value)] if match]
    return list(dict.fromkeys(names))


def trusted(origin: Origin) -> set[str]:
    """The modules that the user trusts from an origin."""
    everywhere = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    return everywhere | (agreed(origin) if origin.name else set())


def agreed(origin: Origin) -> set[str]:
    """The modules with a consent for an origin in the user's settings."""
    path = consents()
    if path is None or path.is_relative_to(origin.name) or not path.is_file():
        return set()
    names = set()
    for line in path.read_text(errors="replace").splitlines():
        try:
            consent = json.loads(line)
            if consent["store"] == origin.name:
                names.add(str(consent["module"]))
        except (ValueError, KeyError, TypeError):
            continue  # not written by this program: no consent
    return names


def agree(origin: Origin, names: Iterable[str]) -> None:
    """Keep the user's consent to modules from an origin.

    A consent that cannot be kept lasts as long as this process and the processes that it starts.

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
    """Append a consent to the user's settings; lines of several processes do not mix."""
    path = consents()
    if path is None or path.is_relative_to(origin.name):
        raise OSError("no folder for settings outside of the data")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = json.dumps({"store": origin.name, "module": module}) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def inherited(origin: Origin) -> dict[str, str]:
    """Environment variables that give a child process the same trust."""
    names = trusted(origin)
    return {VARIABLE: ",".join(sorted(names))} if names else {}


def consents() -> Path | None:
    """The file with the user's consents; None without a home folder."""
    named = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    try:
        settings = named if named.is_absolute() else Path.home() / ".config"
    except RuntimeError:
        return None
    return settings.resolve() / "lander-sweeps" / "trusted.jsonl"
