"""Explains the config fields to a person: `python -m lander --help`, or `--help FIELD`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from inspect import getdoc
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from lander import config
from lander.config import TrainConfig
from lander.dotted import KWARGS, annotation_of, documented, flatten, table_of
from lander.errors import ConfigError, unknown
from lander.options import CHOICES, CONDITIONS, words_for

RUN: Final = "run"
"""Title of the fields that belong to no table."""
WIDTH: Final = 80
KINDS: Final = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    NoneType: "none",
}
"""Plain types in words."""
INDENTED: Final[dict[str, Any]] = {"initial_indent": "  ", "subsequent_indent": "    "}


def groups() -> dict[str, tuple[str, list[str]]]:
    """Title of each table of fields -> what it is about, and its dotted fields."""
    grouped: dict[str, tuple[str, list[str]]] = {}
    for name in documented():
        title = name.rpartition(".")[0] or RUN
        grouped.setdefault(title, (about(name), []))[1].append(name)
    return grouped


def about(name: str) -> str:
    """What the table of a field is about, with its paper."""
    return " ".join((getdoc(table_of(name)) or "").split())


def shown(value: object) -> str:
    """A field's value as a person types it on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def field_named(text: str) -> str:
    """The dotted field that a person named, perhaps as an option, or without its table.

    Raises:
        ConfigError: there is none; with the nearest one.

    >>> field_named("--ppo.clip-range"), field_named("gamma")
    ('ppo.clip_range', 'ppo.gamma')
    """
    name, known = text.lstrip("-").replace("-", "_"), list(documented())
    if name.startswith(f"{KWARGS}."):
        return KWARGS
    for field in known:
        if name in (field, field.rpartition(".")[2]):
            return field
    raise ConfigError(unknown("field", text, known))


def explain(text: str) -> str:
    """Everything about the field that a person named, or the fields of a table.

    Raises:
        ConfigError: there is none of that name.
    """
    if text in groups():
        return "\n".join(overview(text))
    return "\n".join(lines(field_named(text)))


def overview(title: str) -> Iterator[str]:
    """The fields of a table with the values that they take and their defaults."""
    meaning, fields = groups()[title]
    defaults = flatten(TrainConfig())
    yield f"{title}: {meaning}"
    for name in fields:
        default = f" [{shown(defaults[name])}]" if name in defaults else ""
        yield f"  {name:<27} {range_of(name)}{default}"


def lines(name: str) -> Iterator[str]:
    """Type, range and default of a field, its meaning, how to set it, and its source."""
    default = flatten(TrainConfig()).get(name)
    yield f"{name}: {range_of(name)}" + ("" if name == KWARGS else f"; default {shown(default)}")
    yield ""
    yield from textwrap.wrap(documented()[name], WIDTH)
    for word, choice in CHOICES.get(name, {}).items():
        yield from textwrap.wrap(f"{word}: {choice.meaning}", WIDTH, **INDENTED)
    yield from (f"Only with {each}." for each in CONDITIONS if each.field == name)
    yield ""
    example = "X" if name == KWARGS or default is None else shown(default)
    option = f"--{name}.NAME" if name == KWARGS else f"--{name}"
    hyphens = "" if "_" not in name else f", or --{name.replace('_', '-')}"
    yield f"option   {option} {example}{hyphens}"
    yield f'in TOML  "{option[2:]}" = {literal(default)}'
    source = f"{table_of(name).__name__} in {config.__name__.replace('.', '/')}.py"
    yield from textwrap.wrap(f"source   {source}: {about(name)}", WIDTH, subsequent_indent=" " * 9)


def literal(default: object) -> str:
    """A field's value as TOML writes it; X if its default cannot be written."""
    if default is None:
        return "X"
    if isinstance(default, tuple):
        return f"[{', '.join(map(str, default))}]"
    return f'"{default}"' if isinstance(default, str) else shown(default)


def range_of(name: str) -> str:
    """The values that a field takes, in words.

    >>> range_of("ppo.clip_range"), range_of("ppo.gamma")
    ('number above 0', 'number above 0, up to 1')
    >>> range_of("env.bins"), range_of("ppo.learning_rate_schedule")
    ('whole number from 2 up to 4,096, or none', 'linear, or constant')
    """
    if name == KWARGS:
        return "any argument of the environment, by its name"
    words = words_for(name) if name in CHOICES else alternatives(annotation_of(name), {})
    return ", ".join([*words[:-1], f"or {words[-1]}" if len(words) > 1 else words[0]])


def alternatives(part: Any, limits: Mapping[str, float]) -> list[str]:
    """The kinds of values that an annotation allows, its numbers within `limits`."""
    origin, arguments = get_origin(part), get_args(part)
    if origin is Annotated:
        inner, *rules = arguments
        return alternatives(inner, {**limits, **limits_in(rules)})
    if origin is Literal:
        return [str(word) for word in arguments]
    if origin is tuple:
        (element,) = alternatives(arguments[0], {})
        return [f"list, each a {element}"]
    if arguments:
        return [word for each in arguments for word in alternatives(each, limits)]
    return [KINDS[part] + (within(**limits) if part in (int, float) else "")]


def limits_in(rules: Iterable[Any]) -> dict[str, float]:
    """The ends of a range in pydantic's rules: gt, ge, lt, le."""
    limits: dict[str, float] = {}
    for rule in rules:
        for each in rule.metadata if isinstance(rule, FieldInfo) else [rule]:
            ends = {end: getattr(each, end, None) for end in ("gt", "ge", "lt", "le")}
            limits |= {end: value for end, value in ends.items() if value is not None}
    return limits


def within(
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> str:
    """A range in words."""
    low = "" if ge is None else f" from {ge:,}"
    low = low if gt is None else f" above {gt:,}"
    high = "" if lt is None else f" below {lt:,}"
    high = high if le is None else f" up to {le:,}"
    return f"{low},{high}" if gt is not None and high else f"{low}{high}"
