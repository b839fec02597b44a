"""README and the pages of docs keep up with the code, and show what was measured."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

import analysis.__main__
import examples.homework
import lander.__main__
import sweeps.__main__
import tests.bench.__main__
from analysis.experiments.documents import MARKED, documents, write_tables
from lander.errors import ConfigError
from sweeps.cli import parse_command
from sweeps.study.study import find_study, read_study, shipped_studies

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
EVERYTHING = "\n".join(TEXTS.values())


def test_every_searched_field_of_the_default_study_is_explained() -> None:
    section = TEXTS["docs/algorithm.md"].partition("## The six parameters")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `((?:env|ppo)\.\w+)` \|", section, re.M)
    assert rows == list(find_study("lander").space)


def test_readme_and_contributing_stay_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 180
    assert len(TEXTS["CONTRIBUTING.md"].splitlines()) <= 80


def test_the_default_study_has_as_many_trials_as_its_command_says() -> None:
    said = re.findall(r"make sweep  .*# (\d+) trials of the default study", EVERYTHING)
    assert said == [str(find_study("lander").settings.trials)] * 3


@pytest.mark.parametrize(
    ("page", "names"), [("README.md", ["mine"]), ("docs/studies.md", ["mine", "trunks"])]
)
def test_the_study_files_shown_are_valid(page: str, names: Sequence[str]) -> None:
    texts = re.findall(r"```toml\n(.*?)```", TEXTS[page], re.S)
    assert [read_study(text, source=page).name for text in texts] == names


def test_every_shipped_study_is_named() -> None:
    assert all(re.search(rf"\b{name}\b", EVERYTHING) for name in shipped_studies())


def test_python_that_is_shown_compiles_and_an_environment_runs() -> None:
    sources = re.findall(r"```python\n(.*?)```", EVERYTHING, re.S)
    for source in sources:
        compile(source, "page", "exec")
    (mine,) = [source for source in sources if source.startswith("# mine.py")]
    exec(mine, {})
    env = gym.make("Mine-v0", stride=0.2)
    env.reset(seed=1)
    steps = [env.step(1) for _ in range(8)]  # from at most 0.5 to the left
    assert [reward for _, reward, *_ in steps] == [1.0] * 8
    assert steps[-1][2]


def test_every_picture_is_in_the_repository_small_and_shown() -> None:
    shown = {
        (ROOT / page).parent.joinpath(path).resolve()
        for page, text in TEXTS.items()
        for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    }
    assert all(path.stat().st_size < 1.5e6 for path in shown)
    kept = {path for path in (ROOT / "analysis" / "figures").iterdir() if path.suffix != ".md"}
    assert kept <= shown


def test_every_promise_names_a_test_that_exists() -> None:
    existing = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(test_\w+)`", TEXTS["docs/reliability.md"]))
    assert len(named) > 70
    assert named <= existing


def test_every_file_that_is_named_exists() -> None:
    pattern = r"(?<![\w/.-])(?:lander|sweeps|analysis|tests|docs)(?:/[\w.-]+)+"
    paths = re.findall(pattern, EVERYTHING)
    missing = {path for path in paths if not (ROOT / path.rstrip(".-")).exists()}
    results = "analysis/experiments/results"
    assert len(paths) > 30
    assert missing == {f"{results}/tune-", f"{results}/mine.jsonl"}  # of several; of an example


def test_every_module_that_is_named_exists() -> None:
    names = re.findall(
        r"(?:python -m|^from) ((?:lander|sweeps|analysis|examples|tests)[\w.]*)", EVERYTHING, re.M
    )
    assert {"sweeps", "analysis.load", "tests.bench"} <= set(names)
    assert [name for name in names if find_spec(name) is None] == []


def parse_analysis(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of `python -m analysis`."""
    return parse_command(argv, analysis.__main__.COMMANDS, prog="analysis", description=None)


PARSERS: dict[str, Callable[[Sequence[str]], object]] = {
    "sweeps": sweeps.__main__.parse,
    "lander": lander.__main__.parse,
    "analysis": parse_analysis,
    "tests.bench": tests.bench.__main__.parse,
    "examples.homework": examples.homework.parse,
}
PROGRAM = re.compile(r"(?:python -m |\.venv/bin/python -m |\.venv/bin/)?([\w.]+) +(\S.*)")


def commands() -> Iterator[tuple[str, str]]:
    """Every command that a page quotes, and the page: lines of code, and code within a sentence."""
    for page, text in TEXTS.items():
        for code in re.findall(r"^    (\S.*)|(?<!`)`([^`\n]+)`", text, re.M):
            line = "".join(code).partition("  #")[0].strip()
            if re.match(r"(\.venv/bin/|python -m |make |sweeps |lander |analysis )", line):
                yield page, line


def refused(program: str, words: Sequence[str]) -> str:
    """Why a program does not take these words; "" if it does, or only asks for more of them."""
    try:
        PARSERS[program](words)
    except SystemExit as error:
        return "" if error.code == 0 else str(error.code)  # 0: --help
    except ConfigError as error:
        return "" if "required" in str(error) else str(error)
    return ""


def test_every_command_that_is_quoted_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.toml").write_text("")
    (tmp_path / "analysis").symlink_to(ROOT / "analysis")
    monkeypatch.chdir(tmp_path)
    matches = [(page, PROGRAM.fullmatch(line.partition(" > ")[0])) for page, line in commands()]
    known = [(page, match) for page, match in matches if match and match[1] in PARSERS]
    assert len(known) > 30
    errors = {(page, match[0]): refused(match[1], shlex.split(match[2])) for page, match in known}
    assert {command: error for command, error in errors.items() if error} == {}


def test_every_make_command_has_a_target_and_its_variables() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    variables = set(re.findall(r"\$\((?:if \$\()?([A-Z_]+)\b", makefile))
    lines = {line for _, line in commands() if line.startswith("make ")}
    words = {word for line in lines for word in shlex.split(line)[1:]}
    assert len(lines) > 30
    assert {word for word in words if "=" not in word} <= targets
    assert {word.partition("=")[0] for word in words if "=" in word} <= variables


def test_every_block_of_numbers_is_on_a_page() -> None:
    marks = [(kind, name) for _, kind, name in MARKED.findall(EVERYTHING)]
    groups = "landscape peers sampler start-up pruner score again combined recommend race"
    assert sorted(marks) == sorted(
        [
            *(
                ("experiment", name)
                for name in ["ancestors", "epochs", "heads", "tuned", "winners"]
            ),
            *(("bakeoff", group) for group in groups.split()),
            *((kind, "") for kind in ("bench", "elsewhere", "speed", "confirm", "verdict", "luck")),
        ]
    )
    assert len(re.findall("^<!-- end -->$", EVERYTHING, re.M)) == len(marks)


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- end -->" in TEXTS[page]])
def test_a_page_shows_what_was_measured(page: str, tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text(TEXTS[page])
    write_tables(copy)
    assert copy.read_text() == TEXTS[page]


def test_tables_are_written_into_all_pages_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert {str(path) for path in documents()} == {*PAGES} - {"CONTRIBUTING.md"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="run it in a checkout"):
        documents()


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format asks
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"][0]["name"] in (ROOT / "LICENSE").read_text()
