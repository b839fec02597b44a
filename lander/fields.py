"""Dotted names: one word for a config field, its CLI flag, search key and MLflow parameter."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import tomli_w
from pydantic import TypeAdapter, ValidationError

from lander.config import TrainConfig


class ConfigError(ValueError):
    """Bad input from a person: one line that says what is wrong and what would be right."""


def flatten(config: TrainConfig) -> dict[str, Any]:
    """{"env.id": ..., "ppo.learning_rate": ..., "total_steps": ...}, every field, resolved."""
    return _flatten(asdict(cast(Any, config)))


def configure(values: Mapping[str, Any], *, base: TrainConfig) -> TrainConfig:
    """`base` with the dotted fields in `values` replaced, types and ranges checked.

    Raises:
        ConfigError: an unknown field, or a value that its field does not take.
    """
    flat = flatten(base)
    for name in values:
        if name not in flat:
            raise ConfigError(unknown("field", name, list(flat)))
    nested: dict[str, Any] = {}
    for name, value in (flat | dict(values)).items():
        *parents, leaf = name.split(".")
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[leaf] = value
    try:
        return TypeAdapter(TrainConfig).validate_python(nested)
    except ValidationError as error:
        raise ConfigError(first_line(error)) from None


def describe() -> dict[str, str]:
    """What each dotted field is for, in the words of its docstring in `lander.config`."""
    return _describe(TrainConfig)


def to_toml(config: TrainConfig) -> str:
    """A TOML document that `from_toml` and `python -m lander --config` read back unchanged."""
    return tomli_w.dumps(_without_none(asdict(cast(Any, config))))


def from_toml(text: str, *, source: str) -> TrainConfig:
    """The config in a TOML document, nested tables or dotted keys; absent fields keep defaults.

    Raises:
        ConfigError: `source` is not TOML, or holds an unknown field or a bad value.
    """
    try:
        return configure(_flatten(tomllib.loads(text)), base=TrainConfig())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not a TOML file: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def read_text(path: Path) -> str:
    """Contents of a file that a person named; ConfigError if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"cannot read {path}: {reason}") from None


def unknown(kind: str, name: object, known: list[str]) -> str:
    """'unknown KIND "name": did you mean ...' with the nearest name, or all of them."""
    close = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
    return f'unknown {kind} "{name}": {hint}'


def first_line(error: ValidationError) -> str:
    """The first thing wrong, as one line that starts with the dotted field."""
    first = error.errors()[0]
    rule = first["msg"].removeprefix("Value error, ")
    names = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    if not names:
        return rule
    name = ".".join(part for part in names if part not in {"constrained-int", "int"})
    return f"{name}: {rule[0].lower()}{rule[1:]}, got {first['input']!r}"


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= (
            _flatten(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat


def _without_none(nested: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: an absent key stands for None, which is then the field's default."""
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in nested.items()
        if value is not None
    }


def _describe(table: Any, prefix: str = "") -> dict[str, str]:
    docs: dict[str, str] = {}
    for name, info in table.__pydantic_fields__.items():
        if isinstance(info.annotation, type) and is_dataclass(info.annotation):
            docs |= _describe(info.annotation, f"{prefix}{name}.")
        else:
            docs[f"{prefix}{name}"] = " ".join((info.description or "").split())
    return docs
