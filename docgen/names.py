"""Pages of all that is recorded, from `lander.metrics` and the docstrings in `sweeps.schema`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from inspect import getsource
from itertools import pairwise

from docgen.markdown import marked_up, table
from lander.metrics import CURVES, FINALS
from sweeps import schema

WORDS = "words"
HEALTHY = " Healthy: "


@dataclass(frozen=True)
class Name:
    """A name under which something is recorded, or a word that is the value of one."""

    section: str
    """The heading in `sweeps.schema` that it stands below."""
    owner: str
    """The class that it is a word of, if any."""
    text: str
    meaning: str

    @property
    def shown(self) -> str:
        """The name in a table; a * stands for what follows a prefix."""
        return f"`{self.text}*`" if self.text.endswith((".", "_")) else f"`{self.text}`"


def names() -> list[Name]:
    """Every name of `sweeps.schema`, in its order; the meaning is its docstring, or empty."""
    source = getsource(schema)
    headings = [
        (source.count("\n", 0, heading.start()) + 1, heading[1])
        for heading in re.finditer(r"^# --- (.+) ---$", source, re.M)
    ]

    def documented(body: Iterable[ast.stmt], owner: str) -> Iterator[Name]:
        for statement, behind in pairwise([*body, ast.Pass()]):
            section = [title for line, title in headings if line < getattr(statement, "lineno", 0)]
            match statement:
                case ast.ClassDef(name=name):
                    yield from documented(statement.body, name)
                case (
                    ast.AnnAssign(value=ast.Constant(value=str(text)))
                    | ast.Assign(value=ast.Constant(value=str(text)))
                ):
                    file = f"{text}.png" if owner == schema.Chart.__name__ else text
                    yield Name(section[-1], owner, file, docstring(behind))

    return list(documented(ast.parse(source).body, ""))


def docstring(statement: ast.stmt) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return ""


def metrics_page() -> Iterator[str]:
    """Every number, what it is, and how a healthy one looks."""
    yield "# Recorded metrics\n"
    yield "r is the probability ratio new / old, A the advantage, R the return that the critic is"
    yield "trained on, V its value. Returns are in the units of the environment.\n"
    yield "## Curves of a training\n"
    yield "Over environment steps, one point per update; `eval/`: one per checkpoint."
    yield from metric_table(CURVES.items())
    yield "## Final numbers of a training"
    yield from metric_table(FINALS.items())
    yield "With `seeds_per_trial` above 1 the curves and final numbers of each training are"
    yield "recorded under `seed_0/`, `seed_1/`, ..; the plain names then hold the mean over seeds,"
    yield "`eval/return_min`, `eval/return_max`, `final/return_min` and `final/return_max` the"
    yield "extremes.\n"
    for section, rows in by_section("metrics").items():
        yield heading(section)
        yield from metric_table((name.text, name.meaning) for name in rows)


def metric_table(rows: Iterable[tuple[str, str]]) -> list[str]:
    cells = (
        (f"`{name}`", *meaning.replace("\n", " ").partition(HEALTHY)) for name, meaning in rows
    )
    return table(
        ("metric", "what it is", "a healthy one"),
        (
            (name, marked_up(what), marked_up(capitalised(healthy)))
            for name, what, _, healthy in cells
        ),
    )


def records_page() -> Iterator[str]:
    """Every tag, attribute and artifact, and the words that are values of some."""
    yield "# Recorded tags and artifacts\n"
    yield "The parameters of a trial's run are the fields of its config, under their dotted names."
    yield "A run is FINISHED, KILLED (its trial was pruned or interrupted) or FAILED.\n"
    for kind in ("user attributes", "tags", "artifacts", "names"):
        for section, rows in by_section(kind).items():
            yield heading(section)
            yield from table(
                ("name", "what it is"), ((n.shown, marked_up(n.meaning)) for n in rows)
            )
    words = [name for name in names() if name.section.startswith(WORDS)]
    for owner in dict.fromkeys(name.owner for name in words):
        yield f"## {owner}\n\n{marked_up(summary(owner))}"
        rows = [name for name in words if name.owner == owner]
        yield from table(("word", "meaning"), ((n.shown, marked_up(n.meaning)) for n in rows))


def heading(section: str) -> str:
    """A heading of the schema as one of a page, and what it says behind a colon as a sentence."""
    title, _, sentence = map(str.strip, section.partition(":"))
    return f"## {capitalised(title)}\n" + (f"\n{capitalised(sentence)}.\n" if sentence else "")


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def summary(owner: str) -> str:
    """The first paragraph of the docstring of a class of words."""
    return str(getattr(schema, owner).__doc__).partition("\n\n")[0]


def by_section(kind: str) -> dict[str, list[Name]]:
    """The names below the headings that begin so."""
    sections: dict[str, list[Name]] = {}
    for name in names():
        if name.section.startswith(kind):
            sections.setdefault(name.section, []).append(name)
    return sections
