"""README keeps up with the code."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from lander.metrics import CURVES, FINALS
from sweeps import schema
from sweeps.endings import SETTLED, SUPERSEDING
from sweeps.schema import (
    BEST_ALIAS,
    BEST_EXPECTED,
    BEST_EXPECTED_ERROR,
    BEST_POLICY_CHOICE,
    BEST_POLICY_SUCCESS_RATE,
    BEST_POLICY_TEST,
    BEST_SCORE,
    CHOICE_RETURN,
    CONFIRM_SUFFIX,
    CONFIRMED_ALIAS,
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    PROMISED_RETURN,
    RANK,
    REASON,
    ROLE,
    SCORE,
    SECONDS,
    SUPERSEDED,
    TEST_RETURN,
    TRIALS,
    VERDICT,
    Chart,
    Reason,
    Role,
    TimePart,
    Verdict,
)
from sweeps.study.study import find_study, read_study, shipped_studies

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


CONSTANTS = {value for name, value in vars(schema).items() if name.isupper()}
PARTS = {CONFIRM_SUFFIX, BEST_ALIAS, CONFIRMED_ALIAS}
RECORDED = CONSTANTS - PARTS | {f"{chart}.png" for chart in Chart}
"""But for parts of a study's and a model's name."""


def table(section: str, head: str) -> dict[str, str]:
    """The rows of a table by the name in their first cell, where `version.*` stands for `version.`
    with something behind it."""
    text = (
        README.partition(f"\n### {section}\n")[2].partition(f"\n| {head} |")[2].partition("\n\n")[0]
    )
    rows = re.findall(r"^\| `([^`]+)` \|(.*)", text, re.M)
    assert len(rows) == len(dict(rows)) == text.count("\n") - 1
    return {name.removesuffix("*"): row for name, row in rows}


METRICS = table("Recorded metrics", "metric")
TAGS = table("Recorded tags and artifacts", "attribute or tag")
ARTIFACTS = table("Recorded tags and artifacts", "artifact")


def test_every_recorded_metric_is_a_row_of_the_table_and_no_other_is() -> None:
    confirmed = [name for name in vars(schema).values() if str(name).startswith("confirm/")]
    scores = [SCORE, EXPECTED_RETURN, EXPECTED_ERROR, PROMISED_RETURN, RANK]
    bests = [BEST_SCORE, BEST_EXPECTED, BEST_EXPECTED_ERROR]
    flights = [CHOICE_RETURN, TEST_RETURN]
    policies = [BEST_POLICY_CHOICE, BEST_POLICY_TEST, BEST_POLICY_SUCCESS_RATE]
    listed = [*CURVES, *FINALS, *scores, *bests, *flights, *policies, *confirmed]
    assert list(METRICS) == listed


def test_every_recorded_name_is_a_row_of_a_table_and_no_other_is() -> None:
    assert {*METRICS, *TAGS, *ARTIFACTS} - {*CURVES, *FINALS} == RECORDED


def test_every_value_of_our_own_is_named_beside_its_tag() -> None:
    values = {
        ROLE: Role,
        REASON: Reason,
        VERDICT: Verdict,
        SECONDS: TimePart,
        SUPERSEDED: SUPERSEDING,
        TRIALS: (*SETTLED, *SUPERSEDING),
    }
    for tag, words in values.items():
        assert set(re.findall(r"`\.?([^`]+)`", TAGS[tag])) == {*words}


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
