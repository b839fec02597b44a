"""The reference in docs/ says everything, each from the code that owns it."""

from __future__ import annotations

import doctest
import re

import pytest

import analysis.__main__
import docgen.markdown
import lander.__main__
import sweeps.__main__
from docgen import reference
from docgen.commands import make_page, written
from docgen.names import HEALTHY, names
from lander.arguments import Parser
from lander.dotted import documented, fields_of
from lander.metrics import CURVES, FINALS
from lander.options import CHOICES, CONDITIONS
from sweeps import schema
from sweeps.cli import Command
from sweeps.endings import SETTLED, SUPERSEDING
from sweeps.schema import SUPERSEDED, TRIALS, Chart, Ending, Reason, Role, TimePart, Verdict
from sweeps.study.limits import KEY_TABLES
from sweeps.study.ranges import KEYS
from sweeps.study.samplers import ARGUMENTS
from sweeps.study.settings import Settings
from tests.processes import ROOT

PAGES = reference.pages(ROOT)
CONSTANTS = [value for name, value in vars(schema).items() if name.isupper()]
NOT_OFFERED = {"PYTHONDONTWRITEBYTECODE", "SEEDS"}
"""Python's own, and one that was replaced."""
WORDS = [*Role, *Ending, *Reason, *Verdict, *TimePart]


def section(page: str, heading: str) -> str:
    """What a page says below a heading, up to the next one."""
    return PAGES[page].partition(f"\n{heading}")[2].partition("\n## ")[0].partition("\n### ")[0]


def first_cells(page: str) -> list[str]:
    """The code in the first cells of all tables of a page, without the * behind a prefix."""
    return [cell.removesuffix("*") for cell in re.findall(r"^\| `([^`]+)` \|", PAGES[page], re.M)]


def test_every_recorded_name_and_word_has_a_docstring_of_its_own() -> None:
    listed = names()
    assert [name.text for name in listed if not name.owner] == CONSTANTS
    assert [name.text for name in listed if name.owner not in ("", Chart.__name__)] == WORDS
    assert [name.text for name in listed if not name.meaning] == []


def test_every_recorded_name_is_a_row_of_one_page() -> None:
    charts = [f"{chart}.png" for chart in Chart]
    rows = [*first_cells("metrics"), *first_cells("records")]
    assert sorted(rows) == sorted([*CURVES, *FINALS, *CONSTANTS, *charts, *WORDS])


def test_every_metric_says_how_a_healthy_one_looks() -> None:
    own = [name.meaning for name in names() if name.section.startswith("metrics")]
    texts = [" ".join(text.split()) for text in (*own, *CURVES.values(), *FINALS.values())]
    assert [text for text in texts if text.count(HEALTHY) != 1] == []
    assert "| `final/success_rate` | Share of the deterministic episodes" in PAGES["metrics"]
    assert re.search(r"\| `final/success_rate` \|[^|]*\| Towards 1\. \|", PAGES["metrics"])


def test_a_tag_names_the_endings_that_it_may_have() -> None:
    meanings = {name.text: name.meaning for name in names()}
    for tag, endings in {TRIALS: (*SETTLED, *SUPERSEDING), SUPERSEDED: SUPERSEDING}.items():
        assert set(re.findall(r"`(\w+)`", meanings[tag])) == {*endings}


@pytest.mark.parametrize("page", ["env", "policy", "ppo", "run"])
def test_every_field_has_a_row_and_a_section(page: str) -> None:
    fields = [name for name in documented() if (name.rpartition(".")[0] or "run") == page]
    assert re.findall(r"^\| \[`([^`]+)`\]", PAGES[page], re.M) == fields
    assert re.findall(r"^## `([^`]+)` \{ #\1 \}$", PAGES[page], re.M) == fields


def test_a_field_says_its_values_default_meaning_condition_and_paper() -> None:
    assert re.split(r"\n{2,}", section("ppo", "## `ppo.clip_range`").strip())[1:] == [
        "*number above 0*, default `0.2`",
        "epsilon of the clipped surrogate, eq. 7.",
        "It acts only with [`ppo.surrogate`](ppo.md#ppo.surrogate) = clip.",
        '`--ppo.clip_range 0.2` on the command line, `"ppo.clip_range" = 0.2` in TOML',
    ]
    assert "[arXiv:1506.02438](https://arxiv.org/abs/1506.02438)): 0 is" in PAGES["ppo"]


def test_every_word_and_condition_of_a_field_is_in_its_section() -> None:
    for field, choices in CHOICES.items():
        text = section(field.partition(".")[0], f"## `{field}`")
        assert re.findall(r"^- `(\w+)`: \w", text, re.M) == list(choices)
    assert sum(text.count("\nIt acts only with ") for text in PAGES.values()) == len(CONDITIONS)


def test_every_key_of_a_study_file_is_explained() -> None:
    keys = [key for kind in (Settings, *KEY_TABLES.values()) for key in fields_of(kind)]
    assert re.findall(r"^### `(\w+)` ", PAGES["study"], re.M) == keys
    assert set(KEYS) <= set(re.findall(r"\w+", section("study", "## [space]")))
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGES["study"], re.M)
    assert rows == [(word, name) for word, table in ARGUMENTS.items() for name in table]


def test_what_a_new_study_may_not_say_is_not_offered() -> None:
    assert "*tpe, gp, random, qmc, or grid*" in PAGES["study"]
    assert "cmaes" not in PAGES["study"]
    assert "*whole number from 1 up to 1,000,000*, default `40`" in PAGES["study"]
    assert "*number above 0, below 1, or none*, default `none`" in PAGES["study"]


def helped(parser: Parser) -> set[str]:
    """The options that the help of a parser shows."""
    return set(re.findall(r"^ +(?:-\w, )?(--[\w.-]+)", parser.format_help(), re.M)) - {"--help"}


def offered(heading: str) -> set[str]:
    """The options in the table of a command."""
    return set(re.findall(r"^\| `(--[\w.-]+)", section("commands", f"### {heading}\n"), re.M))


def test_every_option_of_every_command_is_in_its_table() -> None:
    added: dict[str, Command] = sweeps.__main__.commands_for([])
    own = analysis.__main__.COMMANDS.keys() - analysis.__main__.IN_SWEEPS.keys()
    commands = {f"sweeps {name}": command for name, command in added.items()}
    commands |= {f"python -m analysis {name}": analysis.__main__.COMMANDS[name] for name in own}
    for heading, command in commands.items():
        parser = Parser()
        command.add_arguments(parser)
        assert offered(heading) == helped(parser), heading
    for name in lander.__main__.COMMANDS:
        assert offered(f"lander {name}") == helped(lander.__main__.command_parser(name))


def test_a_training_has_its_own_options_and_leads_to_the_fields() -> None:
    text = section("commands", "## lander\n")
    assert re.findall(r"`--(\S+)", text) == ["config", "out"]
    assert "[ppo](ppo.md)" in text


def test_an_argument_is_written_as_it_is_typed() -> None:
    parser = Parser()
    parser.add_argument("--launcher", choices=("local", "ray"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("run", metavar="DIR")
    parser.add_argument("seed")
    assert list(map(written, parser._actions)) == [
        "--help",
        "--launcher local|ray",
        "--json",
        "DIR",
        "seed",
    ]


def test_every_target_and_variable_of_the_makefile_is_listed() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"[\w-]+", makefile.partition(".PHONY:")[2].partition("\n\n")[0])
    targets = [name.removeprefix("make ") for name in first_cells("make") if " " in name]
    assert sorted(targets) == sorted(phony)
    variables = [name for name in first_cells("make") if name.isupper()]
    asked = re.findall(r"\$\(if \$\(([A-Z_]+)\)|'\$\(([A-Z_]+)\)'", makefile)
    assert {each for pair in asked for each in pair if each} <= {*variables, *NOT_OFFERED}
    assert set(re.findall(r"`([A-Z_]+)=", PAGES["make"])) <= set(variables)


def test_a_target_and_a_variable_of_a_toy_makefile() -> None:
    text = "\n".join(make_page("## where\nSTORE = mlruns\nfly: $(S) ## fly it: STORE= N=1|2\n"))
    assert "| `make fly` | fly it | `STORE=` `N=1|2` |" in text
    assert "| `STORE` | where | `mlruns` |" in text


def test_examples_of_the_texts_print_what_they_say() -> None:
    assert doctest.testmod(docgen.markdown) == (0, 2)
