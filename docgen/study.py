"""The page of the keys of a study file, from `sweeps.study`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from docgen.markdown import marked_up, table
from lander.dotted import fields_of
from lander.explain import alternatives, shown
from sweeps.study.limits import KEY_TABLES
from sweeps.study.samplers import ARGUMENT_TABLES, ARGUMENTS
from sweeps.study.settings import LARGEST, NOT_WITH_POINTS, Settings
from sweeps.study.template import COMMENTS

RETIRED = {"cmaes"}
"""Words that only an old study may say."""


def page() -> Iterator[str]:
    """Every table of a study file and every key."""
    yield "# Keys of a study file\n"
    yield "`sweeps init mine.toml` writes a file that has them all;"
    yield "[Write a study](../studies.md) shows how they work together.\n"
    yield "## [study]"
    for key in fields_of(Settings):
        yield from explained(Settings, key)
        if key in NOT_WITH_POINTS:
            yield f"\nNot in a study with points: {marked_up(NOT_WITH_POINTS[key])}."
    for header, comment in COMMENTS.items():
        text = marked_up(comment.replace("{lander}", "`lander`").replace("` --help", " --help`"))
        yield f"\n## {header.removesuffix(']')}]\n\n{text}"
    for header, kind in KEY_TABLES.items():
        yield f"\n## [{header}]\n\n{inspect.getdoc(kind)}"
        for key in fields_of(kind):
            yield from explained(kind, key)
    for header in ARGUMENT_TABLES:
        yield from argument_table(header)


def explained(kind: type, key: str) -> Iterator[str]:
    """The section of a key of a table."""
    info = fields_of(kind)[key]
    default = "required" if info.is_required() else f"default `{shown(info.default)}`"
    yield f"\n### `{key}` {{ #{key} }}\n\n*{marked_up(values(kind, key))}*, {default}\n"
    yield marked_up(str(info.description))


def values(kind: type, key: str) -> str:
    """What a key takes, in words."""
    limits = {"le": LARGEST[key]} if key in LARGEST else {}
    words = alternatives(fields_of(kind)[key].rebuild_annotation(), limits)
    *first, last = [word for word in words if word not in RETIRED]
    return ", ".join([*first, f"or {last}" if first else last])


def argument_table(header: str) -> Iterator[str]:
    """The arguments of every sampler, or of every pruner."""
    yield f"\n## [{header}]\n"
    yield f"Arguments of the {header} that `{header}` names, as Optuna documents them."
    words = alternatives(fields_of(Settings)[header].rebuild_annotation(), {})
    rows = [
        (f"`{word}`", f"`{name}`", ", or ".join(map(marked_up, alternatives(annotation, {}))))
        for word in words
        for name, annotation in ARGUMENTS[word].items()
    ]
    yield from table((header, "argument", "values"), rows)
