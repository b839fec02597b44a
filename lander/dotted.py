"""Dotted names: one word for a config field, its CLI flag, search key and MLflow parameter."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, cast, get_args, get_origin

import tomli_w
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lander.config import RULES, Scalar, TrainConfig
from lander.errors import ConfigError, nearest, unknown

MOST_EXACT: Final = 2**53
"""Beyond it not every whole number is a float: nobody means one of three hundred digits."""
KWARGS: Final = "env.kwargs"
"""The one field that is a table: any name may stand behind it."""


def flatten(config: TrainConfig) -> dict[str, Any]:
    """{"env.id": ..., "ppo.learning_rate": ..., "total_steps": ...}, every field, resolved.

    Of the environment's arguments those that are given: {"env.kwargs.gravity": ...}.

    >>> flatten(TrainConfig())["ppo.gae_lambda"]
    0.98
    """
    return _flatten(_tables(config))


def is_kwarg(name: str) -> bool:
    """Whether a dotted name names an argument of the environment.

    Raises:
        ConfigError: `env.kwargs` with no argument's name behind it.
    """
    if name != KWARGS and not name.startswith(f"{KWARGS}."):
        return False
    if not name.removeprefix(f"{KWARGS}.").isidentifier():
        raise ConfigError(f"{name}: name one argument, as in {KWARGS}.gravity")
    return True


def configure(values: Mapping[str, Any], *, base: TrainConfig) -> TrainConfig:
    """`base` with the dotted fields in `values` replaced, types and ranges checked.

    "none" is None where a field takes None and has no word "none": TOML has no null. An argument of
    the environment that is None is left out: the environment's default.

    Raises:
        ConfigError: an unknown field, or a value that its field does not take.

    >>> configure({"ppo.clip_range": 0.1, "env.bins": 7}, base=TrainConfig()).ppo.clip_range
    0.1
    >>> configure({"ppo.clip_rnage": 0.1}, base=TrainConfig())
    Traceback (most recent call last):
    lander.errors.ConfigError: unknown field "ppo.clip_rnage": did you mean ppo.clip_range?
    """
    flat = flatten(base)
    for name in values:
        if name not in flat and not is_kwarg(name):
            raise ConfigError(unknown("field", name, list(flat)))
    nested: dict[str, Any] = {}
    given = {name: _none(name, value) for name, value in values.items()}
    for name, value in (flat | given).items():
        if value is None and is_kwarg(name):
            continue
        *parents, leaf = name.split(".")
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[leaf] = value
    try:
        return TypeAdapter(TrainConfig).validate_python(nested)
    except ValidationError as error:
        raise ConfigError(first_line(error)) from None


def typed(name: str, text: str) -> object:
    """The value of a dotted field from its text on the command line; "64,64" is a tuple, as is
    "[64, 64]", which files have.

    Raises:
        ConfigError: a text that the field does not take.
    """
    kinds = kinds_of(name)
    if text.lower() == "none" and NoneType in kinds:
        return None
    if is_kwarg(name):
        return scalar(text)
    annotation = annotation_of(name)
    try:
        if tuple in kinds:
            element = TypeAdapter[Any](get_args(_field(name).annotation)[0])
            parts = text.removeprefix("[").removesuffix("]").split(",")
            return tuple(element.validate_strings(part) for part in parts)
        return TypeAdapter[object](annotation, config=RULES).validate_strings(text)
    except ValidationError as error:
        raise ConfigError(first_line(error, name)) from None


def as_read_before(values: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded fields in today's types: versions before took 1e5 or "100" for 100.

    Only for records of such versions; in a new file these values are refused.
    """
    known = flatten(TrainConfig())
    return {
        name: _converted(value, kinds_of(name)) if name in known else value
        for name, value in values.items()
    }


def _converted(value: object, kinds: set[type]) -> object:
    if type(value) not in kinds:
        for kind in kinds & {int, float, bool}:
            try:
                return TypeAdapter[object](kind).validate_python(value)
            except ValidationError:
                pass  # the strict check explains the error
    return value


def scalar(text: str) -> Scalar:
    """An environment's argument from its text: a number, true or false, else a word."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def documented() -> dict[str, str]:
    """The docstring of each dotted field in `lander.config`."""
    return _documented(TrainConfig)


def kinds_of(name: str) -> set[type]:
    """The plain types that a dotted field takes: {int}, {float, str}, ..."""
    if name.startswith(f"{KWARGS}."):
        return {*get_args(Scalar), NoneType}
    open_, kinds = [cast(Any, _field(name).annotation)], set[type]()
    while open_:
        part = open_.pop()
        if isinstance(part, type):
            kinds.add(part)
        elif get_origin(part) is tuple:
            kinds.add(tuple)
        elif get_origin(part) is Literal:
            kinds |= {type(word) for word in get_args(part)}
        else:
            open_ += [arg for arg in get_args(part) if not isinstance(arg, FieldInfo)]
    return kinds


def words_of(name: str) -> tuple[str | bool, ...]:
    """Every word that a dotted field takes, or false and true; empty where they are not listed."""
    if name.startswith(f"{KWARGS}."):
        return ()
    annotation = _field(name).annotation
    if annotation is bool:
        return False, True
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def fields_of(table: Any) -> dict[str, FieldInfo]:
    """The fields of a config dataclass: pydantic has no public name for those of a dataclass."""
    return cast(dict[str, FieldInfo], table.__pydantic_fields__)


def annotation_of(name: str) -> Any:
    """The type of a dotted field, with the rules for its values."""
    return _field(name).rebuild_annotation()


def table_of(name: str) -> Any:
    """The dataclass in `lander.config` that has a dotted field."""
    table = cast(Any, TrainConfig)
    for parent in name.split(".")[:-1]:
        table = fields_of(table)[parent].annotation
    return table


def _field(name: str) -> FieldInfo:
    """Annotation and docstring of a dotted field."""
    return fields_of(table_of(name))[name.rpartition(".")[2]]


def _none(name: str, value: object) -> object:
    """`value`, or None for the word "none" where the field takes None."""
    is_none = isinstance(value, str) and value.lower() == "none"
    return None if is_none and NoneType in kinds_of(name) else value


def to_toml(config: TrainConfig) -> str:
    """A TOML document that `from_toml` and `python -m lander --config` read back unchanged.

    Every field is in it, so that a default of a later version changes nothing.
    """
    return tomli_w.dumps(_without_null(_tables(config)))


def from_toml(text: str, *, source: str) -> TrainConfig:
    """The config in a TOML document, nested tables or dotted keys; absent fields keep defaults.

    Raises:
        ConfigError: `source` is not TOML, or holds an unknown field or a bad value.

    >>> from_toml("total_steps = 100_000", source="short.toml").total_steps
    100000
    """
    try:
        return configure(_flatten(read_toml(text)), base=TrainConfig())
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def read_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML document.

    Raises:
        ConfigError: the text is not TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("not a TOML file: nested too deeply") from None
    except ValueError as error:  # also raised for a number of more digits than Python reads
        raise ConfigError(f"not a TOML file: {error}") from None


def read_text(path: Path) -> str:
    """Contents of a file that a person named; ConfigError if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"cannot read {path}: {why}") from None


def reason(error: OSError) -> str:
    """The reason of a system error, and its file if the error names one: a full disk does not."""
    why = error.strerror or str(error) or type(error).__name__
    return why if error.filename is None else f"{error.filename}: {why}"


def first_line(error: ValidationError, field: str = "") -> str:
    """The first error in one line that starts with the dotted field, or with `field` if given."""
    errors = [(field or field_of(each["loc"]), each) for each in error.errors()]
    name, first = errors[0]
    # a field of several types is wrong in several ways
    rules = [each["msg"].removeprefix("Value error, ") for other, each in errors if other == name]
    if not name:
        return rules[0]
    line = " or ".join(rule[0].lower() + rule[1:] for rule in dict.fromkeys(rules))
    return f"{name}: {line}, got {short(first['input'])}{without_point(first)}{near_word(errors)}"


def near_word(errors: Sequence[tuple[str, ErrorDetails]]) -> str:
    """The word that was probably meant, where a field takes some words only."""
    for _, error in errors:
        if error["type"] == "literal_error":
            words = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            near = nearest(str(error["input"]), words)
            return f": did you mean {near}?" if near else ""
    return ""


def without_point(error: ErrorDetails) -> str:
    """How to write a whole number that was written as 1e5 or 64.0."""
    value = error["input"]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= MOST_EXACT
    return f": write {int(value)}" if error["type"] == "int_type" and is_whole else ""


def short(value: object) -> str:
    """A value for a message; a long one is cut off."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def field_of(location: Sequence[int | str]) -> str:
    """Dotted name in pydantic's path to an error, which also names the types it tried."""
    names = [str(part) for part in location]
    tried = re.compile(r"(constrained|function|literal)\b.*|int|float|str|none")
    return ".".join(name for name in names if not tried.fullmatch(name))


def _tables(config: TrainConfig) -> dict[str, Any]:
    """Nested tables; that of the environment's arguments only if it has entries."""
    tables = asdict(cast(Any, config))
    del tables["env"]["kwargs"]
    if config.env.kwargs:
        tables["env"]["kwargs"] = dict(config.env.kwargs)
    return tables


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= (
            _flatten(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat


def _without_null(nested: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: "none" stands for it."""
    return {
        name: _without_null(value)
        if isinstance(value, Mapping)
        else ("none" if value is None else value)
        for name, value in nested.items()
    }


def _documented(table: Any, prefix: str = "") -> dict[str, str]:
    docs: dict[str, str] = {}
    for name, info in fields_of(table).items():
        if isinstance(info.annotation, type) and is_dataclass(info.annotation):
            docs |= _documented(info.annotation, f"{prefix}{name}.")
        else:
            docs[f"{prefix}{name}"] = " ".join((info.description or "").split())
    return docs
