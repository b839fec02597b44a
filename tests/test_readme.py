"""README keeps up with the code."""

from __future__ import annotations

import re
from pathlib import Path

from lander.metrics import CURVES, FINALS
from sweeps.study.study import find_study, read_study, shipped_studies

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_recorded_metric_is_a_row_of_the_table_and_no_other_is() -> None:
    rows = re.findall(r"^\| `((?:train|eval|loss|policy|value|time|final)/\w+)` \|", README, re.M)
    assert rows == [*CURVES, *FINALS]


def test_every_searched_field_of_the_default_study_is_explained() -> None:
    section = README.partition("### The six parameters")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `((?:env|ppo)\.\w+)` \|", section, re.M)
    assert rows == list(find_study("lander").space)


def test_the_study_file_shown_is_valid() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.S)
    assert read_study(text, source="README").name == "mine"


def test_every_shipped_study_is_named() -> None:
    assert all(re.search(rf"\b{name}\b", README) for name in shipped_studies())


def test_every_picture_is_in_the_repository_and_small() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size < 1.5e6


def test_every_promise_names_a_test_that_exists() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(test_\w+)`", README))
    assert len(named) > 20
    assert named <= there
