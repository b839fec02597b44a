"""Pages of the config: a page per table, and a section per field, from `lander.explain`."""

from __future__ import annotations

from collections.abc import Iterator

from docgen.markdown import field, marked_up, table
from lander.config import TrainConfig
from lander.dotted import KWARGS, documented, flatten
from lander.explain import groups, literal, range_of, shown
from lander.options import CHOICES, CONDITIONS


def pages() -> dict[str, str]:
    """The text of each page by the name of its table."""
    return {title: "\n".join(page(title)) for title in groups()}


def page(title: str) -> Iterator[str]:
    """What a table is about, its fields at a glance, then each of them."""
    about, fields = groups()[title]
    yield f"# {title}\n\n{marked_up(about)}"
    yield from table(
        ("field", "values", "default"),
        ((field(name), marked_up(range_of(name)), default(name)) for name in fields),
    )
    for name in fields:
        yield from section(name)


def section(name: str) -> Iterator[str]:
    """Values, default, meaning, words and conditions of a field, and how to set it."""
    yield f"## `{name}` {{ #{name} }}\n"
    yield f"*{marked_up(range_of(name))}*, default {default(name)}\n"
    yield f"{marked_up(documented()[name])}\n"
    for word, choice in CHOICES.get(name, {}).items():
        reads = ", ".join(map(field, sorted(choice.reads)))
        yield f"- `{word}`: {marked_up(choice.meaning)}" + (f"; reads {reads}" if reads else "")
    yield ""
    for condition in CONDITIONS:
        if condition.field == name:
            yield f"It acts only with {marked_up(str(condition))}.\n"
    key = f"{name}.NAME" if name == KWARGS else name
    value = flatten(TrainConfig()).get(name)
    example = "X" if value is None else shown(value)
    yield f'`--{key} {example}` on the command line, `"{key}" = {literal(value)}` in TOML\n'


def default(name: str) -> str:
    defaults = flatten(TrainConfig())
    return f"`{shown(defaults[name])}`" if name in defaults else "none given"
