"""Pages of the commands, from their parsers, and of the targets and variables of the Makefile."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator, Mapping

import analysis.__main__
import lander.__main__
import sweeps.__main__
from docgen.markdown import marked_up, table
from lander.arguments import Parser
from sweeps.cli import Command

TARGET = re.compile(r"^([a-z-]+):.*## (.+)$", re.M)
VARIABLE = re.compile(r"^## (.+)\n([A-Z_]+) *:?= *(.*)$", re.M)


def commands_page() -> Iterator[str]:
    """Every command with its arguments."""
    yield "# Commands\n"
    yield "`.venv/bin/sweeps` and `.venv/bin/lander` are on the `PATH` once `.venv` is activated."
    yield "An option may be written with `_` or `-`, and defaults stand in brackets.\n"
    yield from commands("sweeps", sweeps.__main__.commands_for([]))
    yield "## lander\n"
    yield "Trains once, without any tracker, and writes the run to a folder. Every field of the"
    yield "config is an option as well: [env](env.md), [policy](policy.md), [ppo](ppo.md),"
    yield "[run](run.md). `lander --help FIELD` explains one."
    yield from arguments(lander.__main__.training_parser(), without=lander.__main__.FIELD)
    for name, meaning in lander.__main__.COMMANDS.items():
        yield f"### lander {name}\n\n{meaning}"
        yield from arguments(lander.__main__.command_parser(name))
    shared = analysis.__main__.IN_SWEEPS
    own = {name: each for name, each in analysis.__main__.COMMANDS.items() if name not in shared}
    yield from commands("python -m analysis", own)
    yield f"It has {', '.join(shared)} as well, as `sweeps` does."


def commands(program: str, table_of_commands: Mapping[str, Command]) -> Iterator[str]:
    """A section per subcommand of a program."""
    yield f"## {program}\n"
    for name, command in table_of_commands.items():
        parser = Parser(prog=f"{program} {name}")
        command.add_arguments(parser)
        yield f"### {program} {name}\n\n{command.help}"
        yield from arguments(parser)


def arguments(parser: ArgumentParser, *, without: str = "help") -> list[str]:
    """The arguments of a command that its help shows, but for `--help` itself and those of a
    group."""
    rows = [
        (f"`{written(action)}`", marked_up(str(action.help).replace("%%", "%")))
        for action in parser._actions
        if action.help != SUPPRESS and not action.dest.startswith((without, "help"))
    ]
    return table(("argument", "meaning"), rows) if rows else [""]


def written(action: Action) -> str:
    """An argument as it is typed."""
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    value = choices or str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return choices or str(action.metavar or action.dest)
    return action.option_strings[-1] + ("" if action.nargs == 0 else f" {value}")


def make_page(makefile: str) -> Iterator[str]:
    """Every target and variable."""
    yield "# Make\n\n`make` lists these. Every target sets up `.venv` by itself.\n\n## Targets"
    rows = [target_row(*row) for row in TARGET.findall(makefile)]
    yield from table(("target", "what it does", "variables"), rows)
    yield "## Variables\n\nAs in `make sweep TRIALS=80`."
    defaults = (
        (name, text, "" if value.startswith("$") else value)
        for text, name, value in VARIABLE.findall(makefile)
    )
    yield from table(
        ("variable", "meaning", "default"),
        ((f"`{name}`", marked_up(text), value and f"`{value}`") for name, text, value in defaults),
    )


def target_row(name: str, text: str) -> tuple[str, str, str]:
    """A target, what it does, and the variables that it reads."""
    variables = re.findall(r"[A-Z_]+=\S*", text)
    meaning = re.sub(r":? [A-Z_]+=.*$", "", text)
    return f"`make {name}`", marked_up(meaning), " ".join(f"`{each}`" for each in variables)
