"""README keeps up with the code."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from sweeps.study.study import find_study, read_study, shipped_studies

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_searched_field_of_the_default_study_is_explained() -> None:
    section = README.partition("### The six parameters")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `((?:env|ppo)\.\w+)` \|", section, re.M)
    assert rows == list(find_study("lander").space)


def test_the_study_files_shown_are_valid() -> None:
    texts = re.findall(r"```toml\n(.*?)```", README, re.S)
    assert [read_study(text, source="README").name for text in texts] == ["mine", "trunks"]


def test_every_shipped_study_is_named() -> None:
    assert all(re.search(rf"\b{name}\b", README) for name in shipped_studies())


def test_every_picture_is_in_the_repository_and_small() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size < 1.5e6


def test_every_promise_names_a_test_that_exists() -> None:
    existing = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(test_\w+)`", README))
    assert len(named) > 20
    assert named <= existing


def test_every_file_it_names_exists() -> None:
    paths = re.findall(r"(?<![\w/.-])(?:lander|sweeps|analysis|tests)(?:/[\w.-]+)+", README)
    missing = {path for path in paths if not (ROOT / path.rstrip(".-")).exists()}
    assert len(paths) > 30
    assert missing == {"analysis/experiments/results/tune-"}  # the beginning of several


def test_every_module_it_names_exists() -> None:
    names = re.findall(
        r"(?:python -m|^from) ((?:lander|sweeps|analysis|tests)[\w.]*)", README, re.M
    )
    assert {"lander", "analysis.load", "tests.bench"} <= set(names)
    assert [name for name in names if find_spec(name) is None] == []
