"""Writes a study file to begin with: it runs as it is, and explains every key."""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import tomli_w

from lander.dotted import fields_of, read_text, reason
from lander.errors import ConfigError
from lander.terminal import program, say
from sweeps.hints import hint
from sweeps.study.limits import KEY_TABLES
from sweeps.study.samplers import ARGUMENT_TABLES, ARGUMENTS
from sweeps.study.settings import NAME, NAMED, Settings
from sweeps.study.study import read_tables, study_file

WIDTH: Final = 92
COMMENTS: Final = {
    "[base]": "The fields of each training, as far as they are not searched; those left out stand "
    "at their defaults. Trial 0 trains exactly these values. All fields: {lander} --help",
    "[space]": "What is searched, each field within a range that holds its value in [base]. "
    "low and high: any number between them, with log = true each factor alike, with "
    "one_minus_log = true each factor of the distance to 1; whole numbers may have a step. "
    "choices: values without an order.",
    "[points": "Configurations to train under every training seed, each over the values of [base].",
}
"""What stands above the first header that begins so."""


def init(args: argparse.Namespace) -> int:
    """Write the study file that the arguments name; 0.

    Raises:
        ConfigError: it exists, cannot be written, or cannot be the name of a study.
    """
    if args.file.suffix != ".toml":
        raise ConfigError(f"{args.file}: a study file ends in .toml")
    text = template(args.file.stem, like=args.study)
    try:
        with args.file.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{args.file} exists: name a new file") from None
    except OSError as error:
        raise ConfigError(f"cannot write {reason(error)}") from None
    say(f"{args.file} is written; change it, then: {hint('sweep', args.store, study=args.file)}")
    return 0


def template(name: str, *, like: str) -> str:
    """The text of a study of that name, with the settings and tables of another one.

    Raises:
        ConfigError: no such study, or a name that no study can have.
    """
    if not re.fullmatch(NAME, name):
        raise ConfigError(f'"{name}" cannot be the name of a study: take {NAMED}')
    text = read_text(study_file(like))
    document = read_tables(text)
    lines = [
        "# Run this study, or resume it:",
        f"#     {program('sweeps')} run --study {name}.toml",
        "# A key behind # stands at its default.",
        "",
        "[study]",
        *keys(Settings, {**document["study"], "name": name}),
        *tables(text),
        *further(document, text),
        *arguments(document, text),
    ]
    return "\n".join(lines) + "\n"


def keys(kind: type, given: Mapping[str, Any]) -> Iterator[str]:
    """Every key of a table, explained; those that are not given are commented out."""
    for key, info in fields_of(kind).items():
        yield from comment(" ".join(str(info.description).split()))
        if key in given:
            yield assignment(key, given[key])
        else:
            unset = info.default is None
            value = info.examples[0] if unset and info.examples else info.default
            yield f"# {assignment(key, value)}" + ("  # not set" if unset else "")
        yield ""


def tables(text: str) -> Iterator[str]:
    """The tables of a study file after [study], each kind explained once."""
    _, rest = re.split(r"^(?=\[(?!study\]))", text, maxsplit=1, flags=re.MULTILINE)
    waiting = dict(COMMENTS)
    for line in rest.rstrip().splitlines():
        for header in [header for header in waiting if line.startswith(header)]:
            yield from comment(waiting.pop(header).replace("{lander}", program("lander")))
        yield line


def further(document: Mapping[str, Mapping[str, Any]], text: str) -> Iterator[str]:
    """The other tables with keys of their own, commented out unless the study has them."""
    for header, kind in KEY_TABLES.items():
        if f"[{header}]" not in text and "space" in document:
            yield ""
            yield from comment(str(inspect.getdoc(kind)))
            yield f"# [{header}]"
            yield from list(keys(kind, {}))[:-1]


def arguments(document: Mapping[str, Mapping[str, Any]], text: str) -> Iterator[str]:
    """The tables that hand arguments to Optuna, commented out unless the study has them."""
    words = {"sampler": "tpe", "pruner": "median"} | dict(document["study"])
    for table in ARGUMENT_TABLES:
        known = ", ".join(ARGUMENTS[words[table]])
        if known and f"[{table}]" not in text and "space" in document:
            yield ""
            yield from comment(f"Arguments of {words[table]}, as Optuna documents them: {known}")
            yield f"# [{table}]"


def comment(text: str) -> list[str]:
    """Lines of a comment."""
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False)]


def assignment(key: str, value: object) -> str:
    """A line of TOML."""
    return tomli_w.dumps({key: value}).strip()
